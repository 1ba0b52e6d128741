/* SPDX-License-Identifier: MIT
 *
 * calloc_sizes.c SLOTS STEPS - the churn of churn_working_set.c with calloc.
 */
#include "loop.h"

LOOP_SINK;

int main(int argc, char **argv) {
    const size_t slots = loop_argument(argc, argv, 1, 200);
    size_t **slot = calloc(slots, sizeof *slot);
    uint64_t random = 1;
    for (size_t left = loop_argument(argc, argv, 2, 1); left > 0; left--) {
        const size_t i = loop_below(&random, slots);
        free(slot[i]);
        slot[i] = calloc(1, loop_size(&random));
    }
    loop_sink = slot[0];
    return 0;
}
