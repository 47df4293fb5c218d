! lopt.f90: lopt.h for Fortran 2018, a thin module over iso_c_binding. Compile it with your program:
!
!     gfortran lopt.f90 program.f90 $(pkg-config --libs lopt)
!
! Copyright 2026 the lopt authors. SPDX-License-Identifier: Apache-2.0
!
!     use lopt
!     type(lopt_optimizer) :: opt
!     call opt%create()
!     call opt%add("fc1.weight", w, dw)          ! real(c_float), target :: w(64, 128), dw(64, 128)
!     call opt%add("fc1.bias", b, db)
!     do i = 1, steps
!         ...                                    ! yours: writes dw and db
!         call opt%step()                        ! reads dw and db, updates w and b in place
!     end do
!     call opt%destroy()
!
! What a call means, its units and errors: lopt.h. Arrays are real(c_float), of any rank to 8, contiguous; their addresses are
! kept, so they are to have the target attribute (or be pointers) and to stay where they are: after a reallocation, bind.
! Where they are added, both may be real(c_double), and either or both of 16 bits, which Fortran has no real kind for:
! integer(c_int16_t), with the bits of bf16 or f16.
!
!     call opt%add("w", w, dw, LOPT_BF16)        ! integer(c_int16_t), target :: w(64, 128); dw the same, or real(c_float)
!
! The rule looks at rows and columns and does not mind which is which: w(64, 128), whose first index runs fastest, is what C
! calls [128][64].
!
! ERRORS. As with allocate and stat=: `status` receives a lopt_status, negative for an error, LOPT_SKIPPED_NONFINITE for a step
! that was not taken; without it an error ends the program with a message, and a step that was not taken passes. lopt_last_error()
! is what was wrong.
module lopt
    use, intrinsic :: iso_c_binding
    use, intrinsic :: iso_fortran_env, only: error_unit
    implicit none
    private

    integer(c_int), parameter, public :: LOPT_OK = 0, LOPT_SKIPPED_NONFINITE = 1, LOPT_ERROR_INVALID_ARGUMENT = -1, &
        LOPT_ERROR_NO_MEMORY = -2, LOPT_ERROR_IO = -3, LOPT_ERROR_WEIGHTS = -4, LOPT_ERROR_CHECKPOINT = -5, &
        LOPT_ERROR_MISMATCH = -6, LOPT_ERROR_NONFINITE = -7
    integer(c_int32_t), parameter, public :: LOPT_NONFINITE_SKIP_STEP = 0, LOPT_NONFINITE_SKIP_TENSOR = 1, LOPT_NONFINITE_ERROR = 2
    integer(c_int32_t), parameter, public :: LOPT_DECAY_ALL = 0, LOPT_DECAY_MATRICES = 1, LOPT_AVERAGE_NONE = 0, &
        LOPT_AVERAGE_GROWING = 1, LOPT_AVERAGE_EMA = 2
    ! Of lopt_element.
    integer(c_int), parameter, public :: LOPT_BF16 = 2, LOPT_F16 = 3
    integer(c_int), parameter :: f32 = 0, f64 = 1

    public :: lopt_last_error, lopt_version

    ! A tensor of a flat buffer. offset: of its first element, 0 for the first of the buffer; shape: as Fortran has it.
    type, public :: lopt_flat_entry
        character(:), allocatable :: name
        integer(c_int64_t) :: offset
        integer(c_int64_t), allocatable :: shape(:)
    end type

    type, bind(c) :: flat_entry_t
        type(c_ptr) :: name
        integer(c_int64_t) :: offset
        integer(c_int32_t) :: rank
        integer(c_int64_t) :: shape(8)
    end type

    type, bind(c) :: options_t
        integer(c_size_t) :: struct_size
        integer(c_int32_t) :: threads, max_isa, nonfinite, reserved
        real(c_double) :: lr_scale, weight_decay
        integer(c_int64_t) :: total_steps
        type(c_ptr) :: hooks(7) ! allocator, parallel_for, log
        real(c_double) :: max_update_ratio
        integer(c_int32_t) :: weight_decay_form, reserved2
        real(c_double) :: gradient_scale, max_gradient_norm
        integer(c_int32_t) :: weight_decay_tensors, average
        real(c_double) :: average_span, learned_decay_scale
        type(c_ptr) :: gather(2)
        integer(c_int32_t) :: part, parts, momentum_type, reserved3
    end type

    type, bind(c) :: tensor_options_t
        integer(c_size_t) :: struct_size
        real(c_double) :: lr_scale, weight_decay_scale
        integer(c_int32_t) :: frozen, reserved
    end type

    ! struct_size is set by opt%stats.
    type, bind(c), public :: lopt_statistics
        integer(c_size_t) :: struct_size
        integer(c_int64_t) :: steps, steps_skipped, nonfinite
        real(c_double) :: gradient_rms, update_rms, parameter_rms, blackbox_share
        integer(c_int64_t) :: updates_limited, steps_idle, nonfinite_parameters
        real(c_double) :: step_size, gradient_norm
        integer(c_int64_t) :: steps_clipped
    end type

    ! struct_size is set by opt%inspect_gradients.
    type, bind(c), public :: lopt_gradients
        integer(c_size_t) :: struct_size
        integer(c_int64_t) :: nonfinite
        real(c_double) :: norm_squared
    end type

    ! struct_size is set by opt%info.
    type, bind(c), public :: lopt_information
        integer(c_size_t) :: struct_size
        integer(c_int32_t) :: isa, threads, tensors, uses_total_steps
        integer(c_int64_t) :: parameters, state_bytes, memory_bytes
        type(c_ptr) :: kernel
        integer(c_int64_t) :: total_steps
        integer(c_int32_t) :: tensors_elsewhere, tensors_restored
    end type

    ! One thread at a time. A copy is the same optimizer: destroy one of them.
    type, public :: lopt_optimizer
        type(c_ptr) :: handle = c_null_ptr ! for other functions of lopt.h
    contains
        generic :: add => add_single, add_double, add_half, add_half_single, add_single_half
        generic :: add_flat => add_flat_single, add_flat_double, add_flat_half, add_flat_half_single, add_flat_single_half
        procedure :: add_single, add_double, add_half, add_half_single, add_single_half
        procedure :: add_flat_single, add_flat_double, add_flat_half, add_flat_half_single, add_flat_single_half
        procedure :: create, destroy, add_elsewhere, bind, step, step_with, step_tensor, inspect_gradients, &
            set_lr_scale, set_total_steps, set_gradient_scale, set_tensor_options, average_get, average_swap, save, restore, &
            stats, info
    end type

    interface
        integer(c_int) function c_create(weights, options, out) bind(c, name="lopt_create")
            import :: c_int, c_ptr, options_t
            type(c_ptr), value :: weights
            type(options_t), intent(in) :: options
            type(c_ptr), intent(out) :: out
        end function
        subroutine c_destroy(opt) bind(c, name="lopt_destroy")
            import :: c_ptr
            type(c_ptr), value :: opt
        end subroutine
        integer(c_int) function c_add_flat(opt, parameters, parameter_type, gradients, gradient_type, table, count) &
            bind(c, name="lopt_add_flat_typed")
            import :: c_int, c_ptr, c_int32_t, flat_entry_t
            type(c_ptr), value :: opt, parameters, gradients
            integer(c_int), value :: parameter_type, gradient_type
            type(flat_entry_t), intent(in) :: table(*)
            integer(c_int32_t), value :: count
        end function
        integer(c_int) function c_add_elsewhere(opt, name, extents, rank, index) bind(c, name="lopt_add_elsewhere")
            import :: c_int, c_ptr, c_char, c_int64_t, c_int32_t
            type(c_ptr), value :: opt
            character(kind=c_char), intent(in) :: name(*)
            integer(c_int64_t), intent(in) :: extents(*)
            integer(c_int32_t), value :: rank
            integer(c_int32_t), intent(out) :: index
        end function
        integer(c_int) function c_step_with(opt, count, parameters, gradients) bind(c, name="lopt_step_with")
            import :: c_int, c_ptr, c_int32_t
            type(c_ptr), value :: opt
            integer(c_int32_t), value :: count
            type(c_ptr), intent(in) :: parameters(*), gradients(*)
        end function
        integer(c_int) function c_inspect_gradients(opt, index, gradients) bind(c, name="lopt_inspect_gradients")
            import :: c_int, c_ptr, c_int32_t, lopt_gradients
            type(c_ptr), value :: opt
            integer(c_int32_t), value :: index
            type(lopt_gradients), intent(inout) :: gradients
        end function
        integer(c_int) function c_info(opt, information) bind(c, name="lopt_info")
            import :: c_int, c_ptr, lopt_information
            type(c_ptr), value :: opt
            type(lopt_information), intent(inout) :: information
        end function
        integer(c_int) function c_add_typed(opt, name, parameter, parameter_type, gradient, gradient_type, extents, rank, index) &
            bind(c, name="lopt_add_typed")
            import :: c_int, c_ptr, c_char, c_int64_t, c_int32_t
            type(c_ptr), value :: opt, parameter, gradient
            integer(c_int), value :: parameter_type, gradient_type
            character(kind=c_char), intent(in) :: name(*)
            integer(c_int64_t), intent(in) :: extents(*)
            integer(c_int32_t), value :: rank
            integer(c_int32_t), intent(out) :: index
        end function
        integer(c_int) function c_bind(opt, index, parameter, gradient) bind(c, name="lopt_bind")
            import :: c_int, c_ptr, c_int32_t
            type(c_ptr), value :: opt, parameter, gradient
            integer(c_int32_t), value :: index
        end function
        integer(c_int) function c_step(opt) bind(c, name="lopt_step")
            import :: c_int, c_ptr
            type(c_ptr), value :: opt
        end function
        integer(c_int) function c_step_tensor(opt, index) bind(c, name="lopt_step_tensor")
            import :: c_int, c_ptr, c_int32_t
            type(c_ptr), value :: opt
            integer(c_int32_t), value :: index
        end function
        integer(c_int) function c_set_lr_scale(opt, lr_scale) bind(c, name="lopt_set_lr_scale")
            import :: c_int, c_ptr, c_double
            type(c_ptr), value :: opt
            real(c_double), value :: lr_scale
        end function
        integer(c_int) function c_set_total_steps(opt, total_steps) bind(c, name="lopt_set_total_steps")
            import :: c_int, c_ptr, c_int64_t
            type(c_ptr), value :: opt
            integer(c_int64_t), value :: total_steps
        end function
        integer(c_int) function c_set_gradient_scale(opt, gradient_scale) bind(c, name="lopt_set_gradient_scale")
            import :: c_int, c_ptr, c_double
            type(c_ptr), value :: opt
            real(c_double), value :: gradient_scale
        end function
        integer(c_int) function c_options_init(options, struct_size) bind(c, name="lopt_options_init")
            import :: c_int, c_size_t, options_t
            type(options_t), intent(out) :: options
            integer(c_size_t), value :: struct_size
        end function
        integer(c_int) function c_tensor_options_init(options, struct_size) bind(c, name="lopt_tensor_options_init")
            import :: c_int, c_size_t, tensor_options_t
            type(tensor_options_t), intent(out) :: options
            integer(c_size_t), value :: struct_size
        end function
        integer(c_int) function c_set_tensor_options(opt, index, options) bind(c, name="lopt_set_tensor_options")
            import :: c_int, c_ptr, c_int32_t, tensor_options_t
            type(c_ptr), value :: opt
            integer(c_int32_t), value :: index
            type(tensor_options_t), intent(in) :: options
        end function
        integer(c_int) function c_average_get(opt, index, out, elements) bind(c, name="lopt_average_get")
            import :: c_int, c_ptr, c_int32_t, c_int64_t
            type(c_ptr), value :: opt, out
            integer(c_int32_t), value :: index
            integer(c_int64_t), value :: elements
        end function
        integer(c_int) function c_average_swap(opt) bind(c, name="lopt_average_swap")
            import :: c_int, c_ptr
            type(c_ptr), value :: opt
        end function
        integer(c_int) function c_save(opt, path, contents) bind(c, name="lopt_save")
            import :: c_int, c_ptr, c_char, c_int32_t
            type(c_ptr), value :: opt
            character(kind=c_char), intent(in) :: path(*)
            integer(c_int32_t), value :: contents
        end function
        integer(c_int) function c_restore(opt, path, contents) bind(c, name="lopt_restore")
            import :: c_int, c_ptr, c_char, c_int32_t
            type(c_ptr), value :: opt
            character(kind=c_char), intent(in) :: path(*)
            integer(c_int32_t), value :: contents
        end function
        integer(c_int) function c_stats(opt, index, statistics) bind(c, name="lopt_stats")
            import :: c_int, c_ptr, c_int32_t, lopt_statistics
            type(c_ptr), value :: opt
            integer(c_int32_t), value :: index
            type(lopt_statistics), intent(inout) :: statistics
        end function
        integer(c_int) function c_weights(what, allocator, out) bind(c, name="lopt_weights_builtin")
            import :: c_int, c_ptr, c_char
            character(kind=c_char), intent(in) :: what(*)
            type(c_ptr), value :: allocator
            type(c_ptr), intent(out) :: out
        end function
        integer(c_int) function c_weights_load(path, allocator, out) bind(c, name="lopt_weights_load")
            import :: c_int, c_ptr, c_char
            character(kind=c_char), intent(in) :: path(*)
            type(c_ptr), value :: allocator
            type(c_ptr), intent(out) :: out
        end function
        subroutine c_weights_free(weights) bind(c, name="lopt_weights_free")
            import :: c_ptr
            type(c_ptr), value :: weights
        end subroutine
        type(c_ptr) function c_last_error() bind(c, name="lopt_last_error")
            import :: c_ptr
        end function
        type(c_ptr) function c_status_string(status) bind(c, name="lopt_status_string")
            import :: c_ptr, c_int
            integer(c_int), value :: status
        end function
        type(c_ptr) function c_version_string() bind(c, name="lopt_version_string")
            import :: c_ptr
        end function
        integer(c_size_t) function c_strlen(text) bind(c, name="strlen")
            import :: c_ptr, c_size_t
            type(c_ptr), value :: text
        end function
    end interface

