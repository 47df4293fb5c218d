/* lopt.hpp: lopt.h for C++17. A thin layer: handles that free themselves, exceptions or statuses, containers.
 *
 * Copyright 2026 the lopt authors. SPDX-License-Identifier: Apache-2.0
 *
 *     lopt::Optimizer opt;
 *     opt.add("fc1.weight", w, dw, {128, 64});     // w and dw: std::vector<float>, std::span, std::array, ...
 *     opt.add("fc1.bias", b, db);                  // one axis: as long as b is
 *     for (...) { forward(); backward(); opt.step(); }
 *
 * What a call means, its units and errors: lopt.h. Memory stays the caller's: when a vector that was added grows or is moved
 * from, tell the optimizer with bind. C++20's std::span needs nothing of its own: every container with std::data and std::size
 * will do.
 *
 * ERRORS.  lopt::Optimizer and lopt::Weights throw lopt::Error for each negative status. lopt::StatusOptimizer and
 * lopt::StatusWeights return it instead, and a constructor that fails leaves a handle that is false and whose calls return
 * LOPT_ERROR_INVALID_ARGUMENT. Compiled without exceptions, the first two are the last two. Any C function takes get().
 */
#ifndef LOPT_HPP
#define LOPT_HPP

#include <lopt.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

namespace lopt {

/* ---- What becomes of a status ----------------------------------------------------------------------------------- */

/* A status that is to be looked at. */
class [[nodiscard]] Status {
public:
    Status(lopt_status status) noexcept : status_(status) {}
    operator lopt_status() const noexcept { return status_; }
    bool ok() const noexcept { return status_ >= 0; } /* a skipped step is no error */

private:
    lopt_status status_;
};

struct Return {
    using Result = Status;
    static Result check(lopt_status status) { return status; }
    static Result fail(lopt_status status, const char *) { return status; }
};

#if defined(__cpp_exceptions)
class Error : public std::runtime_error {
public:
    Error(lopt_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
    lopt_status status() const noexcept { return status_; }

private:
    lopt_status status_;
};

struct Throw {
    using Result = lopt_status; /* LOPT_OK or LOPT_SKIPPED_NONFINITE */
    static Result check(lopt_status status) {
        if (status < 0) throw Error(status, std::string(lopt_status_string(status)) + ": " + lopt_last_error());
        return status;
    }
    static Result fail(lopt_status status, const char *message) {
        throw Error(status, std::string(lopt_status_string(status)) + ": " + message);
    }
};
using Default = Throw;
#else
using Default = Return;
#endif

/* ---- Options ----------------------------------------------------------------------------------------------------- */

/* The defaults, to be changed field by field. */
inline lopt_options options() noexcept {
    lopt_options options;
    (void)lopt_options_init(&options, sizeof options);
    return options;
}
inline lopt_tensor_options tensor_options() noexcept {
    lopt_tensor_options options;
    (void)lopt_tensor_options_init(&options, sizeof options);
    return options;
}

/* The program's own threads, for options().parallel_for: pool(count, task) calls task(i) once for every i in 0 .. count - 1
 * and returns when all have returned. The pool must outlive the optimizer; an exception of it ends the process.
 *
 *     auto pool = [](std::int32_t count, auto task) { tbb::parallel_for(0, count, task); };
 *     options.parallel_for = lopt::parallel_for(pool); */
template <class Pool>
lopt_parallel_for parallel_for(Pool &pool) noexcept {
    lopt_parallel_for hook;
    hook.context = const_cast<void *>(static_cast<const void *>(&pool));
    hook.run = [](void *context, std::int32_t count, lopt_task task, void *task_context) noexcept {
        (*static_cast<Pool *>(context))(count, [task, task_context](std::int32_t i) { task(task_context, i); });
    };
    return hook;
}

/* Extents: {128, 64}, of any integer types; {} is a single number. */
class Shape {
public:
    template <class... Extents, class = std::enable_if_t<(std::is_integral_v<Extents> && ...)>>
    Shape(Extents... extents) noexcept : rank_(sizeof...(Extents)) {
        static_assert(sizeof...(Extents) <= LOPT_MAX_RANK, "more than LOPT_MAX_RANK extents");
        std::int32_t i = 0;
        ((extents_[i++] = static_cast<std::int64_t>(extents)), ...);
    }
    /* Of a rank known at run time; one out of range is an error of add. */
    Shape(const std::int64_t *extents, std::int32_t rank) noexcept : rank_(rank) {
        for (std::int32_t i = 0; i < rank && i < LOPT_MAX_RANK; i++) extents_[i] = extents[i];
    }
    const std::int64_t *extents() const noexcept { return extents_; }
    std::int32_t rank() const noexcept { return rank_; }

