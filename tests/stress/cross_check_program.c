/* SPDX-License-Identifier: MIT
 *
 * cross_check_program.c - what cross_check.sh counts twice: threads that allocate, align, resize, hand their blocks to one
 * another and end, some of their blocks still live. The same calls each time.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 3, BLOCKS = 2000 };

static void *block[THREADS][BLOCKS];
static pthread_barrier_t barrier;

static size_t size_of(size_t i) {
    return (i * 2654435761u) % (i % 50 == 0 ? 300000 : 2000) + 1;
}

static void *make(size_t i) {
    switch (i % 8) {
    case 0: return calloc(3, size_of(i) / 3 + 1);
    case 1: return aligned_alloc((size_t)32 << i / 8 % 8, (size_t)4096);
    case 2: return memalign(64, size_of(i));
    case 3: return realloc(malloc(size_of(i)), size_of(i + 1));
    default: return malloc(size_of(i));
    }
}

static void *work(void *argument) {
    const size_t me = (size_t)argument;
    for (size_t i = 0; i < BLOCKS; i++) {
        block[me][i] = make(i + me);
    }
    pthread_barrier_wait(&barrier);
    void **others = block[(me + 1) % THREADS];
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 3 == 0) {
            others[i] = realloc(others[i], size_of(i + 2));
        } else if (i % 100 != 1) {
            free(others[i]);
        }
    }
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < BLOCKS; i += 3) {
        free(block[me][i]);
    }
    return NULL;
}

int main(void) {
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread[THREADS];
        pthread_barrier_init(&barrier, NULL, THREADS);
        for (size_t i = 0; i < THREADS; i++) {
            if (pthread_create(&thread[i], NULL, work, (void *)i) != 0) {
                return 1;
            }
        }
        for (size_t i = 0; i < THREADS; i++) {
            pthread_join(thread[i], NULL);
        }
        pthread_barrier_destroy(&barrier);
    }
    return 0;
}
