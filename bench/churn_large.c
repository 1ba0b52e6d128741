/* SPDX-License-Identifier: MIT
 *
 * churn_large.c SLOTS STEPS [PASSES] - the churn of churn_working_set.c with blocks of 2 KiB to 256 KiB, every power of
 * two as often, and one byte written in each page of a block; or all of it, PASSES times.
 */
#include "loop.h"

#include <string.h>

LOOP_SINK;

int main(int argc, char **argv) {
    const size_t slots = loop_argument(argc, argv, 1, 32);
    const size_t passes = loop_argument(argc, argv, 3, 0);
    char **slot = calloc(slots, sizeof *slot);
    uint64_t random = 5;
    for (size_t left = loop_argument(argc, argv, 2, 1); left > 0; left--) {
        const size_t i = loop_below(&random, slots);
        const size_t floor = (size_t)2048 << loop_below(&random, 7);
        const size_t size = floor + loop_below(&random, floor);
        free(slot[i]);
        slot[i] = malloc(size);
        for (size_t pass = 0; pass < passes; pass++) {
            memset(slot[i], (int)(left + pass), size);
            __asm__ volatile("" : : "r"(slot[i]) : "memory");
        }
        for (size_t at = 0; at < size; at += 4096) {
            slot[i][at] = (char)left;
        }
    }
    loop_sink = slot[0];
    return 0;
}
