/* The numbers of lopt.h as text: Swift sees macros that are numbers, not those that are made of others' text. */
#ifndef LOPT_VERSION_TEXT_H
#define LOPT_VERSION_TEXT_H

#include "../../include/lopt.h"

#define LOPT_TEXT_OF(major, minor, patch) #major "." #minor "." #patch
#define LOPT_VERSION_TEXT(major, minor, patch) LOPT_TEXT_OF(major, minor, patch)

__attribute__((returns_nonnull)) static inline const char *lopt_version_text(void) {
    return LOPT_VERSION_TEXT(LOPT_VERSION_MAJOR, LOPT_VERSION_MINOR, LOPT_VERSION_PATCH);
}

#endif
