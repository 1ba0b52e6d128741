/* SPDX-License-Identifier: MIT
 *
 * pair_deep_stack.c FRAMES SIZE PAIRS - malloc and free of one size, called FRAMES calls deep: what a walk of
 * the stack costs, warm.
 *
 * Built twice: with frame pointers and, as distributions build their programs, without.
 */
#include "loop.h"

LOOP_SINK;

/* The volatile keeps each call a call, and its frame a frame of its own. */
__attribute__((noinline)) static size_t descend(size_t frames, size_t size, size_t pairs) {
    volatile size_t here = frames;
    if (frames > 1) {
        return descend(frames - 1, size, pairs) + here;
    }
    for (; pairs > 0; pairs--) {
        void *block = malloc(size);
        loop_sink = block;
        free(block);
    }
    return here;
}

int main(int argc, char **argv) {
    /* main and what is below it are three frames more */
    const size_t frames = loop_argument(argc, argv, 1, 16);
    const size_t size = loop_argument(argc, argv, 2, 64);
    return descend(frames > 3 ? frames - 3 : 1, size, loop_argument(argc, argv, 3, 1)) == 0;
}
