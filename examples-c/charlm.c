/* Trains a character-level language model on a text file with lopt and writes some text in its manner.
 *
 *     make charlm && ./charlm                     interrupt it with Ctrl-C ...
 *     ./charlm --resume                           ... and continue bit for bit as if it had never stopped
 *
 * One lopt checkpoint holds all there is to resume: the parameters, the optimizer's state and the number of steps taken.
 * Which windows of the text a step reads follows from the seed and that number alone, so no position in the text and no
 * random generator's state has to be saved. The model is in gru.c.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <lopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gru.h"
#include "rng.h"
#include "text.h"

static const char help[] =
    "Trains a character-level language model with lopt.\n"
    "\n"
    "usage: charlm [options] [TEXT]     (default: data/text/shakespeare.txt, here or in ..)\n"
    "\n"
    "  --steps N          train up to this step                        (default 2000)\n"
    "  --hidden N         size of the state                            (128)\n"
    "  --batch N          windows of text per step                     (16)\n"
    "  --length N         characters per window                        (64)\n"
    "  --seed N           of the parameters and the windows            (1)\n"
    "  --threads N        threads that lopt may use, 0: one per processor (0)\n"
    "  --bf16-momenta     8 bytes of optimizer state a parameter in place of 12\n"
    "  --checkpoint FILE  written every --save-every steps, at the end and on Ctrl-C (charlm.safetensors)\n"
    "  --save-every N     steps between checkpoints                    (500)\n"
    "  --resume           continue from the checkpoint; give the other options as before\n"
    "  --sample N         characters to write at the end               (500)\n"
    "  --check-gradients  compare a small model's gradients with finite differences, and end\n"
    "  --help             this text\n";

typedef struct settings {
    const char *text, *checkpoint;
    int steps, hidden, batch, length, seed, threads, save_every, sample;
    int resume, check_gradients, bf16_momenta;
} settings;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("charlm: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

/* For a mistake on the command line: the message, how it should be, and status 2. */
static void usage(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("charlm: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\nusage: charlm [options] [TEXT]     (--help lists the options)\n", stderr);
    va_end(arguments);
    exit(2);
}

/* What was printed may still lie in a buffer, and the disk may be full. */
static void finish_output(void) {
    if (fflush(stdout) != 0 || ferror(stdout)) fail("the output cannot be written");
}

static void check(lopt_status status) {
    if (status != LOPT_OK) fail("lopt: %s: %s", lopt_status_string(status), lopt_last_error());
}

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* Ctrl-C asks for a stop after the step under way; a second Ctrl-C ends the program at once. */
static volatile sig_atomic_t interrupted;
static void on_interrupt(int signal) { (void)signal, interrupted = 1; }

static void catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

/* ---- Options ----------------------------------------------------------------------------------------------------- */

static int parse_integer(const char *option, const char *value, int lowest, int highest) {
    char *end;
    if (!value) usage("%s: a value is missing", option);
    long number = strtol(value, &end, 10); /* out of range, it returns LONG_MIN or LONG_MAX */
    if (end == value || *end || number < lowest || number > highest)
        usage("%s %s: not an integer from %d to %d", option, value, lowest, highest);
    return (int)number;
}

static settings parse_options(int argc, char **argv) {
    settings s = {.checkpoint = "charlm.safetensors", .steps = 2000, .save_every = 500, .sample = 500,
                  .hidden = 128, .batch = 16, .length = 64, .seed = 1};
    const struct { const char *name; int *value, lowest, highest; } numbers[] = {
        {"--steps", &s.steps, 0, 100000000}, {"--hidden", &s.hidden, 1, 2048}, {"--batch", &s.batch, 1, 1024},
        {"--length", &s.length, 1, 1024}, {"--seed", &s.seed, 0, 1000000000}, {"--threads", &s.threads, 0, 256},
        {"--save-every", &s.save_every, 1, 100000000}, {"--sample", &s.sample, 0, 1000000},
    };
    for (int i = 1; i < argc; i++) {
        size_t n = 0;
        while (n < sizeof numbers / sizeof *numbers && strcmp(argv[i], numbers[n].name) != 0) n++;
        if (n < sizeof numbers / sizeof *numbers) {
            *numbers[n].value = parse_integer(argv[i], argv[i + 1], numbers[n].lowest, numbers[n].highest);
            i++;
        } else if (strcmp(argv[i], "--checkpoint") == 0) {
            s.checkpoint = argv[++i];
            if (!s.checkpoint) usage("--checkpoint: a file name is missing");
        } else if (strcmp(argv[i], "--resume") == 0) s.resume = 1;
        else if (strcmp(argv[i], "--bf16-momenta") == 0) s.bf16_momenta = 1;
        else if (strcmp(argv[i], "--check-gradients") == 0) s.check_gradients = 1;
        else if (strcmp(argv[i], "--help") == 0) fputs(help, stdout), finish_output(), exit(EXIT_SUCCESS);
        else if (argv[i][0] == '-') usage("%s: unknown option", argv[i]);
        else if (s.text) usage("%s: one text is enough", argv[i]);
        else s.text = argv[i];
    }
    return s;
}

