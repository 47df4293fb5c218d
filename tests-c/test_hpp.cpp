/* lopt.hpp computes what lopt.h does, from the containers that C++ has; every error arrives, as an exception or as a status, and
 * handles free what they hold, once. */
#include <lopt.hpp>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <type_traits>
#include <vector>
#if __cplusplus >= 202002L
#include <span>
#endif

namespace {

long passed, failed;

void check(bool holds, int line, const char *what) {
    holds ? passed++ : failed++;
    if (!holds) std::printf("%s:%d: %s\n", __FILE__, line, what);
}
#define CHECK(condition) check(condition, __LINE__, #condition)

/* Whether the call throws an Error with this status and these words. */
template <class Call>
bool throws(lopt_status status, const char *words, Call call) {
    try {
        call();
    } catch (const lopt::Error &error) {
        return error.status() == status && std::strstr(error.what(), words);
    }
    return false;
}

constexpr std::size_t rows = 19, columns = 33;

/* A quadratic loss around 1. */
void gradient_of(const std::vector<float> &w, std::vector<float> &dw) {
    for (std::size_t i = 0; i < w.size(); i++) dw[i] = w[i] - 1.0f + 0.01f * static_cast<float>(i % 7);
}

/* 20 steps through the C functions: what every other way is to give. */
std::vector<float> trained_in_c() {
    std::vector<float> w(rows * columns, 0.25f), dw(w.size());
    const std::int64_t shape[] = {rows, columns};
    lopt_optimizer *opt = nullptr;
    CHECK(lopt_create(nullptr, nullptr, &opt) == LOPT_OK);
    CHECK(lopt_add_tensor(opt, "w", w.data(), dw.data(), shape, 2, nullptr) == LOPT_OK);
    for (int i = 0; i < 20; i++) {
        gradient_of(w, dw);
        CHECK(lopt_step(opt) == LOPT_OK);
    }
    lopt_destroy(opt);
    return w;
}

template <class Optimizer>
std::vector<float> trained(Optimizer opt) {
    std::vector<float> w(rows * columns, 0.25f), dw(w.size());
    CHECK(opt.add("w", w, dw, {rows, columns}) == LOPT_OK);
    for (int i = 0; i < 20; i++) {
        gradient_of(w, dw);
        CHECK(opt.step() == LOPT_OK);
    }
    return w;
}

void test_same_numbers() {
    const std::vector<float> expected = trained_in_c();
    CHECK(trained(lopt::Optimizer()) == expected);
    CHECK(trained(lopt::StatusOptimizer()) == expected);
    CHECK(trained(lopt::Optimizer(lopt::Weights::builtin("pooled"))) == expected);
    CHECK(trained(lopt::Optimizer(lopt::Weights::builtin("star-authors-rule"))) != expected);
}

void test_pool() {
    int calls = 0;
    auto pool = [&calls](std::int32_t count, auto task) {
        std::vector<std::thread> threads;
        for (std::int32_t i = 1; i < count; i++) threads.emplace_back(task, i);
        task(0);
        for (std::thread &thread : threads) thread.join();
        calls++;
    };
    auto options = lopt::options();
    options.threads = 3;
    options.parallel_for = lopt::parallel_for(pool);
    CHECK(trained(lopt::Optimizer(options)) == trained_in_c());

    std::vector<float> w(512 * 512), dw(w.size(), 0.5f), one(w), gradient(dw);
    lopt::Optimizer opt(options), alone;
    opt.add("w", w, dw, {512, 512});
    alone.add("w", one, gradient, {512, 512});
    calls = 0;
    opt.step();
    alone.step();
    CHECK(calls > 0);
    CHECK(w == one);
}

void test_containers() {
    lopt::Optimizer opt;
    std::vector<float> vector(6), gradient(6, 1.0f);
    std::array<float, 6> array{}, array_gradient{};
    float plain[6] = {}, plain_gradient[6] = {}, scalar = 0, scalar_gradient = 1;
    std::int32_t index = -1;
    opt.add("vector", vector, gradient);
    opt.add("array", array, array_gradient, {2, 3}, &index);
    CHECK(index == 1);
    opt.add("plain", plain, plain_gradient, {6});
    opt.add("scalar", &scalar, &scalar_gradient, {}, &index);
    CHECK(index == 3);
    std::vector<float> other(6), other_gradient(6, 1.0f);
    const std::vector<std::int64_t> shape = {3, 2};
    opt.add("run time", other, other_gradient, lopt::Shape(shape.data(), static_cast<std::int32_t>(shape.size())));
    opt.step();
    CHECK(vector[5] != 0 && scalar != 0 && other[5] != 0 && array[5] == 0);
}

#if __cplusplus >= 202002L
void test_span() {
    lopt::Optimizer opt;
    std::vector<float> memory(10), gradients(10, 1.0f);
    opt.add("a", std::span(memory).subspan(0, 6), std::span<const float>(gradients).subspan(0, 6), {3, 2});
    opt.add("b", std::span(memory).subspan(6), std::span(gradients).subspan(6));
    opt.step();
    CHECK(memory[0] != 0 && memory[9] != 0);
}
#endif

void test_exceptions() {
    std::vector<float> w(6), dw(6);
    lopt::Optimizer opt;
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "tensor", [&] { opt.step(); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "elements", [&] { opt.add("w", w, dw, {2, 4}); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "elements", [&] { opt.add("w", w, std::vector<float>(5), {2, 3}); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "elements", [&] { opt.add("w", w, dw, {SIZE_MAX / 2, SIZE_MAX / 2}); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "", [&] { opt.add("w", w, dw, {-1, 6}); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "rank", [&] { opt.add("w", w.data(), dw.data(), lopt::Shape(nullptr, -1)); }));
    const std::int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 6};
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "rank", [&] { opt.add("w", w, dw, lopt::Shape(nine, 9)); }));
    CHECK(opt.info().tensors == 0);
    opt.add("w", w, dw, {2, 3});
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "w", [&] { opt.add("w", w, dw, {2, 3}); }));
    CHECK(throws(LOPT_ERROR_IO, "no-such-folder", [&] { opt.save("no-such-folder/checkpoint"); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "star", [] { (void)lopt::Weights::builtin("moon"); }));
    CHECK(throws(LOPT_ERROR_WEIGHTS, "", [] { (void)lopt::Weights::from_memory("nonsense", 8); }));
    auto options = lopt::options();
    options.threads = -1;
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "threads", [&] { lopt::Optimizer refused(options); }));

    dw[0] = std::strtof("nan", nullptr);
    CHECK(opt.step() == LOPT_SKIPPED_NONFINITE);
    options = lopt::options();
    options.nonfinite = LOPT_NONFINITE_ERROR;
    lopt::Optimizer strict(options);
    strict.add("w", w, dw, {2, 3});
    CHECK(throws(LOPT_ERROR_NONFINITE, "", [&] { strict.step(); }));
}

