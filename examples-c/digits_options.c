#include "digits_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Trains the same network on handwritten digits with lopt and with Adam at seven learning rates: the same initial\n"
    "parameters, the same minibatches, and at the end a table.\n"
    "\n"
    "usage: digits [options]\n"
    "\n"
    "  --steps N         training steps of each run                      (default 1000)\n"
    "  --batch N         images per minibatch                            (64)\n"
    "  --hidden A,B,...  widths of the hidden layers, 0 for none         (64,64)\n"
    "  --seed N          the first seed: of the split, the parameters, the minibatches (1)\n"
    "  --seeds N         number of seeds; the table has the means        (5)\n"
    "  --lr-cosine       decay every learning rate, and lopt's steps, to 0 along a cosine\n"
    "  --digits DIR      the 8 x 8 digits                                (data/digits or ../data/digits)\n"
    "  --mnist DIR       train on MNIST instead: the four uncompressed files train-images-idx3-ubyte, ...\n"
    "  --weights W       lopt's weights: a .safetensors file or the name of a built-in set (pooled)\n"
    "  --weight-decay X  of lopt and of Adam: a step also takes step size times X off a parameter (0)\n"
    "  --learned-decay X multiplies the weight decay that lopt's weights choose themselves, 0 to 1000 (1)\n"
    "  --bf16-momenta    lopt's state in 8 bytes a parameter in place of 12\n"
    "  --threads N       threads that lopt may use, 0: one per processor (0)\n"
    "  --csv FILE        write the loss curves\n"
    "  --help            this text\n";

static void fail(const char *option, const char *reason) {
    fprintf(stderr, "digits: %s: %s\nusage: digits [options]     (--help lists them)\n", option, reason);
    exit(2);
}

static int parse_integer(const char *option, const char *value, int lowest, int highest) {
    char *end, reason[80];
    long number = strtol(value, &end, 10); /* out of range, it returns LONG_MIN or LONG_MAX */
    if (end == value || *end || number < lowest || number > highest) {
        snprintf(reason, sizeof reason, "not an integer from %d to %d", lowest, highest);
        fail(option, reason);
    }
    return (int)number;
}

static double parse_number(const char *option, const char *value, int most) {
    char *end, reason[80];
    double number = strtod(value, &end);
    if (end == value || *end || !(number >= 0 && number <= most)) {
        snprintf(reason, sizeof reason, "not a number from 0 to %d", most);
        fail(option, reason);
    }
    return number;
}

static void parse_hidden(const char *value, digits_options *options) {
    const char *text = value;
    options->hidden_layers = 0;
    if (strcmp(value, "0") == 0) return;
    for (;;) {
        char *end;
        long width = strtol(text, &end, 10);
        bool ok = end != text && width >= 1 && width <= 4096 && (*end == 0 || *end == ',');
        if (!ok || options->hidden_layers == MLP_MAX_LAYERS - 1)
            fail("--hidden", "not a list of up to 15 widths from 1 to 4096 such as 64,64");
        options->hidden[options->hidden_layers++] = (int)width;
        if (!*end) return;
        text = end + 1;
    }
}

void digits_options_parse(int argc, char **argv, digits_options *options) {
    *options = (digits_options){.steps = 1000, .batch = 64, .seed = 1, .seeds = 5, .learned_decay = 1};
    parse_hidden("64,64", options);
    const struct { const char *name; int *value, lowest, highest; } numbers[] = {
        {"--steps", &options->steps, 1, 10000000}, {"--batch", &options->batch, 1, 4096},
        {"--seed", &options->seed, 0, 1000000000}, {"--seeds", &options->seeds, 1, 1000},
        {"--threads", &options->threads, 0, 256},
    };
    const struct { const char *name, **value; } texts[] = {
        {"--digits", &options->digits}, {"--mnist", &options->mnist},
        {"--weights", &options->weights}, {"--csv", &options->csv},
    };
    const int number_count = sizeof numbers / sizeof *numbers, text_count = sizeof texts / sizeof *texts;

    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--help") == 0) {
            if (fputs(help, stdout) >= 0 && fflush(stdout) == 0) exit(EXIT_SUCCESS);
            fputs("digits: the output cannot be written\n", stderr);
            exit(EXIT_FAILURE);
        }
        if (strcmp(option, "--lr-cosine") == 0) {
            options->cosine = true;
            continue;
        }
        if (strcmp(option, "--bf16-momenta") == 0) {
            options->bf16_momenta = true;
            continue;
        }
        const char *value = argv[++i]; /* argv ends with NULL */
        int n = 0, t = 0;
        while (n < number_count && strcmp(option, numbers[n].name) != 0) n++;
        while (t < text_count && strcmp(option, texts[t].name) != 0) t++;
        bool hidden = strcmp(option, "--hidden") == 0, decay = strcmp(option, "--weight-decay") == 0;
        bool learned = strcmp(option, "--learned-decay") == 0;
        if (n == number_count && t == text_count && !hidden && !decay && !learned) fail(option, "unknown option");
        if (!value) fail(option, "a value is missing");
        if (n < number_count) *numbers[n].value = parse_integer(option, value, numbers[n].lowest, numbers[n].highest);
        else if (t < text_count) *texts[t].value = value;
        else if (decay) options->weight_decay = parse_number(option, value, 1);
        else if (learned) options->learned_decay = parse_number(option, value, 1000);
        else parse_hidden(value, options);
    }
}
