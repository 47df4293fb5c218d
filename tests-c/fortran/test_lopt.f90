! lopt.f90 does what lopt.h does: the same bits for the same shapes, every error in status, resuming, moving memory. With the
! argument "stop": an error without status ends the program with a message.
module checks
    use, intrinsic :: iso_c_binding
    implicit none
    integer :: passed = 0, failed = 0
    interface
        integer(c_int) function c_add(opt, name, parameter, gradient, extents, rank, index) bind(c, name="lopt_add_tensor")
            import :: c_int, c_ptr, c_char, c_int64_t, c_int32_t
            type(c_ptr), value :: opt, parameter, gradient, index
            character(kind=c_char), intent(in) :: name(*)
            integer(c_int64_t), intent(in) :: extents(*)
            integer(c_int32_t), value :: rank
        end function
    end interface
contains
    subroutine check(holds, what)
        logical, intent(in) :: holds
        character(*), intent(in) :: what
        if (holds) passed = passed + 1
        if (.not. holds) failed = failed + 1
        if (.not. holds) print "(2a)", "not so: ", what
    end subroutine
end module

program test_lopt
    use lopt
    use checks
    use, intrinsic :: ieee_arithmetic
    implicit none
    character(8) :: argument
    integer :: status

    call get_command_argument(1, argument)
    if (argument == "stop") call stops()
    call it_finds_the_minimum()
    call the_bits_are_those_of_c()
    call transposed_is_as_good()
    call errors_arrive()
    call not_finite_changes_nothing()
    call resuming_gives_the_same_bits()
    call memory_may_move()
    call memory_is_passed()
    call a_flat_buffer()
    call double_precision()
    call sixteen_bits()
    call layers_that_have_an_optimizer_each()
    call averages()
    call momenta_in_16_bits()
    call options_arrive()
    print "(i0, a, i0, a)", passed, " passed, ", failed, " failed"
    if (failed > 0) error stop 1

