/* SPDX-License-Identifier: MIT
 *
 * start_library.c - a library whose constructor is the first to call into the program.
 */
#include "start.h"

static void construct(int argc, char **argv) __attribute__((constructor));

static void construct(int argc, char **argv) {
    start_choose(argc > 1 ? argv[1] : "auto");
    start_walk("the library's constructor");
    __asm__ volatile("");
}

void start_library(void) {
}
