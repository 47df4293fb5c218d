/* How many threads of this process can run at a time: the processors that it may use (taskset, cpusets), or fewer if a control
 * group limits its processor time (a container with a quota). */
#ifndef LOPT_PROCESSORS_H
#define LOPT_PROCESSORS_H

#include "lopt_system.h"

/* ---- Sets of processors ------------------------------------------------------------------------------------------ */

typedef struct lopt_processors {
    unsigned long bits[1024 / sizeof(unsigned long)]; /* 8,192 processors */
} lopt_processors;

/* Those on which a thread (0: the calling one) may run join the set; without the system's word, none do. */
static inline void lopt_processors_add(lopt_processors *set, long thread) {
    lopt_processors own;
    memset(&own, 0, sizeof own);
    long bytes = syscall(SYS_sched_getaffinity, thread, sizeof own, own.bits);
    for (long i = 0; i < bytes / (long)sizeof own.bits[0]; i++) set->bits[i] |= own.bits[i];
}
/* Those on which any thread of the process may run. One thread alone would not tell: OpenMP and MPI bind the calling thread to
 * one processor, and others to others. The entries are those of the system call (linux_dirent64): no memory is allocated. */
static inline void lopt_processors_add_all(lopt_processors *set) {
    enum { LENGTH = 16, NAME = 19 };
    unsigned char entries[1024];
    long bytes;
    lopt_processors_add(set, 0);
    int directory = lopt_system_open_directory("/proc/self/task");
    if (directory < 0) return;
    while ((bytes = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0) {
        for (long at = 0; at < bytes; at += entries[at + LENGTH] + 256 * entries[at + LENGTH + 1]) {
            long thread = 0;
            for (const unsigned char *c = entries + at + NAME; *c >= '0' && *c <= '9'; c++) thread = 10 * thread + *c - '0';
            if (thread > 0) lopt_processors_add(set, thread);
        }
    }
    close(directory);
}
static inline int lopt_processors_count(const lopt_processors *set) {
    int count = 0;
    for (size_t i = 0; i < sizeof set->bits / sizeof set->bits[0]; i++) count += __builtin_popcountl(set->bits[i]);
    return count;
}

/* ---- Control groups ---------------------------------------------------------------------------------------------- */

/* Reads a small file, "<directory><group>/<name>" with the first `length` bytes of `group`; "" if it cannot be read. */
static inline void lopt_group_read(const char *directory, const char *group, int length, const char *name, char *text, long size) {
    char path[1024];
    text[0] = 0;
    int count = snprintf(path, sizeof path, "%s%.*s/%s", directory, length, group, name);
    int file = count < (int)sizeof path ? lopt_system_open_nonblocking(path) : -1;
    if (file < 0) return;
    long bytes = lopt_system_read_at(file, text, size - 1, 0);
    text[bytes > 0 ? bytes : 0] = 0;
    close(file);
}
/* The number at the start of a text; -1 if there is none ("max", "-1"). Not strtol, which new headers give a new name. */
static inline long lopt_group_number(const char *text) {
    long number = -1;
    for (; *text >= '0' && *text <= '9' && number < 1L << 50; text++) number = (number < 0 ? 0 : 10 * number) + *text - '0';
    return number;
}
/* Whole processors that a group's quota is worth, at least 1; `most` if it has none. Version 2 has both numbers in a file. */
static inline int lopt_group_quota(int version, const char *group, int length, int most) {
    char quota[64], period[64];
    const char *second = period;
    if (version == 2) {
        lopt_group_read("/sys/fs/cgroup", group, length, "cpu.max", quota, sizeof quota);
        second = strchr(quota, ' ');
        second = second ? second + 1 : "";
    } else {
        lopt_group_read("/sys/fs/cgroup/cpu", group, length, "cpu.cfs_quota_us", quota, sizeof quota);
        lopt_group_read("/sys/fs/cgroup/cpu", group, length, "cpu.cfs_period_us", period, sizeof period);
    }
    long time = lopt_group_number(quota), of = lopt_group_number(second);
    if (time <= 0 || of <= 0 || time / of >= most) return most;
    return time / of > 1 ? (int)(time / of) : 1;
}
/* The least quota of the groups that the process is in and of those above them. In a container the path may be the host's, which
 * is not to be seen: the root, which comes last, is then the container's own group. */
static inline int lopt_group_processors(int most) {
    char text[2048];
    lopt_group_read("/proc", "", 0, "self/cgroup", text, sizeof text);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        /* number ":" controllers ":" path; version 2 has no controllers */
        const char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) break;
        const char *group = path + 1;
        int version = path == controllers + 1 ? 2 : 0, length = (int)strcspn(group, "\n");
        for (const char *c = controllers; c < path; c++) {
            int is_cpu = c[1] == 'c' && c[2] == 'p' && c[3] == 'u' && (c[4] == ',' || c[4] == ':');
            if (is_cpu && (*c == ':' || *c == ',')) version = 1;
        }
        while (version > 0) {
            most = lopt_group_quota(version, group, length, most);
            if (length == 0) break;
            while (length > 0 && group[length - 1] != '/') length--;
            if (length > 0) length--; /* the slash */
        }
    }
    return most;
}

/* ---- What the core asks ------------------------------------------------------------------------------------------ */

static inline int lopt_system_processors(void) {
    lopt_processors set;
    memset(&set, 0, sizeof set);
    lopt_processors_add_all(&set);
    int count = lopt_processors_count(&set);
    if (count == 0) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return lopt_group_processors(count > 0 ? count : 1);
}

/* A thread begins with the processors of the one that started it. Where those are fewer than the threads that are to share them,
 * the calling thread may from now on run on all of the process's. */
static inline void lopt_thread_widen(int threads) {
    lopt_processors set;
    memset(&set, 0, sizeof set);
    lopt_processors_add(&set, 0);
    if (lopt_processors_count(&set) >= threads) return;
    lopt_processors_add_all(&set);
    syscall(SYS_sched_setaffinity, 0, sizeof set.bits, set.bits);
}

#endif
