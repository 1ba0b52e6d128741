/* SPDX-License-Identifier: MIT
 *
 * free_other_thread.c BLOCKS - one thread allocates, another one frees: every free is of a block whose
 * thread is elsewhere.
 *
 * Blocks change hands in boxes of 256 through a ring of 64 boxes, so that the ring's own lock is not what
 * is measured.
 */
#include <pthread.h>

#include "loop.h"

enum { BOX = 256, RING = 64 };

LOOP_SINK;
static void *ring[RING][BOX];
static size_t filled, emptied; /* boxes, ever; guarded by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *consume(void *boxes) {
    for (size_t box = 0; box < (size_t)(uintptr_t)boxes; box++) {
        pthread_mutex_lock(&lock);
        while (filled <= box) {
            pthread_cond_wait(&changed, &lock);
        }
        pthread_mutex_unlock(&lock);
        for (size_t i = 0; i < BOX; i++) {
            free(ring[box % RING][i]);
        }
        pthread_mutex_lock(&lock);
        emptied = box + 1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t consumer;
    uint64_t random = 3;
    const size_t boxes = loop_argument(argc, argv, 1, BOX) / BOX;
    if (pthread_create(&consumer, NULL, consume, (void *)(uintptr_t)boxes) != 0) {
        return 1;
    }
    for (size_t box = 0; box < boxes; box++) {
        pthread_mutex_lock(&lock);
        while (box - emptied >= RING) {
            pthread_cond_wait(&changed, &lock);
        }
        pthread_mutex_unlock(&lock);
        for (size_t i = 0; i < BOX; i++) {
            ring[box % RING][i] = malloc(loop_size(&random));
        }
        pthread_mutex_lock(&lock);
        filled = box + 1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return pthread_join(consumer, NULL);
}
