/* A checkpoint that another tool has written anew holds the same arrays in another order, under a header of another form: it
 * restores to the same bits. What has been damaged, before or after, is refused; so is what was renamed on the way, unless the
 * data lie as they did. Checkpoints of 0.1.0, which say no digest of their content, restore as they lie. */
#define _GNU_SOURCE
#include "files.h"
#include "problem.h"

enum { ARRAYS = 64 };

typedef struct array {
    char name[64], type[8], shape[64]; /* as the header spells them */
    size_t begin, size;
} array;

/* A checkpoint taken apart. */
typedef struct parts {
    int count;
    array arrays[ARRAYS];
    char metadata[512]; /* what is between the braces */
    const char *data;
} parts;

static lopt_optimizer *opt; /* at another place of its training than the checkpoint */
static problem host;
static snapshot good, live;

static void add_tensors(problem *p) {
    memset(p, 0, sizeof *p);
    problem_add(p, "matrix", 2, (int64_t[]){2, 3});
    problem_add(p, "größe/\\\"q\"", 1, (int64_t[]){3});
    problem_add(p, "twin", 2, (int64_t[]){2, 3});
    problem_add(p, "number", 0, NULL);
    problem_add(p, "none", 2, (int64_t[]){0, 4});
    problem_start(p);
}

static lopt_optimizer *make(problem *p, int steps) {
    lopt_options options = problem_options();
    lopt_optimizer *made = problem_optimizer(p, "star", &options); /* 0.1.0's, which has arrays of every kind */
    problem_train(p, made, 0, steps);
    return made;
}

static parts take_apart(const snapshot *s) {
    parts p = {.count = 0};
    uint64_t size = 0;
    memcpy(&size, s->bytes, 8);
    p.data = (char *)s->bytes + 8 + size;
    char *header = check_memory(size + 1), *at = header;
    memcpy(header, (char *)s->bytes + 8, size);
    int read = 0;
    CHECK_INT(sscanf(at, "{\"__metadata__\":{%511[^}]}%n", p.metadata, &read), 1);
    at += read;
    while (*at == ',' && p.count < ARRAYS) {
        array *a = &p.arrays[p.count++];
        size_t end = 0;
        char *fields = strstr(at, ":{\"dtype\":");
        snprintf(a->name, sizeof a->name, "%.*s", (int)(fields - at - 1), at + 1);
        CHECK_INT(sscanf(fields, ":{\"dtype\":\"%7[^\"]\",\"shape\":%63[^]]],\"data_offsets\":[%zu,%zu]}%n", a->type, a->shape,
                         &a->begin, &end, &read), 4);
        a->size = end - a->begin;
        at = fields + read;
    }
    CHECK_INT(*at, '}');
    free(header);
    return p;
}

/* A file of these arrays, their data in the order `data` and listed in the order `listed`; `space` goes between words. */
static snapshot put_together(const parts *p, const int *data, const int *listed, const char *space) {
    size_t begins[ARRAYS], total = 0, most = 4096 + 512 * (size_t)p->count;
    char *header = check_memory(most), *at = header;
    for (int i = 0; i < p->count; i++) begins[data[i]] = total, total += p->arrays[data[i]].size;
    at += sprintf(at, "{%s\"__metadata__\":%s{%s}", space, space, p->metadata);
    for (int i = 0; i < p->count; i++) {
        const array *a = &p->arrays[listed[i]];
        at += sprintf(at, ",%s%s:%s{\"dtype\":\"%s\",\"shape\":%s],%s\"data_offsets\":[%zu,%s%zu]}", space, a->name, space, a->type,
                      a->shape, space, begins[listed[i]], space, begins[listed[i]] + a->size);
    }
    at += sprintf(at, "}");
    uint64_t size = (uint64_t)(at - header);
    snapshot s = {8 + size + total, check_memory(8 + size + total)};
    memcpy(s.bytes, &size, 8);
    memcpy((char *)s.bytes + 8, header, size);
    for (int i = 0; i < p->count; i++) {
        memcpy((char *)s.bytes + 8 + size + begins[i], p->data + p->arrays[i].begin, p->arrays[i].size);
    }
    free(header);
    return s;
}

