/* SPDX-License-Identifier: MIT
 *
 * api.c - the public calls that only tell what this is.
 */
#include "mod_alloc.h"

#include "entry/api.h"
#include "region/region.h"
#include "port/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

bool moda_probe_arrived;

/* Has libc ask the process's malloc for an impossible size: whoever serves it fails and counts nothing, but ours
 * notes that it was asked. (Comparing addresses will not do: that of a function can be its PLT entry in the
 * program. Nor will a call from here: in an object that is bound to itself first it finds our own.) */
int mod_alloc_is_active(void) {
    static int answer = -1;
    if (answer < 0) {
        const int saved = errno;
        moda_probe_arrived = false;
        free(getcwd(NULL, MODA_PROBE_SIZE)); /* allocates a buffer of that size; fails */
        errno = saved;
        answer = moda_probe_arrived;
    }
    return answer;
}

const char *mod_alloc_version(void) {
    return TEXT(MOD_ALLOC_VERSION_MAJOR) "." TEXT(MOD_ALLOC_VERSION_MINOR) "." TEXT(MOD_ALLOC_VERSION_PATCH);
}

const char *mod_alloc_mimalloc_version(void) {
    return moda_heap_version();
}

const void *mod_alloc_region(size_t *size) {
    const moda_region_header *header = moda_region();
    if (size) {
        *size = header ? moda_load_acquire(&header->used) : 0;
    }
    return header;
}
