/* SPDX-License-Identifier: MIT
 *
 * api.c - the public calls that only tell what this is.
 */
#define _GNU_SOURCE
#include "mod_alloc.h"

#include "entry/api.h"
#include "entry/process.h"
#include "region/region.h"
#include "port/heap.h"

#include <errno.h>
#include <search.h>
#include <unistd.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

int moda_probe;

/* Has libc ask the process's malloc for a block of a certain size: ours notes that it was asked, refuses and counts
 * nothing. From another one the block goes back by libc's own call of free. (No impossible size: Chromium's malloc ends
 * the process at one, and Valgrind reports it. Comparing addresses will not do: that of a function can be its PLT entry
 * in the program. Nor will a call from here: in an object that is bound to itself first it finds our own.) */
int mod_alloc_is_active(void) {
    static int answer = -1;
    if (answer < 0) {
        const int saved = errno;
        moda_probe = MODA_PROBE_UNDER_WAY;
        struct hsearch_data table = {.table = (void *)getcwd(NULL, MODA_PROBE_SIZE)};
        answer = moda_probe == MODA_PROBE_ARRIVED;
        moda_probe = MODA_PROBE_NONE;
        if (table.table) {
            hdestroy_r(&table); /* frees it, and does nothing else */
        }
        errno = saved;
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
    if (header && !moda_region_path()) {
        moda_process_note_heap();
    }
    if (size) {
        *size = header ? moda_load_acquire(&header->used) : 0;
    }
    return header;
}
