/* Part of liblopt.a alone. A statically linked program cannot load OpenBLAS safely: it would bring a second C library, and
 * linking the real dlopen warns of just that. Here there never is one, as with make BLAS=none. These definitions become
 * local to the archive's object; a program that calls dlopen itself gets its own. */
#include <stddef.h>

void *dlopen(const char *file, int mode);
void *dlsym(void *library, const char *name);
int dlclose(void *library);
char *dlerror(void);

void *dlopen(const char *file, int mode) { return (void)file, (void)mode, NULL; }
void *dlsym(void *library, const char *name) { return (void)library, (void)name, NULL; }
int dlclose(void *library) { return (void)library, 0; }
char *dlerror(void) { return NULL; }
