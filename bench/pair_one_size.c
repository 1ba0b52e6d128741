/* SPDX-License-Identifier: MIT
 *
 * pair_one_size.c SIZE PAIRS - malloc and free of one size, again and again.
 *
 * What a malloc does best: the same block comes back each time, in the first cache. Whatever profiling adds
 * shows here in full.
 */
#include "loop.h"

LOOP_SINK;

int main(int argc, char **argv) {
    const size_t size = loop_argument(argc, argv, 1, 64);
    for (size_t left = loop_argument(argc, argv, 2, 1); left > 0; left--) {
        void *block = malloc(size);
        loop_sink = block;
        free(block);
    }
    return 0;
}
