/* SPDX-License-Identifier: MIT
 *
 * before_main_library.c - a library that the program is linked with, whose constructor allocates, and whose destructor frees.
 */
#include "before_main_library.h"

#include <stdlib.h>

static before_main_blocks in_library;

__attribute__((noinline)) void before_main_allocate(before_main_blocks *blocks) {
    blocks->caller = (uintptr_t)__builtin_return_address(0);
    for (int i = 0; i < BEFORE_MAIN_BLOCKS; i++) {
        blocks->block[i] = malloc(40);
    }
}

static __attribute__((constructor)) void construct(void) {
    before_main_allocate(&in_library);
    __asm__ volatile(""); /* no tail call */
}

/* Behind mod-alloc's destructor, if that is a library, too, which the dynamic loader has loaded before. */
static __attribute__((destructor)) void destroy(void) {
    for (int i = 0; i < BEFORE_MAIN_BLOCKS; i++) {
        free(in_library.block[i]);
    }
}

const before_main_blocks *before_main_of_library(void) {
    return &in_library;
}