static void check_accepted(const snapshot *s) {
    if (!CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s->bytes, s->size))) return;
    CHECK_SAME_STATE(opt, &good);
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
    files_write(files_path("resaved"), s->bytes, s->size);
    CHECK_OK(lopt_restore(opt, files_path("resaved"), LOPT_WITH_PARAMETERS));
    CHECK_SAME_STATE(opt, &good);
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
    remove(files_path("resaved"));
}

static void check_refused(const snapshot *s, const char *message) {
    CHECK_STATUS(lopt_state_read(opt, LOPT_WITH_PARAMETERS, s->bytes, s->size), LOPT_ERROR_CHECKPOINT);
    CHECK_MESSAGE(message);
    CHECK_SAME_STATE(opt, &live);
}

static int in_order[ARRAYS];

static void shuffle(int *order, int count, uint64_t seed) {
    memcpy(order, in_order, sizeof in_order);
    for (int i = count - 1; i > 0; i--) {
        int j = (int)((1 + (double)problem_random(seed, (uint64_t)i)) / 2 * (i + 1)), was = order[i];
        order[i] = order[j], order[j] = was;
    }
}

/* As the Python package orders arrays: wide elements first, then by name. */
static const parts *sorted_parts;

static int compare(const void *a, const void *b) {
    const array *x = &sorted_parts->arrays[*(const int *)a], *y = &sorted_parts->arrays[*(const int *)b];
    int wide = (strstr(y->type, "64") != NULL) - (strstr(x->type, "64") != NULL);
    return wide ? wide : strcmp(x->name, y->name);
}

static void python_order(const parts *p, int *order) {
    memcpy(order, in_order, sizeof in_order);
    sorted_parts = p;
    qsort(order, (size_t)p->count, sizeof *order, compare);
}

static void check_order(const parts *p, const int *data, const int *listed, const char *space) {
    snapshot s = put_together(p, data, listed, space);
    check_accepted(&s);
    snapshot_free(&s);
}

static void test_arrays_in_any_order_are_restored(const parts *p) {
    int data[ARRAYS], listed[ARRAYS];
    check_order(p, in_order, in_order, "");
    for (int i = 0; i < p->count; i++) data[i] = p->count - 1 - i;
    check_order(p, data, in_order, " ");
    check_order(p, data, data, "\n\t");
    python_order(p, data);
    check_order(p, data, data, "");
    for (uint64_t seed = 0; seed < (uint64_t)check_repetitions(300, 20); seed++) {
        check_context("order %llu", (unsigned long long)seed);
        shuffle(data, p->count, seed), shuffle(listed, p->count, 1000 + seed);
        check_order(p, data, listed, "");
    }
    check_context("");
    /* Notes of a tool's own, and a name spelled as Python's json spells it. */
    parts q = *p;
    snprintf(q.metadata + strlen(q.metadata), 64, ",\"epoch\":\"3\"");
    int spelled = 0;
    for (int i = 0; i < q.count; i++) {
        char rest[64], *at = strstr(q.arrays[i].name, "öße");
        if (!at) continue;
        snprintf(rest, sizeof rest, "%s", at + strlen("öße"));
        snprintf(at, sizeof rest - (size_t)(at - q.arrays[i].name), "\\u00f6\\u00dfe%s", rest);
        spelled++;
    }
    CHECK_INT(spelled, 6);
    check_order(&q, data, listed, " ");
}