void test_statuses() {
    std::vector<float> w(6), dw(6);
    lopt::StatusOptimizer opt;
    CHECK(static_cast<bool>(opt));
    CHECK(opt.step() == LOPT_ERROR_INVALID_ARGUMENT);
    CHECK(!opt.add("w", w, dw, {2, 4}).ok());
    CHECK(opt.add("w", w, dw, {2, 3}).ok());
    dw[0] = std::strtof("nan", nullptr);
    CHECK(opt.step() == LOPT_SKIPPED_NONFINITE && opt.step().ok());

    auto options = lopt::options();
    options.lr_scale = -1;
    lopt::StatusOptimizer refused(options);
    CHECK(!refused);
    CHECK(refused.step() == LOPT_ERROR_INVALID_ARGUMENT);
    CHECK(refused.info().tensors == 0 && refused.stats().steps == 0);
    std::vector<unsigned char> bytes;
    CHECK(refused.write_state(bytes) == LOPT_ERROR_INVALID_ARGUMENT);
    CHECK(!lopt::StatusWeights::load("no-such-file"));
}

/* Under valgrind and the sanitizers: nothing is freed twice or never. */
void test_ownership() {
    static_assert(!std::is_copy_constructible_v<lopt::Optimizer> && !std::is_copy_assignable_v<lopt::Optimizer>);
    static_assert(std::is_nothrow_move_constructible_v<lopt::Optimizer> && std::is_nothrow_move_assignable_v<lopt::Weights>);
    std::vector<lopt::Optimizer> several(3);
    std::vector<float> w(6), dw(6, 1.0f);
    several[1].add("w", w, dw);
    several.emplace_back(std::move(several[1]));
    CHECK(!several[1] && several[3]);
    several[3].step();
    several[0] = std::move(several[3]);
    several[0].step();
    CHECK(several[0].stats().steps == 2);
    lopt::Optimizer &self = several[0];
    several[0] = std::move(self);
    CHECK(several[0].stats(0).steps == 2);
    lopt_destroy(several[2].release());
    CHECK(!several[2]);
    auto weights = lopt::Weights::builtin();
    auto moved = std::move(weights);
    weights = lopt::Weights::builtin("star-authors-rule");
    weights = std::move(moved);
    CHECK(weights.metadata("kind") && !weights.metadata("no such key"));
}

