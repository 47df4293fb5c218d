/* Checks that print what differs. A program calls CHECK_... and returns check_end(). */
#ifndef LOPT_CHECK_H
#define LOPT_CHECK_H

#include <lopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static long check_passed, check_failed;
static char check_text[256]; /* what is being looked at, set by check_context */

/* Failures after the first few say the same thing again; they are counted, not printed. */
enum { CHECK_PRINTED = 40 };

static inline void check_context(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check_text, sizeof check_text, format, arguments);
    va_end(arguments);
}

/* Counts a check, and for a failed one prints the place and the numbers. Returns whether it held. */
static inline int check_that(int holds, const char *file, int line, const char *format, ...) {
    if (holds) {
        check_passed++;
        return 1;
    }
    if (check_failed++ < CHECK_PRINTED) {
        va_list arguments;
        printf("%s:%d: ", file, line);
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        if (check_text[0]) printf("  [%s]", check_text);
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

static inline int check_end(void) {
    printf("%ld passed, %ld failed\n", check_passed, check_failed);
    return check_failed == 0 ? 0 : 1;
}

#define CHECK(condition) check_that((condition) != 0, __FILE__, __LINE__, "%s", #condition)
#define CHECK_INT(found, expected) check_int((int64_t)(found), (int64_t)(expected), #found, __FILE__, __LINE__)
#define CHECK_NEAR(found, expected, tolerance) check_near(found, expected, tolerance, #found, __FILE__, __LINE__)
#define CHECK_TEXT(found, expected) check_string(found, expected, #found, __FILE__, __LINE__)
/* The last error has `part` in it, is one line, and fits. */
#define CHECK_MESSAGE(part) check_message(part, __FILE__, __LINE__)
#define CHECK_STATUS(call, expected) check_status(call, expected, #call, __FILE__, __LINE__)
#define CHECK_OK(call) CHECK_STATUS(call, LOPT_OK)
#define CHECK_BITS(found, expected, count) check_bits(found, expected, (size_t)(count), #found, __FILE__, __LINE__)
#define CHECK_BYTES(found, expected, size) check_bytes(found, expected, size, #found, __FILE__, __LINE__)

static inline int check_int(int64_t found, int64_t expected, const char *what, const char *file, int line) {
    return check_that(found == expected, file, line, "%s is %lld, expected %lld", what, (long long)found,
                      (long long)expected);
}

static inline int check_near(double found, double expected, double tolerance, const char *what, const char *file,
                             int line) {
    return check_that(fabs(found - expected) <= tolerance, file, line, "%s is %.17g, expected %.17g within %g", what,
                      found, expected, tolerance);
}

static inline int check_string(const char *found, const char *expected, const char *what, const char *file, int line) {
    return check_that(found && strcmp(found, expected) == 0, file, line, "%s is \"%s\", expected \"%s\"", what,
                      found ? found : "(NULL)", expected);
}

static inline int check_message(const char *part, const char *file, int line) {
    const char *text = lopt_last_error();
    int fits = text && strlen(text) <= 255 && !strchr(text, '\n');
    return check_that(fits && strstr(text, part), file, line, "the message \"%s\" lacks \"%s\"",
                      text ? text : "(NULL)", part);
}

static inline int check_status(lopt_status found, lopt_status expected, const char *what, const char *file, int line) {
    return check_that(found == expected, file, line, "%s returned %d (%s; \"%s\"), expected %d", what, (int)found,
                      lopt_status_string(found), lopt_last_error(), (int)expected);
}

static inline int check_bits(const float *found, const float *expected, size_t count, const char *what,
                             const char *file, int line) {
    size_t differing = 0, first = 0;
    int same = memcmp(found, expected, 4 * count) == 0; /* at once, then element by element to say where */
    for (size_t i = count; !same && i-- > 0;) {
        if (memcmp((const char *)found + 4 * i, (const char *)expected + 4 * i, 4) != 0) differing++, first = i;
    }
    float f = 0, e = 0;
    if (differing > 0) {
        memcpy(&f, (const char *)found + 4 * first, 4);
        memcpy(&e, (const char *)expected + 4 * first, 4);
    }
    return check_that(differing == 0, file, line, "%s: %zu of %zu differ, the first at %zu: %.9g, expected %.9g", what,
                      differing, count, first, (double)f, (double)e);
}

static inline int check_bytes(const void *found, const void *expected, size_t size, const char *what, const char *file,
                              int line) {
    const unsigned char *a = found, *b = expected;
    size_t differing = 0, first = 0;
    int same = memcmp(found, expected, size) == 0;
    for (size_t i = size; !same && i-- > 0;) {
        if (a[i] != b[i]) differing++, first = i;
    }
    return check_that(differing == 0, file, line, "%s: %zu of %zu bytes differ, the first at %zu: %02x, expected %02x",
                      what, differing, size, first, differing ? a[first] : 0, differing ? b[first] : 0);
}

/* Memory for the test itself; a test that has none cannot go on. */
static inline void *check_memory(size_t size) {
    void *memory = malloc(size > 0 ? size : 1);
    if (!memory) {
        printf("the test has no memory for %zu bytes\n", size);
        exit(2);
    }
    memset(memory, 0, size);
    return memory;
}

/* scripts/test-c says under what it runs the tests: plain, sanitize, address, thread or valgrind. */
static inline int check_mode(const char *mode) {
    const char *current = getenv("LOPT_TEST_MODE");
    return strcmp(current ? current : "plain", mode) == 0;
}

/* Ends a child process. To memcheck what belonged to the parent's threads would be lost in the child: it is left by exec,
 * at which nothing is looked for. */
static inline void check_leave(void) {
    fflush(stdout);
    if (check_mode("valgrind")) execlp("sh", "sh", "-c", check_failed == 0 ? "exit 0" : "exit 1", (char *)NULL);
    _exit(check_failed == 0 ? 0 : 1);
}

/* Runs a check in a child process, which it may not end. */
#define CHECK_SURVIVES(body, argument) check_survives(body, argument, #body, __FILE__, __LINE__)

static inline int check_survives(void (*body)(void *), void *argument, const char *what, const char *file, int line) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(600); /* one that hangs does not outlive the test for long */
        check_failed = 0;
        body(argument);
        check_leave();
    }
    if (!check_that(child > 0 && waitpid(child, &status, 0) == child, file, line, "fork")) return 0;
    return check_that(WIFEXITED(status) && WEXITSTATUS(status) == 0, file, line,
                      "%s ended the process: signal %d, exit status %d", what,
                      WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
}

/* Where everything is many times slower, `fewer` repetitions do. */
static inline int check_repetitions(int normal, int fewer) {
    return check_mode("valgrind") || check_mode("thread") || check_mode("address") ? fewer : normal;
}

#endif