/* Every byte of a file in another order, and every length: as strong as for a file of the library's own. */
static void test_every_changed_byte_is_refused(const parts *p) {
    int data[ARRAYS];
    python_order(p, data);
    snapshot s = put_together(p, data, data, "");
    char *bytes = s.bytes;
    uint64_t header = 0;
    memcpy(&header, bytes, 8);
    static const unsigned char masks[] = {0xff, 0x01, 0x80, 0x20};
    for (size_t i = 0; i < s.size; i++) {
        for (int m = 0; m < check_repetitions(4, 1); m++) {
            check_context("byte %zu of %zu, mask %02x", i, s.size, masks[m]);
            bytes[i] = (char)(bytes[i] ^ masks[m]);
            lopt_status status = lopt_state_read(opt, LOPT_WITH_PARAMETERS, bytes, s.size);
            if (status == LOPT_OK) {
                CHECK(i < 8 + header);
                CHECK_SAME_STATE(opt, &good);
                CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
            } else {
                CHECK(status == LOPT_ERROR_CHECKPOINT || status == LOPT_ERROR_MISMATCH);
                CHECK_SAME_STATE(opt, &live);
            }
            bytes[i] = (char)(bytes[i] ^ masks[m]);
        }
    }
    for (size_t size = 0; size < s.size; size++) {
        char *cut = check_memory(size);
        memcpy(cut, bytes, size);
        check_context("cut at %zu of %zu", size, s.size);
        CHECK_STATUS(lopt_state_read(opt, LOPT_WITH_PARAMETERS, cut, size), LOPT_ERROR_CHECKPOINT);
        free(cut);
    }
    CHECK_SAME_STATE(opt, &live);
    check_context("");
    snapshot_free(&s);
}

/* Arrays that have changed places, names or number are not those that were written. */
static void test_other_content_is_refused(const parts *p) {
    int data[ARRAYS], pairs = 0;
    python_order(p, data);
    for (int i = 0; i < p->count; i++) {
        for (int j = 0; j < i; j++) {
            const array *a = &p->arrays[i], *b = &p->arrays[j];
            if (a->size != b->size || memcmp(p->data + a->begin, p->data + b->begin, a->size) == 0) continue;
            parts q = *p;
            q.arrays[i].begin = b->begin, q.arrays[j].begin = a->begin;
            check_context("%s and %s", a->name, b->name);
            for (int order = 0; order < 2; order++) {
                snapshot s = put_together(&q, order ? data : in_order, in_order, "");
                check_refused(&s, strcmp(a->type, b->type) == 0 ? "damaged" : ""); /* else no step counter, say */
                snapshot_free(&s);
            }
            pairs++;
        }
    }
    CHECK(pairs > 10);
    check_context("");
    parts more = *p;
    more.arrays[more.count] = more.arrays[1];
    snprintf(more.arrays[more.count++].name, 64, "\"unrelated\"");
    python_order(&more, data);
    snapshot s = put_together(&more, data, data, "");
    check_refused(&s, "damaged");
    snapshot_free(&s);
}

/* A tensor that has another name in the program now: renamed in the header, with the data as they lay. */
static void test_renamed_tensors_are_restored(const parts *p) {
    problem other;
    int data[ARRAYS];
    add_tensors(&other);
    other.tensors[2].name = "net.twin";
    lopt_optimizer *renamed = make(&other, 1);
    snapshot before = snapshot_of(renamed, LOPT_WITH_PARAMETERS);
    parts q = *p;
    for (int i = 0; i < q.count; i++) {
        char rest[64];
        if (strncmp(q.arrays[i].name, "\"twin/", 6) != 0) continue;
        snprintf(rest, sizeof rest, "%s", q.arrays[i].name + 1);
        snprintf(q.arrays[i].name, 64, "\"net.%.50s", rest);
    }
    snapshot s = put_together(&q, in_order, in_order, "");
    CHECK_OK(lopt_state_read(renamed, LOPT_WITH_PARAMETERS, s.bytes, s.size));
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, good.bytes, good.size));
    for (int i = 0; i < other.count; i++) {
        CHECK_BITS(other.tensors[i].parameter, host.tensors[i].parameter, other.tensors[i].elements);
    }
    CHECK_OK(lopt_state_read(opt, LOPT_WITH_PARAMETERS, live.bytes, live.size));
    CHECK_OK(lopt_state_read(renamed, LOPT_WITH_PARAMETERS, before.bytes, before.size));
    snapshot_free(&s);
    python_order(&q, data);
    s = put_together(&q, data, data, "");
    CHECK_STATUS(lopt_state_read(renamed, LOPT_WITH_PARAMETERS, s.bytes, s.size), LOPT_ERROR_CHECKPOINT);
    CHECK_MESSAGE("damaged");
    CHECK_SAME_STATE(renamed, &before);
    snapshot_free(&s), snapshot_free(&before);
    lopt_destroy(renamed);
    problem_free(&other);
}

