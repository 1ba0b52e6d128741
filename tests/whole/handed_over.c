/* SPDX-License-Identifier: MIT
 *
 * handed_over.c - one thread makes blocks of 1 MiB, uses all of each and hands it to another, which frees it before the
 * next is made: no more than a few of them may be resident at any time, sampled or not. mimalloc 2.4 by itself lets up
 * to a hundred wait for their thread.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>

#include "whole.h"

enum { BLOCKS = 400, SIZE = 1 << 20, RESIDENT_MAX = 24 }; /* in blocks */

static sem_t is_made, is_freed;
static void *block;

static void *release(void *argument) {
    for (int i = 0; i < BLOCKS; i++) {
        while (sem_wait(&is_made) != 0) {
        }
        free(block);
        sem_post(&is_freed);
    }
    return argument;
}

int main(void) {
    whole_begin();
    sem_init(&is_made, 0, 0);
    sem_init(&is_freed, 0, 0);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, release, NULL) == 0, "no thread");
    const size_t before = whole_resident_bytes();
    size_t highest = before;
    for (int i = 0; i < BLOCKS; i++) {
        block = malloc(SIZE);
        NEED(block != NULL, "no block of %d bytes", SIZE);
        memset(block, 1, SIZE);
        const size_t resident = whole_resident_bytes();
        highest = resident > highest ? resident : highest;
        sem_post(&is_made);
        while (sem_wait(&is_freed) != 0) {
        }
    }
    pthread_join(thread, NULL);
    CHECK(highest - before < (size_t)RESIDENT_MAX * SIZE, "%zu KiB resident, %zu before, with one block live",
          highest >> 10, before >> 10);
    printf("at most %zu KiB above the start\n", (highest - before) >> 10);
    return whole_end();
}
