#include "digits_data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

enum { IDX_MAX_DIMENSIONS = 3 };

static bool complain(const char *path, const char *reason) {
    fprintf(stderr, "%s: %s\n", path, reason);
    return false;
}

static uint32_t big_endian(const unsigned char *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Reads the header of an IDX file: two zero bytes, type 8 (unsigned byte), the number of dimensions, each dimension as a
 * big-endian 32-bit integer. Nothing in it is trusted: sizes are bounded before anyone allocates by them. */
static bool read_header(FILE *file, const char *path, int dimensions, int shape[IDX_MAX_DIMENSIONS]) {
    unsigned char header[4 + 4 * IDX_MAX_DIMENSIONS];
    size_t size = 4 + 4 * (size_t)dimensions;
    if (fread(header, 1, size, file) != size) return complain(path, "too short to be an IDX file");
    if (header[0] == 0x1f && header[1] == 0x8b) return complain(path, "is compressed: uncompress it with gunzip first");
    if (header[0] || header[1] || header[2] != 8) return complain(path, "is not an IDX file of unsigned bytes");
    if (header[3] != dimensions) return complain(path, "has another number of dimensions than expected");
    for (int i = 0; i < dimensions; i++) {
        uint32_t extent = big_endian(header + 4 + 4 * i);
        if (extent == 0 || extent > (i == 0 ? 10000000u : 256u)) return complain(path, "has a dimension out of range");
        shape[i] = (int)extent;
    }
    return true;
}

/* Reads a whole IDX file; *bytes must be freed. */
static bool read_idx(const char *path, int dimensions, int shape[IDX_MAX_DIMENSIONS], unsigned char **bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) return complain(path, strerror(errno));
    *bytes = NULL;
    bool ok = read_header(file, path, dimensions, shape);
    if (ok) {
        size_t size = 1;
        for (int i = 0; i < dimensions; i++) size *= (size_t)shape[i];
        *bytes = malloc(size);
        if (!*bytes) {
            ok = complain(path, "not enough memory");
        } else if (fread(*bytes, 1, size, file) != size || fgetc(file) != EOF) {
            ok = complain(path, "its length is not what its header says");
        }
    }
    if (!ok) {
        free(*bytes);
        *bytes = NULL;
    }
    fclose(file);
    return ok;
}

static bool load(const char *folder, const char *image_file, const char *label_file, float scale, dataset *data) {
    char path[4096];
    int shape[IDX_MAX_DIMENSIONS] = {0}, labels[IDX_MAX_DIMENSIONS] = {0};
    memset(data, 0, sizeof *data);
    snprintf(path, sizeof path, "%s/%s", folder, image_file);
    if (!read_idx(path, 3, shape, &data->images)) return false;
    snprintf(path, sizeof path, "%s/%s", folder, label_file);
    bool ok = read_idx(path, 1, labels, &data->labels);
    if (ok && labels[0] != shape[0]) ok = complain(path, "has another number of labels than there are images");
    for (int i = 0; ok && i < labels[0]; i++)
        if (data->labels[i] > 9) ok = complain(path, "has a label above 9");
    if (!ok) {
        dataset_free(data);
        return false;
    }
    data->count = shape[0];
    data->pixels = shape[1] * shape[2];
    data->scale = scale;
    return true;
}

bool digits_load(const char *folder, dataset *all) {
    return load(folder, "images-idx3-ubyte", "labels-idx1-ubyte", 1.0f / 16, all);
}

bool mnist_load(const char *folder, dataset *train, dataset *test) {
    if (!load(folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", 1.0f / 255, train)) return false;
    bool ok = load(folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 1.0f / 255, test);
    if (ok && test->pixels != train->pixels) {
        ok = complain(folder, "training and test images differ in size");
        dataset_free(test);
    }
    if (!ok) dataset_free(train);
    return ok;
}

/* Copies the images order[0], ..., order[count - 1]. */
static bool take(const dataset *from, const int *order, int count, dataset *to) {
    size_t pixels = (size_t)from->pixels;
    *to = *from;
    to->count = count;
    to->images = malloc((size_t)count * pixels);
    to->labels = malloc((size_t)count);
    if (!to->images || !to->labels) {
        dataset_free(to);
        return complain("digits", "not enough memory");
    }
    for (int i = 0; i < count; i++) {
        memcpy(to->images + (size_t)i * pixels, from->images + (size_t)order[i] * pixels, pixels);
        to->labels[i] = from->labels[order[i]];
    }
    return true;
}

bool digits_split(const dataset *all, uint64_t seed, dataset *train, dataset *test) {
    int test_count = (all->count + 4) / 5;
    int *order = malloc((size_t)all->count * sizeof *order);
    if (!order) return complain("digits", "not enough memory");
    for (int i = 0; i < all->count; i++) { /* a Fisher-Yates shuffle, built from the front */
        int j = rng_below(&seed, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    bool ok = take(all, order, test_count, test);
    if (ok && !take(all, order + test_count, all->count - test_count, train)) {
        dataset_free(test);
        ok = false;
    }
    free(order);
    return ok;
}

void dataset_free(dataset *data) {
    free(data->images);
    free(data->labels);
    memset(data, 0, sizeof *data);
}
