/* SPDX-License-Identifier: MIT
 *
 * churn_short_threads.c ROUNDS - threads that come, allocate a little, and end: four at a time, each with fifty pairs of
 * 100 .. 2,060 bytes and one block that outlives it, which in every other round is freed by the thread that began it.
 *
 * Most of the time is the system's; what a malloc does for a thread's first and last call shows beside it.
 */
#include <pthread.h>

#include "loop.h"

enum { THREADS = 4, PAIRS = 50, KEPT = 1000 };

static void *live(void *unused) {
    (void)unused;
    for (size_t i = 0; i < PAIRS; i++) {
        void *block = malloc(100 + i * 40);
        __asm__ volatile("" : "+r"(block) : : "memory");
        free(block);
    }
    return malloc(KEPT);
}

int main(int argc, char **argv) {
    pthread_t thread[THREADS];
    const size_t rounds = loop_argument(argc, argv, 1, 1);
    for (size_t round = 0; round < rounds; round++) {
        for (int i = 0; i < THREADS; i++) {
            if (pthread_create(&thread[i], NULL, live, NULL) != 0) {
                return 1;
            }
        }
        for (int i = 0; i < THREADS; i++) {
            void *kept;
            pthread_join(thread[i], &kept);
            if (round % 2 == 1) {
                free(kept);
            }
        }
    }
    return 0;
}
