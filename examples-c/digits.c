/* Trains a network on handwritten digits with lopt and with Adam at seven learning rates, and compares them.
 *
 *     make digits && ./digits --help
 *
 * Every run starts from the same parameters and sees the same minibatches in the same order. The network is in mlp.c,
 * Adam in adam.c, the images in digits_data.c. All that lopt needs is in create_optimizer and optimizer_step below.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <lopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adam.h"
#include "digits_data.h"
#include "digits_options.h"
#include "mlp.h"
#include "rng.h"
#include "sgemm.h"

enum { CLASSES = 10, RUNS = 8, CURVE_POINTS = 100 };

/* Run 0 is lopt, which has no learning rate. */
static const double learning_rate[RUNS] = {0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1};

typedef struct result {
    double train_loss, test_loss, accuracy; /* of the final parameters, over all training or test images           */
    double step_ms, optimizer_ms;           /* per step: all of it, and the part of it in the optimizer            */
} result;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("digits: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

static void check(lopt_status status) {
    if (status < 0) fail("lopt: %s: %s", lopt_status_string(status), lopt_last_error());
}

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static const char *run_name(int run) {
    static char name[32];
    if (run == 0) return "lopt";
    snprintf(name, sizeof name, "Adam lr %g", learning_rate[run]);
    return name;
}

/* ---- The optimizer: lopt or Adam -------------------------------------------------------------------------------- */

typedef struct optimizer {
    lopt_optimizer *lopt; /* NULL: Adam */
    adam adam;
} optimizer;

static lopt_weights *load_weights(const char *which) {
    lopt_weights *weights = NULL;
    const char *dot = which ? strrchr(which, '.') : NULL;
    if (dot && strcmp(dot, ".safetensors") == 0) check(lopt_weights_load(which, NULL, &weights));
    else check(lopt_weights_builtin(which, NULL, &weights));
    return weights;
}

static optimizer create_optimizer(int run, mlp *net, const digits_options *options) {
    optimizer opt = {0};
    if (run > 0) {
        if (!adam_create(&opt.adam, net->size, learning_rate[run], options->weight_decay)) fail("not enough memory");
        return opt;
    }
    lopt_options settings;
    check(lopt_options_init(&settings, sizeof settings));
    settings.threads = options->threads;
    settings.total_steps = options->cosine ? 0 : options->steps; /* one end of the run is enough */
    settings.weight_decay = options->weight_decay;
    settings.learned_decay_scale = options->learned_decay;
    settings.momentum_type = options->bf16_momenta ? LOPT_BF16 : LOPT_F32;

    lopt_weights *weights = load_weights(options->weights);
    check(lopt_create(weights, &settings, &opt.lopt));
    lopt_weights_free(weights); /* lopt_create has copied them */

    for (int l = 0; l < net->layers; l++) {
        char name[32];
        int64_t shape[2] = {net->width[l + 1], net->width[l]};
        snprintf(name, sizeof name, "layer%d.weight", l);
        check(lopt_add_tensor(opt.lopt, name, net->w[l], net->dw[l], shape, 2, NULL));
        snprintf(name, sizeof name, "layer%d.bias", l);
        check(lopt_add_tensor(opt.lopt, name, net->b[l], net->db[l], shape, 1, NULL));
    }
    return opt;
}

static void optimizer_step(optimizer *opt, mlp *net, double lr_scale) {
    if (opt->lopt) {
        check(lopt_set_lr_scale(opt->lopt, lr_scale));
        check(lopt_step(opt->lopt));
    } else {
        adam_step(&opt->adam, net->params, net->grads, lr_scale);
    }
}

static void destroy_optimizer(optimizer *opt) {
    lopt_destroy(opt->lopt);
    adam_destroy(&opt->adam);
}

/* ---- Progress: one line that is rewritten on a terminal, a line every five seconds elsewhere ---------------------- */

static void show_progress(int seed, int run, int step, const digits_options *options, double loss) {
    static double last = 0;
    bool terminal = isatty(STDOUT_FILENO);
    double now = milliseconds();
    if (last == 0) last = now;
    if (now - last < (terminal ? 100 : 5000)) return;
    last = now;
    printf("%s", terminal ? "\r\033[K" : "");
    printf("run %d of %d   ", seed * RUNS + run + 1, options->seeds * RUNS);
    printf("%-14s   step %d of %d   loss %.3g", run_name(run), step, options->steps, loss);
    printf("%s", terminal ? "" : "\n");
    fflush(stdout);
}

static void clear_progress(void) {
    if (isatty(STDOUT_FILENO)) printf("\r\033[K");
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */

/* Copies images to the network's input. order NULL: first, first + 1, ... */
static void gather(mlp *net, const dataset *data, const int *order, int first, int rows, unsigned char *labels) {
    for (int r = 0; r < rows; r++) {
        int image = order ? order[first + r] : first + r;
        const unsigned char *from = data->images + (size_t)image * (size_t)data->pixels;
        float *to = net->act[0] + (size_t)r * (size_t)data->pixels;
        for (int i = 0; i < data->pixels; i++) to[i] = data->scale * from[i];
        labels[r] = data->labels[image];
    }
}

/* The mean loss over a whole set; *accuracy receives the share of it that is classified right. */
static double evaluate(mlp *net, const dataset *data, unsigned char *labels, double *accuracy) {
    double loss = 0, right = 0;
    for (int first = 0; first < data->count; first += net->batch) {
        int correct, rows = data->count - first < net->batch ? data->count - first : net->batch;
        gather(net, data, NULL, first, rows, labels);
        loss += mlp_loss(net, labels, rows, &correct);
        right += correct;
    }
    *accuracy = right / data->count;
    return loss / data->count;
}

static void shuffle(int *order, int count, uint64_t *rng) {
    for (int i = count - 1; i > 0; i--) {
        int j = rng_below(rng, i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* One whole training from the seed's initial parameters. `seed` counts from 0. */
static result train(int run, int seed, const digits_options *options, mlp *net, const dataset *train_set,
                    const dataset *test_set, FILE *csv) {
    result r = {0};
    double unused, curve_sum = 0;
    int correct, curve_count = 0, position = train_set->count; /* past the end: the first step shuffles */
    int interval = options->steps < CURVE_POINTS ? 1 : options->steps / CURVE_POINTS;
    uint64_t rng = ~(uint64_t)(options->seed + seed); /* any number that all runs of a seed share */
    int *order = malloc((size_t)train_set->count * sizeof *order);
    unsigned char *labels = malloc((size_t)options->batch);
    if (!order || !labels) fail("not enough memory");
    for (int i = 0; i < train_set->count; i++) order[i] = i;

    mlp_initialize(net, (uint64_t)(options->seed + seed));
    optimizer opt = create_optimizer(run, net, options);
    for (int step = 0; step < options->steps; step++) {
        double start = milliseconds();
        if (position + options->batch > train_set->count) {
            shuffle(order, train_set->count, &rng);
            position = 0;
        }
        gather(net, train_set, order, position, options->batch, labels);
        position += options->batch;
        double loss = mlp_loss(net, labels, options->batch, &correct) / options->batch;
        mlp_backward(net, options->batch);

        double before = milliseconds(), progress = (double)step / options->steps;
        optimizer_step(&opt, net, options->cosine ? 0.5 + 0.5 * cos(3.14159265358979 * progress) : 1);
        double end = milliseconds();
        r.step_ms += (end - start) / options->steps;
        r.optimizer_ms += (end - before) / options->steps;

        show_progress(seed, run, step, options, loss);
        curve_sum += loss;
        curve_count++;
        if (csv && (step + 1) % interval == 0) {
            double test_loss = evaluate(net, test_set, labels, &unused);
            fprintf(csv, "%s,%g,%d,%d,%.6g,%.6g\n", run ? "adam" : "lopt", learning_rate[run],
                    options->seed + seed, step + 1, curve_sum / curve_count, test_loss);
            curve_sum = curve_count = 0;
        }
    }
    r.train_loss = evaluate(net, train_set, labels, &unused);
    r.test_loss = evaluate(net, test_set, labels, &r.accuracy);
    destroy_optimizer(&opt);
    free(labels);
    free(order);
    return r;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

static void print_loss(double loss, double best) {
    if (isfinite(loss)) printf("   %10.3g%s", loss, loss == best ? " *" : "  ");
    else printf("   %10s  ", "diverged");
}

static void print_table(const result *results, const digits_options *options) {
    result best = results[0];
    for (int i = 1; i < RUNS; i++) { /* fmin passes over NaN */
        best.train_loss = fmin(best.train_loss, results[i].train_loss);
        best.test_loss = fmin(best.test_loss, results[i].test_loss);
        best.accuracy = fmax(best.accuracy, results[i].accuracy);
    }
    printf("\n%-14s   %10s     %10s     %9s     %6s   %7s   %s\n", "optimizer", "train loss", "test loss", "accuracy",
           "steps", "ms/step", "in optimizer");
    for (int i = 0; i < RUNS; i++) {
        printf("%-14s", run_name(i));
        print_loss(results[i].train_loss, best.train_loss);
        print_loss(results[i].test_loss, best.test_loss);
        printf("   %7.2f %%%s", 100 * results[i].accuracy, results[i].accuracy == best.accuracy ? " *" : "  ");
        printf("   %6d   %7.3f   %12.4f\n", options->steps, results[i].step_ms, results[i].optimizer_ms);
    }
    printf("* the best of its column. ");
    if (options->seeds > 1) printf("Every figure is the mean over %d seeds.\n", options->seeds);
    else printf("One seed is an anecdote: --seeds 5 gives means.\n");
}

/* Where run 0, lopt, stands in one column of the table; lower is better. An Adam that diverged is worse than any.
 * Returns true if lopt is the best. */
static bool print_standing(const char *column, const double *values) {
    int beaten = 0, best = 0;
    bool finite = isfinite(values[0]);
    for (int i = 1; i < RUNS; i++) {
        if (finite && !(values[i] <= values[0])) beaten++;
        if (isfinite(values[i]) && (best == 0 || values[i] < values[best])) best = i;
    }
    printf("  %s   lower than Adam's at %d of %d learning rates", column, beaten, RUNS - 1);
    if (finite && best && values[best] > 0)
        printf("; %.3g times Adam's lowest (lr %g)", values[0] / values[best], learning_rate[best]);
    printf("\n");
    return beaten == RUNS - 1;
}

static void print_verdict(const result *results, const digits_options *options) {
    double train[RUNS], test[RUNS], error[RUNS], adam_ms = 0, adam_step_ms = 0;
    for (int i = 0; i < RUNS; i++) {
        train[i] = results[i].train_loss;
        test[i] = results[i].test_loss;
        error[i] = 1 - results[i].accuracy;
        if (i > 0) adam_ms += results[i].optimizer_ms / (RUNS - 1), adam_step_ms += results[i].step_ms / (RUNS - 1);
    }
    printf("\nlopt was not tuned");
    if (options->learned_decay != 1) printf(", but for its own weight decay times %g", options->learned_decay);
    if (options->weight_decay > 0) printf("; it and every Adam ran with weight decay %g", options->weight_decay);
    printf("; which Adam is best is known only after all %d have run.\n", RUNS - 1);
    bool best_train = print_standing("train loss", train);
    bool best_test = print_standing("test loss ", test);
    print_standing("test error", error);
    printf("  time         a step takes %.2f times as long as with Adam; the optimizer alone, %.1f times\n",
           results[0].step_ms / adam_step_ms, results[0].optimizer_ms / adam_ms);
    if (best_train && !best_test && options->weight_decay == 0)
        printf("lopt fits the training images best but not the test images: it overfits. --weight-decay 0.1, what\n"
               "AdamW takes, works against that, for lopt and Adam alike.\n");
}

/* ---- The program ------------------------------------------------------------------------------------------------- */

static void load_images(const digits_options *options, dataset *all, dataset *train_set, dataset *test_set) {
    if (options->mnist) {
        if (!mnist_load(options->mnist, train_set, test_set)) fail("--mnist DIR has the four files, after gunzip");
        return;
    }
    const char *folder = options->digits;
    if (!folder) folder = access("data/digits", R_OK) == 0 ? "data/digits" : "../data/digits";
    if (!digits_load(folder, all)) fail("--digits DIR says where the 8 x 8 digits are, --mnist DIR where MNIST is");
}

int main(int argc, char **argv) {
    digits_options options;
    digits_options_parse(argc, argv, &options);
#ifdef OPENBLAS_VERSION
    openblas_set_num_threads(1); /* for matrices this small, waking a second thread costs more than it does */
#endif
    dataset all = {0}, train_set = {0}, test_set = {0};
    load_images(&options, &all, &train_set, &test_set);
    FILE *csv = options.csv ? fopen(options.csv, "w") : NULL;
    if (options.csv && !csv) fail("%s: %s", options.csv, strerror(errno));
    if (csv) fprintf(csv, "optimizer,learning_rate,seed,step,minibatch_loss,test_loss\n");

    result results[RUNS] = {{0}};
    for (int seed = 0; seed < options.seeds; seed++) {
        if (all.count && !digits_split(&all, (uint64_t)(options.seed + seed), &train_set, &test_set)) exit(EXIT_FAILURE);
        if (options.batch > train_set.count) fail("--batch: there are only %d training images", train_set.count);
        int width[MLP_MAX_LAYERS + 1] = {train_set.pixels};
        memcpy(width + 1, options.hidden, sizeof options.hidden);
        width[options.hidden_layers + 1] = CLASSES;
        mlp net;
        if (!mlp_create(&net, width, options.hidden_layers + 1, options.batch)) fail("not enough memory");
        if (seed == 0) {
            printf("%d training and %d test images of %d pixels; network", train_set.count, test_set.count, width[0]);
            for (int l = 0; l <= net.layers; l++) printf("%s%d", l ? "-" : " ", width[l]);
            printf(", %zu parameters; minibatches of %d.\n", net.size, options.batch);
        }
        for (int run = 0; run < RUNS; run++) {
            result r = train(run, seed, &options, &net, &train_set, &test_set, csv);
            results[run].train_loss += r.train_loss / options.seeds;
            results[run].test_loss += r.test_loss / options.seeds;
            results[run].accuracy += r.accuracy / options.seeds;
            results[run].step_ms += r.step_ms / options.seeds;
            results[run].optimizer_ms += r.optimizer_ms / options.seeds;
        }
        mlp_destroy(&net);
        if (all.count || seed + 1 == options.seeds) {
            dataset_free(&train_set);
            dataset_free(&test_set);
        }
    }
    dataset_free(&all);
    clear_progress();
    print_table(results, &options);
    print_verdict(results, &options);
    if (csv && (ferror(csv) | fclose(csv)) != 0) fail("%s: cannot be written", options.csv);
    if (fflush(stdout) != 0 || ferror(stdout)) fail("the output cannot be written");
    return EXIT_SUCCESS;
}