contains

    ! weights: the name of built-in weights; weights_file: the path of others. The rest as in lopt_options.
    subroutine create(self, weights, weights_file, threads, nonfinite, lr_scale, weight_decay, total_steps, max_update_ratio, &
                      gradient_scale, max_gradient_norm, weight_decay_tensors, average, average_span, learned_decay_scale, &
                      momentum_type, status)
        class(lopt_optimizer), intent(inout) :: self
        character(*), intent(in), optional :: weights, weights_file
        integer, intent(in), optional :: threads, nonfinite, weight_decay_tensors, average, momentum_type
        real(c_double), intent(in), optional :: lr_scale, weight_decay, max_update_ratio, gradient_scale, &
            max_gradient_norm, average_span, learned_decay_scale
        integer(c_int64_t), intent(in), optional :: total_steps
        integer, intent(out), optional :: status
        type(options_t) :: options
        type(c_ptr) :: chosen
        integer(c_int) :: found

        call self%destroy()
        chosen = c_null_ptr
        found = c_options_init(options, c_sizeof(options))
        if (present(threads)) options%threads = int(threads, c_int32_t)
        if (present(nonfinite)) options%nonfinite = int(nonfinite, c_int32_t)
        if (present(lr_scale)) options%lr_scale = lr_scale
        if (present(weight_decay)) options%weight_decay = weight_decay
        if (present(total_steps)) options%total_steps = total_steps
        if (present(max_update_ratio)) options%max_update_ratio = max_update_ratio
        if (present(gradient_scale)) options%gradient_scale = gradient_scale
        if (present(average)) options%average = int(average, c_int32_t)
        if (present(average_span)) options%average_span = average_span
        if (present(learned_decay_scale)) options%learned_decay_scale = learned_decay_scale
        if (present(momentum_type)) options%momentum_type = int(momentum_type, c_int32_t)
        if (present(weight_decay_tensors)) options%weight_decay_tensors = int(weight_decay_tensors, c_int32_t)
        if (present(max_gradient_norm)) options%max_gradient_norm = max_gradient_norm
        if (present(weights_file)) then
            found = c_weights_load(trim(weights_file)//c_null_char, c_null_ptr, chosen)
        else if (present(weights)) then
            found = c_weights(trim(weights)//c_null_char, c_null_ptr, chosen)
        end if
        if (found >= 0) found = c_create(chosen, options, self%handle)
        call c_weights_free(chosen)
        call report(found, status)
    end subroutine

    subroutine destroy(self)
        class(lopt_optimizer), intent(inout) :: self
        call c_destroy(self%handle)
        self%handle = c_null_ptr
    end subroutine

    ! index receives the number of the tensor: 0 for the first, then 1, ...
    subroutine add_single(self, name, parameter, gradient, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        real(c_float), intent(inout), target :: parameter(..)
        real(c_float), intent(in), target :: gradient(..)
        integer, intent(out), optional :: index, status
        call add_array(self, name, parameter, f32, gradient, f32, index, status)
    end subroutine

    ! Stepped in f32, see lopt_add_typed. Other memory for it: step_with.
    subroutine add_double(self, name, parameter, gradient, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        real(c_double), intent(inout), target :: parameter(..)
        real(c_double), intent(in), target :: gradient(..)
        integer, intent(out), optional :: index, status
        call add_array(self, name, parameter, f64, gradient, f64, index, status)
    end subroutine

    ! In 16 bits; element: LOPT_BF16 or LOPT_F16, of both or of what is integer(c_int16_t). Other memory as above.
    subroutine add_half(self, name, parameter, gradient, element, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        integer(c_int16_t), intent(inout), target :: parameter(..)
        integer(c_int16_t), intent(in), target :: gradient(..)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: index, status
        if (present(index)) index = -1
        if (.not. is_half(element, status)) return
        call add_array(self, name, parameter, element, gradient, element, index, status)
    end subroutine

    subroutine add_half_single(self, name, parameter, gradient, element, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        integer(c_int16_t), intent(inout), target :: parameter(..)
        real(c_float), intent(in), target :: gradient(..)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: index, status
        if (present(index)) index = -1
        if (.not. is_half(element, status)) return
        call add_array(self, name, parameter, element, gradient, f32, index, status)
    end subroutine

    subroutine add_single_half(self, name, parameter, gradient, element, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        real(c_float), intent(inout), target :: parameter(..)
        integer(c_int16_t), intent(in), target :: gradient(..)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: index, status
        if (present(index)) index = -1
        if (.not. is_half(element, status)) return
        call add_array(self, name, parameter, f32, gradient, element, index, status)
    end subroutine

    ! The types: of lopt_element.
    subroutine add_array(self, name, parameter, parameter_type, gradient, gradient_type, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        type(*), intent(in), target :: parameter(..), gradient(..)
        integer(c_int), intent(in) :: parameter_type, gradient_type
        integer, intent(out), optional :: index, status
        integer(c_int64_t) :: extents(max(1, rank(parameter)))
        integer(c_int32_t) :: number
        integer :: axis

        if (present(index)) index = -1
        if (.not. fits(parameter, gradient, status)) return
        ! The last index of Fortran is the first of C.
        do axis = 1, rank(parameter)
            extents(rank(parameter) + 1 - axis) = size(parameter, axis, c_int64_t)
        end do
        call report(c_add_typed(self%handle, trim(name)//c_null_char, c_loc(parameter), parameter_type, c_loc(gradient), &
            gradient_type, extents, int(rank(parameter), c_int32_t), number), status, index, number)
    end subroutine

    ! The tensors of a flat buffer, all of them or, on an error, none. element: as above.
    subroutine add_flat_single(self, parameters, gradients, table, status)
        class(lopt_optimizer), intent(in) :: self
        real(c_float), intent(inout), target :: parameters(..)
        real(c_float), intent(in), target :: gradients(..)
        type(lopt_flat_entry), intent(in) :: table(:)
        integer, intent(out), optional :: status
        call add_table(self, parameters, f32, gradients, f32, table, status)
    end subroutine

    subroutine add_flat_double(self, parameters, gradients, table, status)
        class(lopt_optimizer), intent(in) :: self
        real(c_double), intent(inout), target :: parameters(..)
        real(c_double), intent(in), target :: gradients(..)
        type(lopt_flat_entry), intent(in) :: table(:)
        integer, intent(out), optional :: status
        call add_table(self, parameters, f64, gradients, f64, table, status)
    end subroutine

    subroutine add_flat_half(self, parameters, gradients, table, element, status)
        class(lopt_optimizer), intent(in) :: self
        integer(c_int16_t), intent(inout), target :: parameters(..)
        integer(c_int16_t), intent(in), target :: gradients(..)
        type(lopt_flat_entry), intent(in) :: table(:)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: status
        if (.not. is_half(element, status)) return
        call add_table(self, parameters, element, gradients, element, table, status)
    end subroutine

    subroutine add_flat_half_single(self, parameters, gradients, table, element, status)
        class(lopt_optimizer), intent(in) :: self
        integer(c_int16_t), intent(inout), target :: parameters(..)
        real(c_float), intent(in), target :: gradients(..)
        type(lopt_flat_entry), intent(in) :: table(:)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: status
        if (.not. is_half(element, status)) return
        call add_table(self, parameters, element, gradients, f32, table, status)
    end subroutine

    subroutine add_flat_single_half(self, parameters, gradients, table, element, status)
        class(lopt_optimizer), intent(in) :: self
        real(c_float), intent(inout), target :: parameters(..)
        integer(c_int16_t), intent(in), target :: gradients(..)
        type(lopt_flat_entry), intent(in) :: table(:)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: status
        if (.not. is_half(element, status)) return
        call add_table(self, parameters, f32, gradients, element, table, status)
    end subroutine

    subroutine add_table(self, parameters, parameter_type, gradients, gradient_type, table, status)
        class(lopt_optimizer), intent(in) :: self
        type(*), intent(in), target :: parameters(..), gradients(..)
        integer(c_int), intent(in) :: parameter_type, gradient_type
        type(lopt_flat_entry), intent(in) :: table(:)
        integer, intent(out), optional :: status
        type(flat_entry_t) :: entries(max(1, size(table)))
        character(260, kind=c_char), target :: names(max(1, size(table)))
        integer(c_int64_t) :: left
        integer :: i, axis, axes

        if (.not. fits(parameters, gradients, status)) return
        do i = 1, size(table)
            ! One that is too long stays so.
            names(i) = table(i)%name(1:min(len(table(i)%name), 258))//c_null_char
            entries(i)%name = c_loc(names(i))
            entries(i)%offset = table(i)%offset
            axes = size(table(i)%shape)
            entries(i)%rank = int(axes, c_int32_t)
            entries(i)%shape = 1
            do axis = 1, min(axes, 8)
                entries(i)%shape(axis) = table(i)%shape(axes + 1 - axis)
            end do
            ! What C cannot know: the end of the buffer. Of offsets and extents that are no such it says what is wrong.
            left = size(parameters, kind=c_int64_t) - table(i)%offset
            do axis = 1, axes
                if (table(i)%shape(axis) > 0) left = left / table(i)%shape(axis)
            end do
            if (left >= 1 .or. any(table(i)%shape <= 0) .or. table(i)%offset < 0) cycle
            call refuse("an entry of the table ends beyond the buffer", status)
            return
        end do
        call report(c_add_flat(self%handle, c_loc(parameters), parameter_type, c_loc(gradients), gradient_type, entries, &
            int(size(table), c_int32_t)), status)
    end subroutine

    ! A tensor of the network that another optimizer steps; extents: as Fortran has them.
    subroutine add_elsewhere(self, name, extents, index, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: name
        integer, intent(in) :: extents(:)
        integer, intent(out), optional :: index, status
        integer(c_int32_t) :: number
        if (present(index)) index = -1
        call report(c_add_elsewhere(self%handle, trim(name)//c_null_char, &
            [int(extents(size(extents):1:-1), c_int64_t), 1_c_int64_t], int(size(extents), c_int32_t), number), &
            status, index, number)
    end subroutine

    subroutine bind(self, index, parameter, gradient, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(in) :: index
        real(c_float), intent(inout), target :: parameter(..)
        real(c_float), intent(in), target :: gradient(..)
        integer, intent(out), optional :: status
        if (.not. fits(parameter, gradient, status)) return
        call report(c_bind(self%handle, int(index, c_int32_t), c_loc(parameter), c_loc(gradient)), status)
    end subroutine

    subroutine step(self, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(out), optional :: status
        call report(c_step(self%handle), status)
    end subroutine

    ! The addresses (c_loc) of all tensors at this step, in their order.
    subroutine step_with(self, parameters, gradients, status)
        class(lopt_optimizer), intent(in) :: self
        type(c_ptr), intent(in) :: parameters(:), gradients(:)
        integer, intent(out), optional :: status
        if (size(parameters) /= size(gradients)) then
            call refuse("there are not as many gradients as parameters", status)
            return
        end if
        call report(c_step_with(self%handle, int(size(parameters), c_int32_t), parameters, gradients), status)
    end subroutine

    ! What the next step would see. index -1: of all tensors together.
    subroutine inspect_gradients(self, index, gradients, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(in) :: index
        type(lopt_gradients), intent(out) :: gradients
        integer, intent(out), optional :: status
        gradients%struct_size = c_sizeof(gradients)
        call report(c_inspect_gradients(self%handle, int(index, c_int32_t), gradients), status)
    end subroutine

    subroutine step_tensor(self, index, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(in) :: index
        integer, intent(out), optional :: status
        call report(c_step_tensor(self%handle, int(index, c_int32_t)), status)
    end subroutine

    subroutine set_lr_scale(self, lr_scale, status)
        class(lopt_optimizer), intent(in) :: self
        real(c_double), intent(in) :: lr_scale
        integer, intent(out), optional :: status
        call report(c_set_lr_scale(self%handle, lr_scale), status)
    end subroutine

    subroutine set_total_steps(self, total_steps, status)
        class(lopt_optimizer), intent(in) :: self
        integer(c_int64_t), intent(in) :: total_steps
        integer, intent(out), optional :: status
        call report(c_set_total_steps(self%handle, total_steps), status)
    end subroutine

    subroutine set_gradient_scale(self, gradient_scale, status)
        class(lopt_optimizer), intent(in) :: self
        real(c_double), intent(in) :: gradient_scale
        integer, intent(out), optional :: status
        call report(c_set_gradient_scale(self%handle, gradient_scale), status)
    end subroutine

    ! What is not given has its default again.
    subroutine set_tensor_options(self, index, lr_scale, weight_decay_scale, frozen, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(in) :: index
        real(c_double), intent(in), optional :: lr_scale, weight_decay_scale
        logical, intent(in), optional :: frozen
        integer, intent(out), optional :: status
        type(tensor_options_t) :: options
        integer(c_int) :: found
        found = c_tensor_options_init(options, c_sizeof(options))
        if (present(lr_scale)) options%lr_scale = lr_scale
        if (present(weight_decay_scale)) options%weight_decay_scale = weight_decay_scale
        if (present(frozen)) options%frozen = merge(1, 0, frozen)
        if (found >= 0) found = c_set_tensor_options(self%handle, int(index, c_int32_t), options)
        call report(found, status)
    end subroutine

    ! average: of the same shape as the tensor.
    subroutine average_get(self, index, average, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(in) :: index
        real(c_float), intent(inout), target :: average(..)
        integer, intent(out), optional :: status
        if (.not. fits(average, average, status)) return
        call report(c_average_get(self%handle, int(index, c_int32_t), c_loc(average), size(average, kind=c_int64_t)), status)
    end subroutine

    ! Averages take the place of the parameters, or leave it again.
    subroutine average_swap(self, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(out), optional :: status
        call report(c_average_swap(self%handle), status)
    end subroutine

    subroutine save(self, path, with_parameters, status)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: path
        logical, intent(in), optional :: with_parameters
        integer, intent(out), optional :: status
        call report(c_save(self%handle, trim(path)//c_null_char, contents(with_parameters)), status)
    end subroutine

    ! shard: the file may have some of the tensors alone, see LOPT_SHARD.
    subroutine restore(self, path, with_parameters, status, shard)
        class(lopt_optimizer), intent(in) :: self
        character(*), intent(in) :: path
        logical, intent(in), optional :: with_parameters, shard
        integer, intent(out), optional :: status
        call report(c_restore(self%handle, trim(path)//c_null_char, contents(with_parameters) + 2 * contents(shard)), status)
    end subroutine

    ! index -1: all tensors together.
    subroutine stats(self, index, statistics, status)
        class(lopt_optimizer), intent(in) :: self
        integer, intent(in) :: index
        type(lopt_statistics), intent(out) :: statistics
        integer, intent(out), optional :: status
        statistics%struct_size = c_sizeof(statistics)
        call report(c_stats(self%handle, int(index, c_int32_t), statistics), status)
    end subroutine

    subroutine info(self, information, status)
        class(lopt_optimizer), intent(in) :: self
        type(lopt_information), intent(out) :: information
        integer, intent(out), optional :: status
        information%struct_size = c_sizeof(information)
        call report(c_info(self%handle, information), status)
    end subroutine

    ! What was wrong in the last call that did not return LOPT_OK.
    function lopt_last_error() result(text)
        character(:), allocatable :: text
        text = text_of(c_last_error())
    end function

    function lopt_version() result(text)
        character(:), allocatable :: text
        text = text_of(c_version_string())
    end function

    ! ---- What the above share --------------------------------------------------------------------------------------

    subroutine report(found, status, index, number)
        integer(c_int), intent(in) :: found
        integer, intent(out), optional :: status, index
        integer(c_int32_t), intent(in), optional :: number
        if (present(status)) status = found
        if (present(index) .and. found >= 0) index = number
        if (present(status) .or. found >= 0) return
        write (error_unit, "(4a)") "lopt: ", text_of(c_status_string(found)), ": ", lopt_last_error()
        error stop 1
    end subroutine

    ! The addresses of a section such as w(1:9:2) would be those of the whole.
    logical function fits(parameter, gradient, status)
        type(*), intent(in) :: parameter(..), gradient(..)
        integer, intent(out), optional :: status
        fits = is_contiguous(parameter) .and. is_contiguous(gradient) .and. rank(parameter) == rank(gradient)
        if (fits) fits = all(shape(parameter) == shape(gradient))
        if (.not. fits) call refuse("parameter and gradient are to be contiguous and of the same shape", status)
    end function

    logical function is_half(element, status)
        integer(c_int), intent(in) :: element
        integer, intent(out), optional :: status
        is_half = element == LOPT_BF16 .or. element == LOPT_F16
        if (.not. is_half) call refuse("element is to be LOPT_BF16 or LOPT_F16", status)
    end function

    subroutine refuse(message, status)
        character(*), intent(in) :: message
        integer, intent(out), optional :: status
        if (present(status)) status = LOPT_ERROR_INVALID_ARGUMENT
        if (present(status)) return
        write (error_unit, "(2a)") "lopt: ", message
        error stop 1
    end subroutine

    ! 1 for what is there and true.
    integer(c_int32_t) function contents(with_parameters)
        logical, intent(in), optional :: with_parameters
        contents = 0
        if (present(with_parameters)) contents = merge(1, 0, with_parameters)
    end function

    function text_of(pointer) result(text)
        type(c_ptr), intent(in) :: pointer
        character(:), allocatable :: text
        character(kind=c_char), pointer :: bytes(:)
        integer :: i
        call c_f_pointer(pointer, bytes, [c_strlen(pointer)])
        allocate (character(size(bytes)) :: text)
        do i = 1, size(bytes)
            text(i:i) = bytes(i)
        end do
    end function
end module
