! A surrogate for an expensive function, as in physics codes: a network with one hidden layer learns u(x, t), the decay of two
! waves, from samples. There is no learning rate to choose. Half-way the state is saved and read back, as after a stopped job.
!
!     gfortran -O2 lopt.f90 surrogate.f90 $(pkg-config --libs lopt) && ./a.out
program surrogate
    use, intrinsic :: iso_c_binding, only: sp => c_float
    use lopt
    implicit none
    integer, parameter :: hidden = 48, samples = 256, steps = 3000
    real, parameter :: pi = acos(-1.0)
    ! The second index is that of a unit: w1(:, j) are the weights of hidden unit j.
    real(sp), target :: w1(2, hidden), b1(hidden), w2(hidden), b2
    real(sp), target :: dw1(2, hidden), db1(hidden), dw2(hidden), db2
    real(sp) :: loss
    type(lopt_optimizer) :: opt
    integer :: step

    call random_init(repeatable=.true., image_distinct=.false.)
    call random_number(w1)
    call random_number(b1)
    call random_number(w2)
    w1 = 4 * w1 - 2
    b1 = 4 * b1 - 2
    w2 = 0.2 * (w2 - 0.5)
    b2 = 0

    call start()
    do step = 0, steps
        call gradient(loss)
        if (mod(step, 500) == 0) print "(a, i5, a, f10.6)", "step", step, "   loss", loss
        call opt%step()
        if (step == steps / 2) then
            call opt%save("surrogate.safetensors", with_parameters=.true.)
            call opt%destroy()
            call start()
            call opt%restore("surrogate.safetensors", with_parameters=.true.)
        end if
    end do
    call opt%destroy()

contains

    subroutine start()
        call opt%create()
        call opt%add("hidden.weight", w1, dw1)
        call opt%add("hidden.bias", b1, db1)
        call opt%add("output.weight", w2, dw2)
        call opt%add("output.bias", b2, db2)
    end subroutine

    elemental real(sp) function solution(x, t)
        real(sp), intent(in) :: x, t
        solution = exp(-t) * sin(pi * x) + 0.5 * exp(-4 * t) * sin(2 * pi * x)
    end function

    ! Of the mean squared error over new samples.
    subroutine gradient(loss)
        real(sp), intent(out) :: loss
        real(sp) :: xt(2, samples), h(hidden), error, dh(hidden)
        integer :: i
        call random_number(xt)
        loss = 0
        dw1 = 0
        db1 = 0
        dw2 = 0
        db2 = 0
        do i = 1, samples
            h = tanh(matmul(xt(:, i), w1) + b1)
            error = dot_product(w2, h) + b2 - solution(xt(1, i), xt(2, i))
            loss = loss + error**2 / samples
            error = 2 * error / samples
            dh = error * w2 * (1 - h**2)
            dw2 = dw2 + error * h
            db2 = db2 + error
            db1 = db1 + dh
            dw1(1, :) = dw1(1, :) + dh * xt(1, i)
            dw1(2, :) = dw1(2, :) + dh * xt(2, i)
        end do
    end subroutine
end program