/* ---- The text ---------------------------------------------------------------------------------------------------- */

static text read_text(const char *path, int length) {
    text t;
    FILE *file = fopen(path, "rb");
    if (!file) fail("%s: %s (charlm TEXT trains on another file, see --help)", path, strerror(errno));
    const char *wrong = text_read(&t, file);
    if (wrong) fail("%s: %s", path, wrong);
    if (t.size / 10 < length + 2) fail("%s: has %d characters; at least %d are needed", path, t.size, 10 * (length + 2));
    return t;
}

/* The characters from here on are held out. */
static int train_size(const text *t) { return t->size - t->size / 10; }

/* Bits per character of the held-out text, over 50 draws that are always the same. */
static double held_out_bits(const gru *model, gru_pass *pass, const text *t) {
    double loss = 0;
    for (int i = 0; i < 50; i++) {
        text_draw(t, pass, train_size(t), t->size, (uint64_t)i);
        gru_forward(model, pass);
        loss += gru_loss(model, pass) / 50;
    }
    return loss / log(2);
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */

static lopt_optimizer *create_optimizer(gru *model, const settings *s) {
    lopt_options options;
    check(lopt_options_init(&options, sizeof options));
    options.threads = s->threads;
    options.total_steps = s->steps;
    options.momentum_type = s->bf16_momenta ? LOPT_BF16 : LOPT_F32;
    options.nonfinite = LOPT_NONFINITE_ERROR; /* a step left out would be missing in the count that resuming relies on */
    lopt_optimizer *opt;
    check(lopt_create(NULL, &options, &opt));
    for (int i = 0; i < GRU_TENSORS; i++) {
        gru_tensor *tensor = &model->tensor[i];
        check(lopt_add_tensor(opt, tensor->name, tensor->param, tensor->grad, tensor->shape, tensor->rank, NULL));
    }
    return opt;
}

static int64_t steps_taken(const lopt_optimizer *opt) {
    lopt_statistics statistics = {.struct_size = sizeof statistics};
    check(lopt_stats(opt, -1, &statistics));
    return statistics.steps;
}

static void train(gru *model, lopt_optimizer *opt, gru_pass *pass, const text *t, const settings *s) {
    double bits = 0, start = milliseconds();
    int count = 0;
    for (int64_t step = steps_taken(opt); step < s->steps && !interrupted;) {
        text_draw(t, pass, 0, train_size(t), ((uint64_t)s->seed << 32) + (uint64_t)step);
        gru_forward(model, pass);
        bits += gru_loss(model, pass) / log(2);
        gru_backward(model, pass);
        check(lopt_step(opt));
        step++;
        count++;
        if (step % 100 == 0 || step == s->steps) {
            double now = milliseconds();
            printf("step %6lld   %.4f bits/char   %.2f ms/step\n", (long long)step, bits / count, (now - start) / count);
            fflush(stdout);
            bits = count = 0;
            start = now;
        }
        if (step % s->save_every == 0) check(lopt_save(opt, s->checkpoint, LOPT_WITH_PARAMETERS));
    }
    check(lopt_save(opt, s->checkpoint, LOPT_WITH_PARAMETERS));
}

/* ---- Writing text ------------------------------------------------------------------------------------------------ */

static void write_sample(const gru *model, const text *t, int count, uint64_t seed) {
    const double temperature = 0.7; /* below 1: likely characters become more likely */
    gru_pass pass;
    if (!gru_pass_create(&pass, model, 1, 1)) fail("not enough memory");
    pass.input[0] = 0; /* the first character of the alphabet, as a rule a newline */
    for (int i = 0; i < count; i++) {
        gru_forward(model, &pass);
        double sum = 0, largest = pass.logits[0];
        for (int c = 1; c < model->vocab; c++) largest = fmax(largest, pass.logits[c]);
        for (int c = 0; c < model->vocab; c++) sum += exp((pass.logits[c] - largest) / temperature);
        double left = rng_uniform(&seed) * sum;
        int next = 0;
        for (; next < model->vocab - 1; next++) {
            left -= exp((pass.logits[next] - largest) / temperature);
            if (left < 0) break;
        }
        putchar(t->byte[next]);
        memcpy(pass.h, pass.h + model->hidden, (size_t)model->hidden * sizeof(float));
        pass.input[0] = next;
    }
    putchar('\n');
    gru_pass_destroy(&pass);
}

/* ---- Checking the gradients -------------------------------------------------------------------------------------- */

/* The loss with the tensor at origin + by * way. */
static double loss_at(const gru *model, gru_pass *pass, gru_tensor *tensor, const float *origin, const float *way,
                      float by) {
    for (int64_t k = 0; k < tensor->size; k++) tensor->param[k] = origin[k] + by * way[k];
    gru_forward(model, pass);
    return gru_loss(model, pass);
}

/* The slope of the loss along random directions, by the gradient and by central differences. Returns the worst
 * difference between the two, relative to the length of the gradient; rounding to f32 alone makes about 1e-4. */
static double worst_slope(gru *model, gru_pass *pass, gru_tensor *tensor, uint64_t *rng) {
    const float by = 0.02f;
    double worst = 0;
    float *origin = malloc((size_t)tensor->size * sizeof(float)), *way = malloc((size_t)tensor->size * sizeof(float));
    if (!origin || !way) fail("not enough memory");
    memcpy(origin, tensor->param, (size_t)tensor->size * sizeof(float));
    for (int trial = 0; trial < 20; trial++) {
        double slope = 0, length = 0, norm = sqrt((double)tensor->size);
        for (int64_t k = 0; k < tensor->size; k++) {
            way[k] = (rng_bits(rng) >> 63 ? 1 : -1) / (float)norm;
            slope += (double)tensor->grad[k] * way[k];
            length += (double)tensor->grad[k] * tensor->grad[k];
        }
        double forwards = loss_at(model, pass, tensor, origin, way, by);
        double backwards = loss_at(model, pass, tensor, origin, way, -by);
        worst = fmax(worst, fabs((forwards - backwards) / (2 * by) - slope) / sqrt(length));
    }
    memcpy(tensor->param, origin, (size_t)tensor->size * sizeof(float));
    free(origin);
    free(way);
    return worst;
}

static int check_gradients(gru *model, gru_pass *pass, const text *t) {
    uint64_t rng = 7;
    int wrong = 0;
    text_draw(t, pass, 0, train_size(t), 1);
    for (int k = 0; k < pass->batch * model->hidden; k++) pass->h[k] = rng_uniform(&rng) - 0.5f;
    gru_forward(model, pass);
    gru_loss(model, pass);
    gru_backward(model, pass);
    for (int i = 0; i < GRU_TENSORS; i++) {
        double worst = worst_slope(model, pass, &model->tensor[i], &rng);
        const char *verdict = worst < 1e-3 ? "ok" : "WRONG";
        wrong += worst >= 1e-3;
        printf("%-14s   slopes differ by %.1e of the gradient: %s\n", model->tensor[i].name, worst, verdict);
    }
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- The program ------------------------------------------------------------------------------------------------- */

static int train_and_sample(gru *model, gru_pass *pass, const text *t, const settings *s) {
    lopt_optimizer *opt = create_optimizer(model, s);
    if (s->resume) check(lopt_restore(opt, s->checkpoint, LOPT_WITH_PARAMETERS));
    else if (access(s->checkpoint, F_OK) == 0) printf("%s will be overwritten (--resume continues)\n", s->checkpoint);
    lopt_information info = {.struct_size = sizeof info};
    check(lopt_info(opt, &info));
    printf("%s: %d characters, %d different; %lld parameters; ", s->text, t->size, t->vocab, (long long)info.parameters);
    printf("starting at step %lld of %d\n", (long long)steps_taken(opt), s->steps);

    catch_interrupt();
    train(model, opt, pass, t, s);
    long long steps = steps_taken(opt);
    lopt_destroy(opt);
    if (interrupted) {
        printf("interrupted after step %lld, saved in %s: --resume continues\n", steps, s->checkpoint);
        return 130; /* what a shell reports for a program that SIGINT ended */
    }
    printf("held-out text: %.4f bits/char; checkpoint in %s\n\n", held_out_bits(model, pass, t), s->checkpoint);
    write_sample(model, t, s->sample, (uint64_t)s->seed);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    settings s = parse_options(argc, argv);
    const char *here = "data/text/shakespeare.txt", *above = "../data/text/shakespeare.txt";
    if (!s.text) s.text = access(here, R_OK) == 0 ? here : above;
    if (s.check_gradients) s.hidden = 8, s.batch = 3, s.length = 6; /* in a small model a wrong term shows best */

    text t = read_text(s.text, s.length);
    gru model;
    gru_pass pass;
    if (!gru_create(&model, t.vocab, s.hidden) || !gru_pass_create(&pass, &model, s.batch, s.length))
        fail("not enough memory");
    gru_initialize(&model, (uint64_t)s.seed);
    int status = s.check_gradients ? check_gradients(&model, &pass, &t) : train_and_sample(&model, &pass, &t, &s);

    gru_pass_destroy(&pass);
    gru_destroy(&model);
    free(t.character);
    finish_output();
    return status;
}