contains

    subroutine stops()
        type(lopt_optimizer) :: opt
        call opt%create()
        call opt%step()
    end subroutine

    subroutine it_finds_the_minimum()
        type(lopt_optimizer) :: opt
        real(c_float), target :: w(3), dw(3)
        real(c_float), parameter :: goal(3) = [1.0, -2.0, 3.0]
        type(lopt_statistics) :: statistics
        integer :: i
        w = 0
        call opt%create()
        call opt%add("w", w, dw)
        do i = 1, 2000
            dw = w - goal
            call opt%step()
        end do
        call check(all(abs(w - goal) < 1e-3), "2000 steps reach the minimum")
        call opt%stats(0, statistics)
        call check(statistics%steps + statistics%steps_idle == 2000 .and. statistics%steps_skipped == 0, &
                   "statistics count the steps")
        call check(statistics%parameter_rms > 2 .and. statistics%parameter_rms < 2.3, "statistics are in their places")
        call opt%destroy()
        call opt%destroy()
        call check(index(lopt_version(), ".") > 0, "a version")
    end subroutine

    ! w(4, 3, 2) is what C calls [2][3][4].
    subroutine the_bits_are_those_of_c()
        type(lopt_optimizer) :: opt, c
        real(c_float), target :: w(4, 3, 2), dw(4, 3, 2), v(4, 3, 2), number, dnumber
        integer :: i, place
        w = 0.5
        v = 0.5
        number = 0
        dnumber = 1
        call opt%create(weights="star-authors-rule")
        call c%create(weights="star-authors-rule ")
        call opt%add("w", w, dw, index=place)
        call check(place == 0, "the first tensor is 0")
        call opt%add("number", number, dnumber, place)
        call check(place == 1, "the second tensor is 1")
        status = c_add(c%handle, "w"//c_null_char, c_loc(v), c_loc(dw), [2_c_int64_t, 3_c_int64_t, 4_c_int64_t], 3, c_null_ptr)
        call check(status == LOPT_OK, "a C function takes the handle")
        do i = 1, 10
            dw = w - reshape([(real(mod(7 * place, 11)), place=1, 24)], shape(w))
            call opt%step()
            call c%step()
        end do
        call check(all(w == v), "the bits are those of the C call")
        call check(number < 0, "a single number is stepped")
        call opt%destroy()
        call c%destroy()
    end subroutine

    subroutine transposed_is_as_good()
        type(lopt_optimizer) :: opt
        real(c_float), target :: w(5, 9), dw(5, 9), v(9, 5), dv(9, 5)
        real(c_float) :: goal(5, 9)
        integer :: i
        goal = reshape([(sin(real(i)), i=1, 45)], shape(goal))
        w = 0
        v = 0
        call opt%create(weights="star-authors-rule")
        call opt%add("w", w, dw)
        call opt%add("v", v, dv)
        do i = 1, 30
            dw = w - goal
            dv = v - transpose(goal)
            call opt%step()
        end do
        call check(maxval(abs(w - transpose(v))) < 1e-5 * maxval(abs(w)), "the transposed matrix takes the same steps")
        call opt%destroy()
    end subroutine

    subroutine errors_arrive()
        type(lopt_optimizer) :: opt, empty
        real(c_float), target :: w(6, 4), dw(6, 4)
        integer :: place
        w = 0
        dw = 0
        call empty%step(status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "an optimizer that was not created")
        call opt%create(threads=-1, status=status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. index(lopt_last_error(), "threads") > 0, "an option out of range")
        call opt%create(weights="moon", status=status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. index(lopt_last_error(), "star") > 0, "unknown weights")
        call opt%create(weights_file="no-such-folder/weights", status=status)
        call check(status == LOPT_ERROR_IO .and. index(lopt_last_error(), "no-such-folder") > 0, "a file that is not there")
        call opt%create(status=status)
        call check(status == LOPT_OK, "LOPT_OK is told too")
        call opt%step(status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "no tensor")
        call opt%add("w", w(1:5:2, :), dw(1:5:2, :), place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. place == -1, "a section that is not contiguous")
        call opt%add("w", w, dw(:, 1:3), place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "other shapes")
        call opt%add("w", w, dw(:, 1), place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "other ranks")
        call opt%add("w", w(:, 1:2), dw(:, 1:2), place, status)
        call check(status == LOPT_OK .and. place == 0, "a section that is contiguous")
        call opt%add("w", w(:, 3:4), dw(:, 3:4), place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. place == -1, "a name twice")
        call opt%add("v", w, dw, place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. index(lopt_last_error(), "overlap") > 0, "memory of another tensor")
        call opt%save("no-such-folder/checkpoint", status=status)
        call check(status == LOPT_ERROR_IO, "a folder that is not there")
        call opt%destroy()
    end subroutine

    subroutine not_finite_changes_nothing()
        type(lopt_optimizer) :: opt
        real(c_float), target :: w(2), dw(2)
        w = 1
        dw = [0.0, ieee_value(0.0, ieee_quiet_nan)]
        call opt%create()
        call opt%add("w", w, dw)
        call opt%step(status)
        call check(status == LOPT_SKIPPED_NONFINITE .and. all(w == 1), "a step that was not taken")
        call opt%step()
        call opt%create(nonfinite=LOPT_NONFINITE_ERROR)
        call opt%add("w", w, dw)
        call opt%step(status)
        call check(status == LOPT_ERROR_NONFINITE .and. all(w == 1), "as an error")
        call opt%destroy()
    end subroutine

    subroutine resuming_gives_the_same_bits()
        type(lopt_optimizer) :: opt, other
        real(c_float), target :: w(3, 4), dw(3, 4), v(3, 4), dv(3, 4)
        integer :: i
        w = 0
        v = 7
        call opt%create(weight_decay=0.01_c_double)
        call opt%add("w", w, dw)
        do i = 1, 20
            if (i == 11) call opt%save("checkpoint.safetensors", with_parameters=.true.)
            dw = w - 2
            call opt%step()
        end do
        call other%create()
        call other%add("w", v, dv)
        call other%restore("checkpoint.safetensors", with_parameters=.true.)
        do i = 11, 20
            dv = v - 2
            call other%step()
        end do
        call check(all(v == w), "a resumed run has the same bits")
        call opt%destroy()
        call other%destroy()
    end subroutine

    subroutine memory_may_move()
        type(lopt_optimizer) :: opt
        real(c_float), allocatable, target :: w(:), dw(:), v(:), dv(:)
        allocate (w(6), dw(6), v(6), dv(6))
        w = 0
        dw = 1
        call opt%create()
        call opt%add("w", w, dw)
        call opt%step()
        v = w
        dv = dw
        call opt%bind(0, v, dv)
        deallocate (w, dw)
        call opt%step_tensor(0)
        call check(all(v < 0), "the new memory is stepped")
        call opt%bind(3, v, dv, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "a number that no tensor has")
        call opt%destroy()
    end subroutine

    subroutine memory_is_passed()
        type(lopt_optimizer) :: opt, other
        real(c_float), target :: w(3, 2), dw(3, 2), v(3, 2), moved(3, 2)
        integer :: i
        w = 0.5
        v = 0.5
        call opt%create()
        call opt%add("w", moved, dw)
        call other%create()
        call other%add("w", v, dw)
        do i = 1, 4
            dw = real(i) - w
            moved = -7
            call opt%step_with([c_loc(w)], [c_loc(dw)])
            call other%step()
        end do
        call check(all(w == v) .and. all(w /= 0.5) .and. all(moved == -7), "the memory that was passed is stepped")
        call opt%step_with([c_loc(w), c_loc(v)], [c_loc(dw)], status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "more parameters than gradients")
        call opt%step_with([c_null_ptr], [c_loc(dw)], status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. index(lopt_last_error(), "NULL") > 0, "no parameter")
        call opt%destroy()
        call other%destroy()
    end subroutine

    subroutine a_flat_buffer()
        type(lopt_optimizer) :: opt, other
        real(c_float), target :: w(11), dw(11), v(3, 2), dv(3, 2), b(4), db(4)
        type(lopt_information) :: information
        w = 0.5
        v = 0.5
        b = 0.5
        dw = [(real(status), status=1, 11)]
        dv = reshape(dw(2:7), shape(dv))
        db = dw(8:11)
        call opt%create(weights="star-authors-rule")
        call other%create(weights="star-authors-rule")
        call opt%add_flat(w, dw, [lopt_flat_entry("v", 1_c_int64_t, [3_c_int64_t, 2_c_int64_t]), &
            lopt_flat_entry("b", 7_c_int64_t, [4_c_int64_t])])
        call other%add("v", v, dv)
        call other%add("b", b, db)
        call opt%step()
        call other%step()
        call check(w(1) == 0.5 .and. all(w(2:7) == reshape(v, [6])) .and. all(w(8:11) == b), "the tensors of a buffer are tensors")
        call opt%add_flat(w, dw, [lopt_flat_entry("c", 8_c_int64_t, [4_c_int64_t])], status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "a tensor that ends beyond the buffer")
        call opt%add_flat(w, dw, [lopt_flat_entry("c", 0_c_int64_t, [1_c_int64_t]), &
            lopt_flat_entry("d", 1_c_int64_t, [1_c_int64_t])], status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. index(lopt_last_error(), "table[1]") > 0, "memory of another tensor")
        call opt%info(information)
        call check(information%tensors == 2 .and. information%parameters == 10, "all or none")
        call opt%destroy()
        call other%destroy()
    end subroutine

    subroutine double_precision()
        type(lopt_optimizer) :: opt, other
        real(c_float), target :: w(3, 2), dw(3, 2)
        real(c_double), target :: v(3, 2), dv(3, 2)
        integer :: i, place
        w = 0.5
        v = 0.5
        call opt%create(weights="star-authors-rule")
        call opt%add("w", w, dw)
        call other%create(weights="star-authors-rule")
        call other%add("w", v, dv, place)
        do i = 1, 4
            dw = reshape([1, 2, 3, 4, 5, 6], shape(dw)) - i
            dv = real(dw, c_double)
            call opt%step()
            call other%step()
        end do
        call check(place == 0 .and. all(v == real(w, c_double)) .and. all(w /= 0.5), "a code in double precision")
        call other%add("v", v(1:3:2, :), dv(1:3:2, :), place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. place == -1, "a section that is not contiguous")
        call opt%destroy()
        call other%destroy()
    end subroutine

    ! The upper half of a single.
    elemental integer(c_int16_t) function bf16(x)
        real(c_float), intent(in) :: x
        integer(c_int32_t) :: bits
        bits = shiftr(transfer(x, bits), 16)
        bf16 = int(merge(bits - 65536, bits, bits >= 32768), c_int16_t)
    end function

    ! 0.5 and whole numbers of up to 6 have no more digits than bf16, so both see the same.
    subroutine sixteen_bits()
        type(lopt_optimizer) :: opt, halves, mixed, masters, flat, wide
        real(c_float), target :: w(3, 2), dw(3, 2), v(3, 2), u(3, 2)
        integer(c_int16_t), target :: h(3, 2), dh(3, 2), m(3, 2), buffer(9), gradients(9)
        real(c_double), target :: d(9), dd(9)
        integer :: i, place
        type(lopt_flat_entry) :: table(1)
        w = 0.5
        v = 0.5
        h = bf16(w)
        m = h
        buffer = bf16(0.25)
        buffer(3:8) = reshape(h, [6])
        gradients = 0
        d = 0.25_c_double
        d(3:8) = 0.5_c_double
        dd = 0
        table(1) = lopt_flat_entry("w", 2_c_int64_t, [3_c_int64_t, 2_c_int64_t])
        call opt%create()
        call opt%add("w", w, dw)
        call halves%create()
        call halves%add("w", h, dh, LOPT_BF16, place)
        call check(place == 0, "a tensor in 16 bits has a number")
        call mixed%create()
        call mixed%add("w", m, dw, LOPT_BF16)
        call masters%create()
        call masters%add("w", v, dh, LOPT_BF16)
        call flat%create()
        call flat%add_flat(buffer, gradients, table, LOPT_BF16)
        call wide%create()
        call wide%add_flat(d, dd, table)
        do i = 1, 4
            dw = reshape([1, 2, 3, 4, 5, 6], shape(dw)) - i
            dh = bf16(dw)
            gradients(3:8) = reshape(dh, [6])
            dd(3:8) = reshape(real(dw, c_double), [6])
            call opt%step()
            call halves%step()
            call mixed%step()
            call masters%step()
            call flat%step()
            call wide%step()
        end do
        ! Rounded or cut: the upper half or one more.
        call check(all(h - bf16(w) >= 0 .and. h - bf16(w) <= 1) .and. all(h /= bf16(0.5)), "a code in bf16")
        call check(all(m == h), "parameters in bf16, gradients in f32")
        call check(all(v == w), "parameters in f32, gradients in bf16")
        call check(all(buffer(3:8) == reshape(h, [6])) .and. all(buffer([1, 2, 9]) == bf16(0.25)), "a flat buffer in bf16")
        call check(all(d(3:8) == reshape(real(w, c_double), [6])) .and. all(d([1, 2, 9]) == 0.25), &
            "a flat buffer in double precision")
        call halves%destroy()
        call halves%create()
        ! 1 in f16, whose gradient is 1, 3 or infinite.
        h = int(z"3c00", c_int16_t)
        dh = int(z"3c00", c_int16_t)
        dh(2, 1) = int(z"4200", c_int16_t)
        u = 1
        dw = 1
        dw(2, 1) = 3
        call halves%add("h", h, dh, LOPT_F16)
        call mixed%destroy()
        call mixed%create()
        call mixed%add("h", u, dw)
        call halves%step()
        call mixed%step()
        ! Below 1 the numbers of f16 are 2**(-11) apart, counted downwards from 1.
        call check(all(h == int(z"3c00") - nint((1 - u) * 2048)) .and. all(u < 1), "a code in f16")
        dh(1, 1) = int(z"7c00", c_int16_t)
        call halves%step(status)
        call check(status == LOPT_SKIPPED_NONFINITE, "infinite in f16")
        call halves%add("f", m, dh, 1, place, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT .and. place == -1, "16 bits are no double precision")
        call halves%add_flat(m, dw, table, 0, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "nor single, in a flat buffer")
        call halves%add_flat(u, dh, table, LOPT_F16, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "a table that ends beyond the buffer")
        call opt%destroy()
        call halves%destroy()
        call mixed%destroy()
        call masters%destroy()
        call flat%destroy()
        call wide%destroy()
    end subroutine

    subroutine layers_that_have_an_optimizer_each()
        type(lopt_optimizer) :: whole, first, second
        type(lopt_gradients) :: gradients
        type(lopt_information) :: information
        real(c_float), target :: w(3, 2), dw(3, 2), b(3), db(3), v(3, 2), c(3)
        integer :: i, place
        w = 0.5
        v = 0.5
        b = 0.5
        c = 0.5
        dw = 1
        db = 2
        call whole%create()
        call whole%add("w", w, dw)
        call whole%add("b", b, db)
        call first%create()
        call first%add("w", v, dw)
        call first%add_elsewhere("b", [3], place)
        call check(place == 1, "what is elsewhere has a number")
        call second%create()
        call second%add_elsewhere("w", [3, 2])
        call second%add("b", c, db)
        call second%inspect_gradients(-1, gradients)
        call check(gradients%norm_squared == 12 .and. gradients%nonfinite == 0, "a look at the gradients")
        do i = 1, 4
            call whole%step()
            call first%step()
            call second%step()
        end do
        call check(all(v == w) .and. all(c == b), "the bits are those of one optimizer")
        call second%save("shard.safetensors")
        call whole%restore("shard.safetensors", status=status)
        call check(status == LOPT_ERROR_MISMATCH, "a shard is no checkpoint of all")
        call whole%restore("shard.safetensors", shard=.true.)
        call whole%info(information)
        call check(information%tensors_restored == 1 .and. information%tensors_elsewhere == 0, "a shard that is known to be one")
        call whole%destroy()
        call first%destroy()
        call second%destroy()
    end subroutine

    subroutine averages()
        type(lopt_optimizer) :: opt
        real(c_float), target :: w(3, 2), dw(3, 2), first(3, 2), second(3, 2), mean(3, 2), few(3)
        integer :: status
        w = 1
        dw = 1
        call opt%create(average=LOPT_AVERAGE_EMA, average_span=100.0_c_double)
        call opt%add("w", w, dw)
        call opt%step()
        first = w
        call opt%step()
        second = w
        call opt%average_get(0, mean)
        call check(all(abs(mean - (first + second) / 2) < 1e-6) .and. all(mean /= second), "the mean of two steps")
        call opt%average_swap()
        call check(all(w == mean), "the averages are there")
        call opt%step(status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "no step of averages")
        call opt%average_swap()
        call check(all(w == second), "the parameters are back")
        call opt%average_get(0, few, status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "another number of elements")
        call opt%destroy()
    end subroutine

    subroutine momenta_in_16_bits()
        type(lopt_optimizer) :: opt
        type(lopt_information) :: information
        real(c_float), target :: w(3, 2), dw(3, 2)
        integer :: status
        w = 1
        dw = 1
        call opt%create(momentum_type=LOPT_BF16)
        call opt%add("w", w, dw)
        call opt%step()
        call opt%info(information)
        call check(information%state_bytes == 8 * 6 .and. all(w < 1), "8 bytes a parameter")
        call opt%create(weights="star", momentum_type=LOPT_BF16, status=status)
        call check(status == LOPT_ERROR_INVALID_ARGUMENT, "momenta of another kind in 16 bits")
        call opt%destroy()
    end subroutine

    subroutine options_arrive()
        real(c_float) :: one, size
        one = moved(1.0_c_double, 0.0_c_double, .false., size)
        call check(abs(moved(0.5_c_double, 0.0_c_double, .false.) - one / 2) < one / 1000, "lr_scale")
        call check(abs(moved(1.0_c_double, 0.25_c_double, .false.) - one - 0.25 * size) < one / 1000, "weight_decay")
        call check(moved(1.0_c_double, 0.25_c_double, .true.) == 0, "frozen")
        call check(abs(moved(1.0_c_double, 0.0_c_double, .false., gradient_scale=-1.0_c_double) + one) < one / 1000, &
            "gradient_scale")
    end subroutine

    real(c_float) function moved(lr_scale, weight_decay, frozen, size, gradient_scale)
        real(c_double), intent(in) :: lr_scale, weight_decay
        logical, intent(in) :: frozen
        real(c_float), intent(out), optional :: size
        real(c_double), intent(in), optional :: gradient_scale
        type(lopt_optimizer) :: opt
        type(lopt_statistics) :: statistics
        real(c_float), target :: w(4), dw(4)
        w = 1
        dw = 1
        ! star has no decay of its own.
        call opt%create(weights="star", weight_decay=weight_decay, threads=1, gradient_scale=gradient_scale, &
            max_gradient_norm=3.0_c_double)
        call opt%add("w", w, dw)
        call opt%set_tensor_options(0, lr_scale=lr_scale, frozen=frozen)
        call opt%set_lr_scale(1.0_c_double)
        if (present(gradient_scale)) call opt%set_gradient_scale(gradient_scale)
        call opt%step()
        moved = 1 - w(1)
        call opt%stats(0, statistics)
        if (.not. frozen) call check(abs(statistics%gradient_norm - 2) < 1e-6_c_double .and. statistics%steps_clipped == 0, "norm")
        if (present(size)) size = real(statistics%step_size, c_float)
        call opt%destroy()
    end function
end program