/* Without one of the digests the other has to do. */
static void test_one_right_digest_is_enough(const parts *p) {
    int data[ARRAYS];
    python_order(p, data);
    for (int kept = 0; kept < 2; kept++) {
        parts q = *p;
        char *first = strstr(q.metadata, kept ? ",\"checksum\"" : ",\"content\"");
        if (!CHECK(first != NULL)) return;
        size_t length = strlen(kept ? ",\"checksum\":\"0123456789abcdef\"" : ",\"content\":\"0123456789abcdef\"");
        memmove(first, first + length, strlen(first + length) + 1);
        check_context("%s", q.metadata);
        check_order(&q, in_order, in_order, "");
        snapshot s = put_together(&q, data, data, "");
        if (kept) {
            check_accepted(&s);
        } else {
            check_refused(&s, "damaged");
        }
        ((char *)s.bytes)[s.size - 1] ^= 1;
        check_refused(&s, kept ? "checksum" : "damaged");
        snapshot_free(&s);
    }
    check_context("");
}

/* One that 0.1.0 wrote, after three steps: arrays come out as they stand in it. */
static void test_checkpoint_of_the_first_version_is_read(void) {
    problem p = {.count = 0};
    snapshot first = {0, NULL};
    first.bytes = files_read(files_source("tests-c/checkpoint-0.1.0.safetensors"), &first.size);
    if (!CHECK(first.bytes != NULL)) return;
    problem_add(&p, "a", 2, (int64_t[]){2, 3}), problem_add(&p, "b", 1, (int64_t[]){3}), problem_add(&p, "c", 0, NULL);
    lopt_optimizer *reader = make(&p, 1);
    if (CHECK_OK(lopt_state_read(reader, LOPT_WITH_PARAMETERS, first.bytes, first.size))) {
        snapshot now = snapshot_of(reader, LOPT_WITH_PARAMETERS);
        parts was = take_apart(&first), is = take_apart(&now);
        CHECK_INT(was.count, is.count);
        CHECK(!strstr(was.metadata, "\"content\"") && strstr(is.metadata, "\"content\""));
        for (int i = 0; i < was.count && i < is.count; i++) {
            CHECK_TEXT(is.arrays[i].name, was.arrays[i].name);
            CHECK(is.arrays[i].size >= was.arrays[i].size); /* options have become more */
            CHECK_BYTES(is.data + is.arrays[i].begin, was.data + was.arrays[i].begin, was.arrays[i].size);
        }
        snapshot_free(&now);
    }
    snapshot before = snapshot_of(reader, LOPT_WITH_PARAMETERS);
    ((char *)first.bytes)[first.size - 1] ^= 1;
    CHECK_STATUS(lopt_state_read(reader, LOPT_WITH_PARAMETERS, first.bytes, first.size), LOPT_ERROR_CHECKPOINT);
    CHECK_SAME_STATE(reader, &before);
    snapshot_free(&before), snapshot_free(&first);
    lopt_destroy(reader);
    problem_free(&p);
}

int main(void) {
    problem p;
    files_start();
    for (int i = 0; i < ARRAYS; i++) in_order[i] = i;
    add_tensors(&p), add_tensors(&host);
    lopt_optimizer *other = make(&p, 5);
    opt = make(&host, 2);
    good = snapshot_of(other, LOPT_WITH_PARAMETERS), live = snapshot_of(opt, LOPT_WITH_PARAMETERS);
    lopt_destroy(other);
    problem_free(&p);
    parts all = take_apart(&good);
    CHECK_INT(all.count, 1 + 2 * 7 + 3 * 6);
    test_arrays_in_any_order_are_restored(&all);
    test_every_changed_byte_is_refused(&all);
    test_other_content_is_refused(&all);
    test_renamed_tensors_are_restored(&all);
    test_one_right_digest_is_enough(&all);
    test_checkpoint_of_the_first_version_is_read();
    snapshot_free(&good), snapshot_free(&live);
    lopt_destroy(opt);
    problem_free(&host);
    files_end();
    return check_end();
}