/* Containers whose memory moves. */
void test_step_with() {
    std::vector<float> w(6, 0.5f), dw(6, 1.0f), v(w);
    lopt::Optimizer opt, other;
    opt.add("w", nullptr, nullptr, {2, 3});
    other.add("w", v, dw, {2, 3});
    for (int step = 0; step < 3; step++) {
        std::vector<float> moved(w), gradient(dw);
        opt.step_with({moved.data()}, {gradient.data()});
        other.step();
        w.swap(moved);
        CHECK(w == v);
        CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "gradients", [&] { opt.step_with({w.data()}, {}); }));
        CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "parameters", [&] { opt.step_with({}, {}); }));
    }
}

void test_average() {
    std::vector<float> w(6, 0.5f), dw(6, 1.0f);
    auto options = lopt::options();
    options.average = LOPT_AVERAGE_EMA;
    lopt::Optimizer opt(options), plain;
    opt.add("w", w, dw, {2, 3});
    opt.step();
    const auto first = w;
    opt.step();
    const auto second = w, average = opt.average(0, 6);
    CHECK(std::fabs(average[0] - (first[0] + second[0]) / 2) < 1e-7f && average[0] != second[0]);
    opt.swap_averages();
    CHECK(w == average && opt.average(0, 6) == average);
    opt.swap_averages();
    CHECK(w == second);
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "count", [&] { opt.average(0, 5); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "options.average", [&] { plain.swap_averages(); }));
    lopt::StatusOptimizer quiet;
    CHECK(quiet.average(0, 6).empty() && !quiet.swap_averages().ok());
}

void test_momenta_in_16_bits() {
    std::vector<float> w(6, 0.5f), dw(6, 1.0f);
    auto options = lopt::options();
    options.momentum_type = LOPT_BF16;
    lopt::Optimizer opt(options);
    opt.add("w", w, dw, {2, 3});
    opt.step();
    CHECK(w[0] < 0.5f && opt.info().state_bytes == 8 * 6);
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "momentum_type", [&] { lopt::Optimizer star(lopt::Weights::builtin("star"), options); }));
}

void test_add_flat() {
    std::vector<float> w(9, 0.5f), dw(9, 1.0f), v(w);
    const lopt_flat_entry table[] = {{"weight", 0, 2, {2, 3}}, {"bias", 6, 1, {3}}};
    lopt::Optimizer opt, other;
    opt.add_flat(w.data(), dw.data(), table);
    other.add("weight", v.data(), dw.data(), {2, 3});
    other.add("bias", v.data() + 6, dw.data() + 6, {3});
    opt.step();
    other.step();
    CHECK(w == v && opt.info().tensors == 2);
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "table[0]", [&] { opt.add_flat(w.data(), dw.data(), table); }));
}