    /* Whether `elements` is the product of the extents; one that does not fit is not. */
    bool has(std::size_t elements) const noexcept {
        std::size_t product = 1;
        if (rank_ < 0 || rank_ > LOPT_MAX_RANK) return true; /* add says what is wrong */
        for (std::int32_t i = 0; i < rank_; i++) {
            if (extents_[i] < 0) return true;
            const auto extent = static_cast<std::uint64_t>(extents_[i]);
            if (extent != 0 && product > SIZE_MAX / extent) return false;
            product *= static_cast<std::size_t>(extent);
        }
        return product == elements;
    }

private:
    std::int64_t extents_[LOPT_MAX_RANK] = {};
    std::int32_t rank_;
};

/* ---- Weights ------------------------------------------------------------------------------------------------------ */

/* Frozen weights. They may be freed as soon as an optimizer was made with them. */
template <class Errors>
class BasicWeights {
public:
    static BasicWeights builtin(const char *name = nullptr) {
        BasicWeights weights;
        (void)Errors::check(lopt_weights_builtin(name, nullptr, &weights.handle_));
        return weights;
    }
    static BasicWeights load(const std::string &path) {
        BasicWeights weights;
        (void)Errors::check(lopt_weights_load(path.c_str(), nullptr, &weights.handle_));
        return weights;
    }
    static BasicWeights from_memory(const void *bytes, std::size_t size) {
        BasicWeights weights;
        (void)Errors::check(lopt_weights_from_memory(bytes, size, nullptr, &weights.handle_));
        return weights;
    }
    BasicWeights() noexcept = default;
    BasicWeights(BasicWeights &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    BasicWeights &operator=(BasicWeights &&other) noexcept {
        if (this != &other) {
            lopt_weights_free(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~BasicWeights() { lopt_weights_free(handle_); }

    explicit operator bool() const noexcept { return handle_ != nullptr; }
    const lopt_weights *get() const noexcept { return handle_; }
    /* NULL if there is no such key. */
    const char *metadata(const char *key) const noexcept { return lopt_weights_metadata(handle_, key); }

private:
    lopt_weights *handle_ = nullptr;
};

/* Whether these are containers of floats, the first one of floats that may be written. */
template <class Parameter, class Gradient, class = void>
inline constexpr bool is_floats = false;
template <class Parameter, class Gradient>
inline constexpr bool is_floats<Parameter, Gradient,
                                std::void_t<decltype(std::data(std::declval<Parameter &>()), std::size(std::declval<Parameter &>())),
                                            decltype(std::data(std::declval<const Gradient &>()))>> =
    std::is_same_v<decltype(std::data(std::declval<Parameter &>())), float *> &&
    std::is_convertible_v<decltype(std::data(std::declval<const Gradient &>())), const float *>;

/* ---- The optimizer ------------------------------------------------------------------------------------------------ */

template <class Errors>
class BasicOptimizer {
public:
    using Result = typename Errors::Result;

    BasicOptimizer() : BasicOptimizer(lopt::options()) {}
    explicit BasicOptimizer(const lopt_options &options) { (void)Errors::check(lopt_create(nullptr, &options, &handle_)); }
    template <class WeightsErrors>
    explicit BasicOptimizer(const BasicWeights<WeightsErrors> &weights, const lopt_options &options = lopt::options()) {
        (void)Errors::check(lopt_create(weights.get(), &options, &handle_));
    }
    BasicOptimizer(BasicOptimizer &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    BasicOptimizer &operator=(BasicOptimizer &&other) noexcept {
        if (this != &other) {
            lopt_destroy(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~BasicOptimizer() { lopt_destroy(handle_); }

    explicit operator bool() const noexcept { return handle_ != nullptr; }
    lopt_optimizer *get() const noexcept { return handle_; }
    lopt_optimizer *release() noexcept { return std::exchange(handle_, nullptr); }

    /* `index` receives the number of the tensor, if it is not NULL. */
    Result add(const std::string &name, float *parameter, const float *gradient, const Shape &shape,
               std::int32_t *index = nullptr) {
        return Errors::check(
            lopt_add_tensor(handle_, name.c_str(), parameter, gradient, shape.extents(), shape.rank(), index));
    }
    /* Containers of floats. That both have as many elements as the shape says is checked; the message of that error is not
     * in lopt_last_error. */
    template <class Parameter, class Gradient, class = std::enable_if_t<is_floats<Parameter, Gradient>>>
    Result add(const std::string &name, Parameter &&parameter, const Gradient &gradient, const Shape &shape,
               std::int32_t *index = nullptr) {
        if (!shape.has(std::size(parameter)) || !shape.has(std::size(gradient)))
            return Errors::fail(LOPT_ERROR_INVALID_ARGUMENT, "parameter or gradient has not as many elements as the shape");
        return add(name, std::data(parameter), std::data(gradient), shape, index);
    }
    template <class Parameter, class Gradient, class = std::enable_if_t<is_floats<Parameter, Gradient>>>
    Result add(const std::string &name, Parameter &&parameter, const Gradient &gradient) {
        return add(name, parameter, gradient, Shape(std::size(parameter)));
    }
    /* Elements that are not float, see lopt_add_typed. */
    Result add_typed(const std::string &name, void *parameter, lopt_element parameter_type, const void *gradient,
                     lopt_element gradient_type, const Shape &shape, std::int32_t *index = nullptr) {
        return Errors::check(lopt_add_typed(handle_, name.c_str(), parameter, parameter_type, gradient, gradient_type, shape.extents(),
                                            shape.rank(), index));
    }
    /* A table of names, offsets and shapes: a container or array of lopt_flat_entry. */
    template <class Table>
    Result add_flat(float *parameters, const float *gradients, const Table &table) {
        if (std::size(table) > INT32_MAX) return Errors::fail(LOPT_ERROR_INVALID_ARGUMENT, "the table has 2^31 entries or more");
        return Errors::check(
            lopt_add_flat(handle_, parameters, gradients, std::data(table), static_cast<std::int32_t>(std::size(table))));
    }
    /* Of elements that are not float, see lopt_add_flat_typed. */
    template <class Table>
    Result add_flat_typed(void *parameters, lopt_element parameter_type, const void *gradients, lopt_element gradient_type,
                          const Table &table) {
        if (std::size(table) > INT32_MAX) return Errors::fail(LOPT_ERROR_INVALID_ARGUMENT, "the table has 2^31 entries or more");
        return Errors::check(lopt_add_flat_typed(handle_, parameters, parameter_type, gradients, gradient_type, std::data(table),
                                                 static_cast<std::int32_t>(std::size(table))));
    }
    /* A tensor of the network that another optimizer steps. */
    Result add_elsewhere(const std::string &name, const Shape &shape, std::int32_t *index = nullptr) {
        return Errors::check(lopt_add_elsewhere(handle_, name.c_str(), shape.extents(), shape.rank(), index));
    }
    Result bind(std::int32_t index, float *parameter, const float *gradient) {
        return Errors::check(lopt_bind(handle_, index, parameter, gradient));
    }

    /* LOPT_SKIPPED_NONFINITE is no error: it is returned. */
    Result step() { return Errors::check(lopt_step(handle_)); }
    /* The memory of every tensor at this step, see lopt_step_with. */
    Result step_with(const std::vector<float *> &parameters, const std::vector<float *> &gradients) {
        if (parameters.size() != gradients.size() || parameters.size() > INT32_MAX)
            return Errors::fail(LOPT_ERROR_INVALID_ARGUMENT, "there are not as many gradients as parameters");
        return Errors::check(
            lopt_step_with(handle_, static_cast<std::int32_t>(parameters.size()), parameters.data(), gradients.data()));
    }
    Result step_tensor(std::int32_t index) { return Errors::check(lopt_step_tensor(handle_, index)); }

    Result set_lr_scale(double scale) { return Errors::check(lopt_set_lr_scale(handle_, scale)); }
    Result set_total_steps(std::int64_t steps) { return Errors::check(lopt_set_total_steps(handle_, steps)); }
    Result set_gradient_scale(double scale) { return Errors::check(lopt_set_gradient_scale(handle_, scale)); }
    Result set_tensor_options(std::int32_t index, const lopt_tensor_options &options) {
        return Errors::check(lopt_set_tensor_options(handle_, index, &options));
    }

    /* The average of a tensor; empty after an error that is not thrown. */
    std::vector<float> average(std::int32_t index, std::size_t count) const {
        std::vector<float> result(count + 1); /* data() is not NULL for a tensor of no elements either */
        const lopt_status status = lopt_average_get(handle_, index, result.data(), static_cast<std::int64_t>(count));
        result.resize(status < 0 ? 0 : count);
        (void)Errors::check(status);
        return result;
    }
    Result swap_averages() { return Errors::check(lopt_average_swap(handle_)); }

    Result save(const std::string &path, std::uint32_t contents = 0) const {
        return Errors::check(lopt_save(handle_, path.c_str(), contents));
    }
    Result restore(const std::string &path, std::uint32_t contents = 0) {
        return Errors::check(lopt_restore(handle_, path.c_str(), contents));
    }
    Result write_state(std::vector<unsigned char> &bytes, std::uint32_t contents = 0) const {
        std::size_t size = 0;
        const lopt_status status = lopt_state_size(handle_, contents, &size);
        if (status < 0) return Errors::check(status);
        bytes.resize(size);
        return Errors::check(lopt_state_write(handle_, contents, bytes.data(), bytes.size()));
    }
    Result read_state(const void *bytes, std::size_t size, std::uint32_t contents = 0) {
        return Errors::check(lopt_state_read(handle_, contents, bytes, size));
    }

    /* What the next step would see; -1: of all tensors together. All 0 after an error that is not thrown. */
    lopt_gradients inspect_gradients(std::int32_t index = -1) {
        lopt_gradients gradients = {};
        gradients.struct_size = sizeof gradients;
        (void)Errors::check(lopt_inspect_gradients(handle_, index, &gradients));
        return gradients;
    }
    /* -1: all tensors together. All 0 after an error that is not thrown. */
    lopt_statistics stats(std::int32_t index = -1) const {
        lopt_statistics statistics = {};
        statistics.struct_size = sizeof statistics;
        (void)Errors::check(lopt_stats(handle_, index, &statistics));
        return statistics;
    }
    lopt_information info() const {
        lopt_information information = {};
        information.struct_size = sizeof information;
        (void)Errors::check(lopt_info(handle_, &information));
        return information;
    }

private:
    lopt_optimizer *handle_ = nullptr;
};

using Optimizer = BasicOptimizer<Default>;
using Weights = BasicWeights<Default>;
using StatusOptimizer = BasicOptimizer<Return>;
using StatusWeights = BasicWeights<Return>;

} // namespace lopt

#endif /* LOPT_HPP */
