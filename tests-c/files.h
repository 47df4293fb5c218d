/* Files of the tests: a directory of their own under TMPDIR, whole files in memory. */
#ifndef LOPT_FILES_H
#define LOPT_FILES_H

#include "check.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static char files_directory[200];

static inline void files_start(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(files_directory, sizeof files_directory, "%s/lopt-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(files_directory)) {
        printf("the test cannot make a directory %s\n", files_directory);
        exit(2);
    }
}

/* "<directory>/<name>" in one of a few buffers that take turns. */
static inline const char *files_path(const char *name) {
    static char paths[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", files_directory, name);
    return paths[turn];
}

/* A file of the repository. The tests run in its root, or LOPT_SOURCE_DIR says where it is. */
static inline const char *files_source(const char *name) {
    static char paths[4][1024];
    static int turn;
    const char *root = getenv("LOPT_SOURCE_DIR");
    turn = (turn + 1) % 4;
    snprintf(paths[turn], sizeof paths[turn], "%s%s%s", root ? root : "", root ? "/" : "", name);
    return paths[turn];
}

/* How many names are in a directory, but . and .. */
static inline int files_count(const char *directory) {
    DIR *d = opendir(directory);
    struct dirent *entry;
    int count = 0;
    if (!d) return -1;
    while ((entry = readdir(d))) count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(d);
    return count;
}

/* The bytes of a file, which the caller frees, or NULL. */
static inline void *files_read(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    void *bytes = check_memory(*size);
    size_t count = fread(bytes, 1, *size, f);
    fclose(f);
    if (count == *size) return bytes;
    free(bytes);
    return NULL;
}

static inline void files_write(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!CHECK(f != NULL)) return;
    CHECK(fwrite(bytes, 1, size, f) == size);
    CHECK(fclose(f) == 0);
}

/* Removes the directory with what is left in it. */
static inline void files_end(void) {
    DIR *d = opendir(files_directory);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        const char *path = files_path(entry->d_name);
        if (remove(path) != 0) printf("left behind: %s\n", path);
    }
    if (d) closedir(d);
    rmdir(files_directory);
}

#endif
