/* OpenBLAS, for meta-training. The runtime does not link it: see lopt_blas.h. */
#ifndef LOPT_OPENBLAS_H
#define LOPT_OPENBLAS_H

#include <cblas.h>

#endif
