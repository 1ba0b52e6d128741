/* SPDX-License-Identifier: MIT
 *
 * churn_working_set.c SLOTS STEPS - in each step a random slot's block is freed and another one, of random
 * size, takes its place; its first word is written.
 *
 * The number of slots says which cache the blocks fit: 200 x 90 bytes the first, 5000 the second, 500,000
 * none.
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
        slot[i] = malloc(loop_size(&random));
        *slot[i] = left;
    }
    loop_sink = slot[0];
    return 0;
}
