/* What both programs here know of the ranks that mpiexec starts. */
#ifndef RANKS_H
#define RANKS_H

#include <lopt_mpi.h>

#include "problem.h"

static int world_rank, world_size;
static char checkpoint[256]; /* the same on all ranks */

/* `name`: of the checkpoints, in the folder of the first argument. */
static void ranks_begin(int count, char **arguments, const char *name) {
    MPI_Init(&count, &arguments);
    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world_size);
    snprintf(checkpoint, sizeof checkpoint, "%s/%s", count > 1 ? arguments[1] : ".", name);
}

/* What main returns: 1 everywhere if a check failed anywhere. */
static int ranks_end(void) {
    int failed = check_end();
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Finalize();
    return failed;
}

static MPI_Comm first_ranks(int ranks) {
    MPI_Comm comm;
    MPI_Comm_split(MPI_COMM_WORLD, world_rank < ranks ? 0 : MPI_UNDEFINED, world_rank, &comm);
    return comm;
}

static void check_error(const lopt_mpi *m, const char *part) {
    check_that(strstr(lopt_mpi_error(m), part) != NULL, __FILE__, __LINE__, "the message is '%s'", lopt_mpi_error(m));
}

/* The checkpoint that `ranks` ranks saved as number `step`; every file of it is there. */
static void remove_checkpoint(int step, int ranks) {
    MPI_Barrier(MPI_COMM_WORLD);
    for (int r = -1; world_rank == 0 && r < ranks; r++) {
        char path[320];
        if (r < 0) snprintf(path, sizeof path, "%s", checkpoint);
        else snprintf(path, sizeof path, "%s.%d.%d", checkpoint, step, r);
        CHECK_INT(remove(path), 0);
    }
}

#endif
