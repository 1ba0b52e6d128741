/* SPDX-License-Identifier: MIT
 *
 * batch_one_size.c SIZE BATCH BATCHES - BATCH mallocs, then their frees in an order shuffled once.
 */
#include "loop.h"

LOOP_SINK;

int main(int argc, char **argv) {
    const size_t size = loop_argument(argc, argv, 1, 64), batch = loop_argument(argc, argv, 2, 1000);
    void **live = malloc(batch * sizeof *live);
    size_t *order = malloc(batch * sizeof *order);
    uint64_t random = 42;
    for (size_t i = 0; i < batch; i++) {
        const size_t j = loop_below(&random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t left = loop_argument(argc, argv, 3, 1); left > 0; left--) {
        for (size_t i = 0; i < batch; i++) {
            live[i] = malloc(size);
        }
        for (size_t i = 0; i < batch; i++) {
            free(live[order[i]]);
        }
    }
    free(order);
    free(live);
    return 0;
}
