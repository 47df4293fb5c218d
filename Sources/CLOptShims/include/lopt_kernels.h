#ifndef LOPT_KERNELS_H
#define LOPT_KERNELS_H
#endif
