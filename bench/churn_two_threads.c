/* SPDX-License-Identifier: MIT
 *
 * churn_two_threads.c THREADS SLOTS STEPS - the churn of churn_working_set.c on each of THREADS threads, each
 * with blocks of its own.
 *
 * STEPS are those of each thread: with as many cores as threads, wall time should not grow with THREADS.
 */
#include <pthread.h>

#include "loop.h"

LOOP_SINK;
static size_t slots, steps;

static void *churn(void *seed) {
    size_t **slot = calloc(slots, sizeof *slot);
    uint64_t random = (uint64_t)(uintptr_t)seed;
    for (size_t left = steps; left > 0; left--) {
        const size_t i = loop_below(&random, slots);
        free(slot[i]);
        slot[i] = malloc(loop_size(&random));
        *slot[i] = left;
    }
    for (size_t i = 0; i < slots; i++) {
        free(slot[i]);
    }
    free(slot);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread[256];
    const size_t asked = loop_argument(argc, argv, 1, 2), threads = asked < 256 ? asked : 256;
    slots = loop_argument(argc, argv, 2, 2000);
    steps = loop_argument(argc, argv, 3, 1);
    for (size_t i = 0; i < threads; i++) {
        if (pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)(i + 1)) != 0) {
            return 1;
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
    }
    return 0;
}
