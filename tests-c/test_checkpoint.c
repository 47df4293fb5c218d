/* Resuming from a checkpoint gives the same bits as never having stopped: from a file and from memory, in another
 * process, with other threads and another instruction set. What does not match is refused by name. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

#include <sys/wait.h>

enum { STEPS = 12 };

static const char *program;

static lopt_optimizer *make(problem *p, int32_t threads, int32_t isa) {
    lopt_options options = problem_options();
    lopt_optimizer *opt;
    options.threads = threads;
    options.max_isa = isa;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(p, opt);
    return opt;
}

/* What training without a stop leads to. */
static snapshot expected;

static void train_without_stop(void) {
    problem p;
    problem_large(&p);
    lopt_optimizer *opt = make(&p, 1, 0);
    problem_train(&p, opt, 0, STEPS);
    expected = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(opt);
    problem_free(&p);
}

/* In a process of its own: restores `from`, takes the steps from `first` on and saves to `to`. */
static int resume(char **arguments) {
    const char *from = arguments[0], *to = arguments[1];
    int first = atoi(arguments[2]), threads = atoi(arguments[3]), isa = atoi(arguments[4]);
    problem p;
    problem_large(&p);
    for (int i = 0; i < p.count; i++) memset(p.tensors[i].parameter, 0x7f, 4 * (size_t)p.tensors[i].elements);
    lopt_optimizer *opt = make(&p, threads, isa);
    CHECK_OK(lopt_restore(opt, from, LOPT_WITH_PARAMETERS));
    problem_train(&p, opt, first, STEPS);
    CHECK_OK(lopt_save(opt, to, LOPT_WITH_PARAMETERS));
    lopt_destroy(opt);
    problem_free(&p);
    return check_failed == 0 ? 0 : 1;
}