/* A code in double. */
void test_types() {
    std::vector<float> w(6, 0.5f), dw(6, 1.0f);
    std::vector<double> v(6, 0.5), dv(6, 1.0);
    lopt::Optimizer opt, other;
    opt.add("w", w, dw, {2, 3});
    other.add_typed("w", v.data(), LOPT_F64, dv.data(), LOPT_F64, {2, 3});
    for (int step = 0; step < 3; step++) {
        opt.step();
        other.step();
    }
    CHECK(v == std::vector<double>(w.begin(), w.end()) && w[0] != 0.5f);
    std::vector<double> flat(6, 0.5);
    const lopt_flat_entry table[] = {{"w", 0, 2, {2, 3}}};
    lopt::Optimizer third;
    third.add_flat_typed(flat.data(), LOPT_F64, dw.data(), LOPT_F32, table);
    for (int step = 0; step < 3; step++) third.step();
    CHECK(v == flat);
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "table[0]", [&] { third.add_flat_typed(flat.data(), LOPT_F64, dw.data(), LOPT_F32, table); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "taken", [&] { other.add_typed("w", nullptr, LOPT_F16, nullptr, LOPT_BF16, {2}); }));
}

/* Layers that have an optimizer each. */
void test_elsewhere() {
    std::vector<float> w(6, 0.5f), dw(6, 1.0f), b(3, 0.5f), db(3, 2.0f), v(w), c(b);
    lopt::Optimizer whole, first, second;
    std::int32_t index = -1;
    whole.add("w", w, dw, {2, 3});
    whole.add("b", b, db);
    first.add("w", v, dw, {2, 3});
    first.add_elsewhere("b", {3}, &index);
    CHECK(index == 1);
    second.add_elsewhere("w", {2, 3});
    second.add("b", c, db);
    CHECK(first.inspect_gradients().norm_squared == 6 && second.inspect_gradients(1).norm_squared == 12);
    for (int step = 0; step < 4; step++) {
        whole.step();
        first.step();
        second.step();
    }
    CHECK(v == w && c == b && first.info().tensors_elsewhere == 1);
    std::vector<unsigned char> bytes;
    second.write_state(bytes);
    whole.read_state(bytes.data(), bytes.size(), LOPT_SHARD);
    CHECK(whole.info().tensors_restored == 1);
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "taken", [&] { first.add_elsewhere("b", {3}); }));
    CHECK(throws(LOPT_ERROR_INVALID_ARGUMENT, "index", [&] { first.inspect_gradients(2); }));
}

/* A code that stores the negative gradient. */
void test_gradient_scale() {
    std::vector<float> w(6, 0.5f), v(w), dw(6, 1.0f), dv(6, -1.0f);
    lopt::Optimizer opt, other;
    opt.add("w", w, dw, {2, 3});
    other.add("w", v, dv, {2, 3});
    other.set_gradient_scale(-1);
    opt.step();
    other.step();
    CHECK(v == w && w[0] != 0.5f && dv[0] == -1.0f);
}

void test_state() {
    std::vector<float> w(rows * columns, 0.25f), dw(w.size()), v(w), dv(w.size());
    lopt::Optimizer opt, other;
    opt.add("w", w, dw, {rows, columns});
    other.add("w", v, dv, {rows, columns});
    gradient_of(w, dw);
    opt.step();
    std::vector<unsigned char> bytes;
    opt.write_state(bytes, LOPT_WITH_PARAMETERS);
    other.read_state(bytes.data(), bytes.size(), LOPT_WITH_PARAMETERS);
    CHECK(v == w);
    CHECK(throws(LOPT_ERROR_CHECKPOINT, "", [&] { other.read_state(bytes.data(), bytes.size() / 2); }));
    auto grown = w;
    opt.bind(0, grown.data(), dw.data());
    gradient_of(w, dw);
    dv = dw;
    opt.set_lr_scale(0.5);
    other.set_lr_scale(0.5);
    opt.step();
    other.step();
    CHECK(grown == v && w != v);
    auto frozen = lopt::tensor_options();
    frozen.frozen = 1;
    opt.set_tensor_options(0, frozen);
    opt.step();
    CHECK(grown == v);
}

} // namespace

int main() {
    test_same_numbers();
    test_pool();
    test_containers();
#if __cplusplus >= 202002L
    test_span();
#endif
    test_exceptions();
    test_statuses();
    test_ownership();
    test_step_with();
    test_add_flat();
    test_average();
    test_momenta_in_16_bits();
    test_types();
    test_elsewhere();
    test_gradient_scale();
    test_state();
    std::printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
