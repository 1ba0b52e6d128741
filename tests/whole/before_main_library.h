/* SPDX-License-Identifier: MIT
 *
 * before_main_library.h - what before_main.c and its library have in common.
 */
#ifndef BEFORE_MAIN_LIBRARY_H
#define BEFORE_MAIN_LIBRARY_H

#include <stdint.h>

enum { BEFORE_MAIN_BLOCKS = 300 }; /* as many walks, most of them remembered */

typedef struct before_main_blocks {
    uintptr_t caller; /* of what allocates them */
    void *block[BEFORE_MAIN_BLOCKS];
} before_main_blocks;

void before_main_allocate(before_main_blocks *blocks);
const before_main_blocks *before_main_of_library(void);

#endif
