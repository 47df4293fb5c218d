/* torch's AdamW, measured by a Python process that stays for the whole run: one line of question, one line of answer. */
#include "bench.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct torch {
    pid_t process;
    FILE *to, *from;
};

torch *torch_start(const char *script) {
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0) return NULL;
    signal(SIGPIPE, SIG_IGN);
    pid_t process = fork();
    if (process < 0) return NULL;
    if (process == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        close(down[1]);
        close(up[0]);
        execlp("python3", "python3", script, (char *)NULL);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    torch *t = malloc(sizeof *t);
    if (!t) fail("out of memory");
    *t = (torch){process, fdopen(down[1], "w"), fdopen(up[0], "r")};
    char version[64];
    if (fscanf(t->from, "torch %63s", version) == 1) {
        fprintf(stderr, "torch %s\n", version);
        return t;
    }
    torch_stop(t);
    return NULL;
}

double torch_measure(torch *t, const problem *p, const char *form, int threads, double seconds, double *least) {
    fprintf(t->to, "%s %d %g", form, threads, seconds);
    for (int i = 0; i < p->tensors; i++)
        for (int j = 0; j < p->tensor[i].rank; j++)
            fprintf(t->to, "%c%lld", j ? 'x' : ' ', (long long)p->tensor[i].shape[j]);
    fprintf(t->to, "\n");
    fflush(t->to);
    double ns;
    return fscanf(t->from, "%lf %lf", &ns, least) == 2 ? ns : -1;
}

void torch_stop(torch *t) {
    fclose(t->to);
    fclose(t->from);
    waitpid(t->process, NULL, 0);
    free(t);
}
