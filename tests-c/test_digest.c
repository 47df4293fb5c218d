/* Training gives the same bits as when digests.txt was written: no change of the code has changed the numbers. The list holds
 * on every instruction set with a fused multiply-add; digest.c says what is in it and how it is written anew. */
#define DIGEST_WITHOUT_MAIN
#include "check.h"
#include "digest.c"

enum { LISTED_MOST = 1024 };

typedef struct listed {
    int count, next, threads;
    char name[LISTED_MOST][80];
    uint64_t digest[LISTED_MOST];
} listed;

static void read_list(listed *list, const char *path) {
    char line[256], digits[40];
    FILE *file = fopen(path, "r");
    if (!CHECK(file != NULL)) return;
    while (fgets(line, sizeof line, file) && list->count < LISTED_MOST) {
        if (line[0] == '#' || line[0] == '\n') continue;
        if (!CHECK_INT(sscanf(line, "%79s %39s", list->name[list->count], digits), 2)) continue;
        list->digest[list->count++] = strtoull(digits, NULL, 16);
    }
    fclose(file);
}

static void compare(void *context, const char *name, uint64_t digest) {
    listed *list = context;
    if (!check_that(list->next < list->count, __FILE__, __LINE__, "%s is not in the list", name)) return;
    int i = list->next++;
    CHECK_TEXT(name, list->name[i]);
    check_that(digest == list->digest[i], __FILE__, __LINE__, "%s, threads %d: %016llx, listed is %016llx", name,
               list->threads, (unsigned long long)digest, (unsigned long long)list->digest[i]);
}

#if defined(__x86_64__)
static int32_t isa_in_use(void) {
    lopt_information info;
    lopt_optimizer *opt = digest_optimizer(&digest_rules[0], 1);
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    CHECK_OK(lopt_info(opt, &info));
    lopt_destroy(opt);
    return info.isa;
}
#endif

int main(void) {
#if defined(__x86_64__)
    if (isa_in_use() == LOPT_ISA_BASELINE) {
        printf("baseline x86-64 has no fused multiply-add and rounds differently\n");
        return 77;
    }
#endif
    /* memcheck does not flush denormals. */
    if (check_mode("valgrind")) return 77;
    listed *list = check_memory(sizeof *list);
    read_list(list, "tests-c/digests.txt");
    const int threads[] = {3, 1};
    for (int i = 0; i < check_repetitions(2, 1); i++) {
        list->next = 0;
        list->threads = threads[i];
        digest_all(threads[i], compare, list);
        CHECK_INT(list->next, list->count);
    }
    if (check_failed > 0) printf("digest.c says how to write the list anew, if the numbers were meant to change\n");
    free(list);
    return check_end();
}