static int run_resume(const char *from, const char *to, int first, int threads, int isa) {
    char numbers[3][16];
    snprintf(numbers[0], 16, "%d", first), snprintf(numbers[1], 16, "%d", threads), snprintf(numbers[2], 16, "%d", isa);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, "resume", from, to, numbers[0], numbers[1], numbers[2], (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (!CHECK(child > 0) || !CHECK(waitpid(child, &status, 0) == child)) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int32_t isa_of(lopt_optimizer *opt) {
    lopt_information information = {.struct_size = sizeof information};
    CHECK_OK(lopt_info(opt, &information));
    return information.isa;
}

static void test_another_process_resumes_with_the_same_bits(void) {
    /* At every step. */
    for (int c = 0; c <= STEPS; c += check_repetitions(1, 5)) {
        problem p;
        size_t size = 0;
        problem_large(&p);
        lopt_optimizer *opt = make(&p, 1 + c % 3, 0);
        /* The narrowest of those that give the same bits: AVX2 for AVX-512, else the same one. */
        int32_t isa = isa_of(opt) == LOPT_ISA_AVX512 && c % 2 == 0 ? LOPT_ISA_AVX2 : 0;
        problem_train(&p, opt, 0, c);
        const char *from = files_path("cut"), *to = files_path("end");
        CHECK_OK(lopt_save(opt, from, LOPT_WITH_PARAMETERS));
        check_context("cut at step %d", c);
        CHECK_INT(run_resume(from, to, c, 1 + (c + 1) % 4, isa), 0);
        void *bytes = files_read(to, &size);
        CHECK_INT(size, expected.size);
        if (bytes && size == expected.size) CHECK_BYTES(bytes, expected.bytes, size);
        free(bytes);
        lopt_destroy(opt);
        problem_free(&p);
        remove(from), remove(to);
    }
    check_context("");
}

/* Another instruction set reads the same checkpoint; one with other rounding goes on from the same bits. */
static void test_another_isa_reads_the_same_checkpoint(void) {
    problem p, q;
    problem_large(&p), problem_large(&q);
    lopt_optimizer *opt = make(&p, 2, 0), *other = make(&q, 1, LOPT_ISA_BASELINE);
    problem_train(&p, opt, 0, 3);
    problem_train(&q, other, 0, 1);
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_state_read(other, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    CHECK_SAME_STATE(other, &s);
    problem_train(&q, other, 3, 4);
    CHECK_OK(lopt_state_read(other, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    CHECK_SAME_STATE(other, &s);
    snapshot_free(&s);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

/* The file is what lopt_state_write writes, byte for byte, with and without parameters. */
static void test_file_has_the_bytes_of_state_write(void) {
    problem p;
    problem_small(&p);
    lopt_optimizer *opt = make(&p, 1, 0);
    problem_train(&p, opt, 0, 3);
    for (uint32_t contents = 0; contents <= LOPT_WITH_PARAMETERS; contents++) {
        size_t size = 0;
        snapshot s = snapshot_of(opt, contents);
        check_context("contents %u", contents);
        CHECK_OK(lopt_save(opt, files_path("a"), contents));
        char *bytes = files_read(files_path("a"), &size);
        CHECK_INT(size, s.size);
        if (bytes && size == s.size) CHECK_BYTES(bytes, s.bytes, size);
        free(bytes);
        /* More memory than needed is left alone behind the checkpoint. */
        bytes = check_memory(s.size + 64);
        memset(bytes, 0x5a, s.size + 64);
        CHECK_OK(lopt_state_write(opt, contents, bytes, s.size + 64));
        CHECK_BYTES(bytes, s.bytes, s.size);
        for (size_t i = 0; i < 64; i++) CHECK_INT(bytes[s.size + i], 0x5a);
        free(bytes);
        snapshot_free(&s);
    }
    check_context("");
    CHECK_INT(files_count(files_directory), 1);
    remove(files_path("a"));
    lopt_destroy(opt);
    problem_free(&p);
}

/* Without LOPT_WITH_PARAMETERS the parameters are the host's: neither written nor overwritten. */
static void test_state_alone_leaves_parameters_to_the_host(void) {
    problem p, q;
    problem_small(&p), problem_small(&q);
    lopt_optimizer *opt = make(&p, 1, 0), *other = make(&q, 1, 0);
    problem_train(&p, opt, 0, 5);
    snapshot state = snapshot_of(opt, 0), with = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    int64_t elements = 0;
    for (int i = 0; i < p.count; i++) elements += p.tensors[i].elements;
    CHECK(with.size >= state.size + 4 * (size_t)elements);
    for (int i = 0; i < 2; i++) {
        problem_start(&q);
        q.tensors[2].parameter[3] = 42;
        const snapshot *from = i == 0 ? &state : &with;
        CHECK_OK(lopt_state_read(other, 0, from->bytes, from->size));
        CHECK_NEAR(q.tensors[2].parameter[3], 42, 0);
        for (int k = 0; k < p.count; k++) {
            memcpy(q.tensors[k].parameter, p.tensors[k].parameter, 4 * (size_t)p.tensors[k].elements);
        }
        CHECK_SAME_STATE(other, &with);
        problem_train(&q, other, 20, 22);
    }
    snapshot before = snapshot_of(other, LOPT_WITH_PARAMETERS);
    CHECK_STATUS(lopt_state_read(other, LOPT_WITH_PARAMETERS, state.bytes, state.size), LOPT_ERROR_MISMATCH);
    CHECK_MESSAGE("scalar/parameter");
    CHECK_SAME_STATE(other, &before);
    snapshot_free(&state), snapshot_free(&with), snapshot_free(&before);
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

/* Scales, weight decay, frozen flags and counters come back, and take effect. */
static void test_options_of_tensors_are_restored(void) {
    problem p, q;
    lopt_optimizer *opt, *other;
    lopt_options options = problem_options();
    lopt_tensor_options tensor;
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    problem_small(&p), problem_small(&q);
    options.weight_decay = 0.125, options.nonfinite = LOPT_NONFINITE_SKIP_TENSOR;
    CHECK_OK(lopt_create(NULL, &options, &opt));
    problem_register(&p, opt);
    CHECK_OK(lopt_tensor_options_init(&tensor, sizeof tensor));
    tensor.lr_scale = 0.75, tensor.weight_decay_scale = 3;
    CHECK_OK(lopt_set_tensor_options(opt, 1, &tensor));
    tensor.lr_scale = 1, tensor.weight_decay_scale = 1, tensor.frozen = 1;
    CHECK_OK(lopt_set_tensor_options(opt, 3, &tensor));
    problem_train(&p, opt, 0, 2);
    problem_gradient(&p, 2);
    p.tensors[2].gradient[0] = p.tensors[2].gradient[8] = NAN;
    CHECK_STATUS(lopt_step(opt), LOPT_SKIPPED_NONFINITE);
    CHECK_OK(lopt_set_lr_scale(opt, 0.3));
    CHECK_OK(lopt_save(opt, files_path("options"), LOPT_WITH_PARAMETERS));

    other = make(&q, 1, 0);
    CHECK_OK(lopt_restore(other, files_path("options"), LOPT_WITH_PARAMETERS));
    CHECK_OK(lopt_stats(other, 2, &statistics));
    CHECK_INT(statistics.steps, 2);
    CHECK_INT(statistics.steps_skipped, 1);
    CHECK_INT(statistics.nonfinite, 2);
    CHECK_OK(lopt_stats(other, 3, &statistics));
    CHECK_INT(statistics.steps, 0);
    problem_train(&p, opt, 3, 6), problem_train(&q, other, 3, 6);
    snapshot s = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    CHECK_SAME_STATE(other, &s);
    snapshot_free(&s);
    remove(files_path("options"));
    lopt_destroy(opt), lopt_destroy(other);
    problem_free(&p), problem_free(&q);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static lopt_optimizer *saved; /* of the small problem */
static problem saved_problem;
static snapshot saved_state;

/* An optimizer of these tensors refuses the checkpoint, names what differs and stays as it is. */
static void check_refused(problem *p, const char *weights_name, const char *part, const char *other_part) {
    lopt_options options = problem_options();
    lopt_weights *weights;
    lopt_optimizer *opt;
    CHECK_OK(lopt_weights_builtin(weights_name, NULL, &weights));
    CHECK_OK(lopt_create(weights, &options, &opt));
    lopt_weights_free(weights);
    problem_register(p, opt);
    problem_train(p, opt, 0, 1);
    snapshot before = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    for (uint32_t contents = 0; contents <= LOPT_WITH_PARAMETERS; contents++) {
        check_context("%s, contents %u", part, contents);
        CHECK_STATUS(lopt_state_read(opt, contents, saved_state.bytes, saved_state.size), LOPT_ERROR_MISMATCH);
        CHECK_MESSAGE(part);
        CHECK_MESSAGE(other_part);
        CHECK_SAME_STATE(opt, &before);
        CHECK_STATUS(lopt_restore(opt, files_path("saved"), contents), LOPT_ERROR_MISMATCH);
        CHECK_MESSAGE(part);
        CHECK_SAME_STATE(opt, &before);
    }
    check_context("");
    snapshot_free(&before);
    lopt_destroy(opt);
    problem_free(p);
}

static void test_other_weights_names_and_shapes_are_refused(void) {
    problem p;
    problem_small(&p);
    check_refused(&p, "star-authors-rule", "weights", "");
    problem_small(&p), problem_add(&p, "one more", 1, (int64_t[]){4});
    check_refused(&p, "pooled", "one more", "no");
    problem_small(&p), free(p.tensors[4].parameter), free(p.tensors[4].gradient), p.count = 4;
    check_refused(&p, "pooled", "filter", "has not");
    problem_small(&p), p.tensors[2].name = "renamed";
    check_refused(&p, "pooled", "renamed", "no");
    problem_small(&p), p.tensors[2].shape[0] = 33, p.tensors[2].shape[1] = 19;
    check_refused(&p, "pooled", "matrix", "19");
    problem_small(&p), p.tensors[2].rank = 1, p.tensors[2].shape[0] = 627;
    check_refused(&p, "pooled", "matrix", "627");
    problem_small(&p), p.tensors[1].rank = 2, p.tensors[1].shape[1] = 1;
    check_refused(&p, "pooled", "bias", "37");
    problem_small(&p), p.tensors[0].rank = 1, p.tensors[0].shape[0] = 1;
    check_refused(&p, "pooled", "scalar", "[");
    check_refused(&(problem){.count = 1, .tensors = {{"scalar", 0, {0}, 1, check_memory(4), check_memory(4)}}}, "pooled",
                  "bias", "has not");
}

/* Tensors in another order: every one of them gets what is its own. (To pooled a tensor's place is part of what it is.) */
static void test_tensors_are_found_by_name(void) {
    static const int order[] = {4, 2, 0, 3, 1};
    problem p, q;
    lopt_options options = problem_options();
    problem_small(&p), problem_small(&q);
    lopt_optimizer *first = problem_optimizer(&p, "star", &options), *opt = problem_create("star", &options);
    problem_train(&p, first, 0, 4);
    snapshot s = snapshot_of(first, LOPT_WITH_PARAMETERS);
    for (int i = 0; i < q.count; i++) CHECK_OK(problem_register_one(&q, order[i], opt));
    if (CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s.bytes, s.size))) {
        problem_train(&p, first, 4, 6), problem_train(&q, opt, 4, 6);
        for (int i = 0; i < p.count; i++) CHECK_BITS(q.tensors[i].parameter, p.tensors[i].parameter, p.tensors[i].elements);
    }
    snapshot_free(&s);
    lopt_destroy(first), lopt_destroy(opt);
    problem_free(&p), problem_free(&q);
}

int main(int count, char **arguments) {
    program = arguments[0];
    if (count == 7 && strcmp(arguments[1], "resume") == 0) return resume(arguments + 2);
    files_start();
    train_without_stop();
    test_another_process_resumes_with_the_same_bits();
    test_another_isa_reads_the_same_checkpoint();
    test_file_has_the_bytes_of_state_write();
    test_state_alone_leaves_parameters_to_the_host();
    test_options_of_tensors_are_restored();

    problem_small(&saved_problem);
    saved = make(&saved_problem, 1, 0);
    problem_train(&saved_problem, saved, 0, 4);
    saved_state = snapshot_of(saved, LOPT_WITH_PARAMETERS);
    CHECK_OK(lopt_save(saved, files_path("saved"), LOPT_WITH_PARAMETERS));
    test_other_weights_names_and_shapes_are_refused();
    test_tensors_are_found_by_name();
    snapshot_free(&saved_state), snapshot_free(&expected);
    lopt_destroy(saved);
    problem_free(&saved_problem);
    files_end();
    return check_end();
}
