/* SPDX-License-Identifier: MIT
 *
 * memory_goes_back.c - 230 MB in small blocks are freed; then, within 2 seconds of light activity, less
 * than 40 MB are resident. mimalloc 2.0.9 by itself keeps all of it. The argument "threads" lets another
 * thread, which then ends, do the allocating; "each" eight of them, each of which frees its own and goes on with light
 * activity, "neighbours" the same where each frees another's; "exact" is the first with live tracking of each block, for
 * which fewer blocks are taken.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "whole.h"

#define MB ((size_t)1000 * 1000)
#define BLOCKS 1600000

static void **blocks;
static size_t count;

static void *fill(void *argument) {
    (void)argument;
    size_t bytes = 0;
    uint64_t state = 1;
    for (count = 0; count < BLOCKS && bytes < 230 * MB; count++) {
        const size_t size = 16 + whole_random(&state) % 300 + (count % 100 == 0 ? 4000 : 0);
        blocks[count] = malloc(size);
        NEED(blocks[count] != NULL, "malloc(%zu) gives NULL", size);
        memset(blocks[count], 1, size);
        bytes += size;
    }
    return NULL;
}

static void release_all(void) {
    for (size_t i = 0; i < count; i++) {
        free(blocks[i]);
    }
}

/* ---- eight threads ---- */

enum { THREADS = 8 };
static void **part[THREADS];
static size_t part_count[THREADS];
static pthread_barrier_t barrier;
static bool frees_neighbours;
static int is_over;

static void fill_part(size_t id) {
    uint64_t state = id + 1;
    part[id] = malloc(BLOCKS / THREADS * sizeof *part[id]);
    size_t bytes = 0, i;
    for (i = 0; i < BLOCKS / THREADS && bytes < 230 * MB / THREADS; i++) {
        const size_t size = 16 + whole_random(&state) % 300 + (i % 100 == 0 ? 4000 : 0);
        part[id][i] = malloc(size);
        NEED(part[id][i] != NULL, "malloc(%zu) gives NULL", size);
        memset(part[id][i], 1, size);
        bytes += size;
    }
    part_count[id] = i;
}

static void light_turn(uint64_t *state) {
    for (int i = 0; i < 20; i++) {
        free(malloc(whole_random(state) % (i == 0 ? 40000 : 500)));
    }
    usleep(1000);
}

static void *work(void *argument) {
    const size_t id = (size_t)(intptr_t)argument;
    uint64_t state = id;
    fill_part(id);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    const size_t whose = frees_neighbours ? (id + 1) % THREADS : id;
    for (size_t i = 0; i < part_count[whose]; i++) {
        free(part[whose][i]);
    }
    free(part[whose]);
    pthread_barrier_wait(&barrier);
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        light_turn(&state);
    }
    return NULL;
}

/* 2 seconds by the clock, and 1000 turns of our own: the others have about as many. */
static int run_threads(void) {
    pthread_t thread[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++) {
        NEED(pthread_create(&thread[i], NULL, work, (void *)(intptr_t)i) == 0, "no thread");
    }
    pthread_barrier_wait(&barrier);
    const size_t full = whole_resident_bytes();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    uint64_t state = 2;
    double seconds = 0;
    size_t resident = whole_resident_bytes();
    for (int turn = 0; resident >= 40 * MB && (seconds < 2.0 || turn < 1000); turn++) {
        light_turn(&state);
        resident = whole_resident_bytes();
        clock_gettime(CLOCK_MONOTONIC, &now);
        seconds = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    CHECK(full > 200 * MB, "only %zu bytes were resident when all was live", full);
    CHECK(resident < 40 * MB, "%.1f s after 230 MB were freed %zu bytes are still resident", seconds,
          resident);
    printf("%zu MB resident when full, %zu MB after %.2f s\n", full / MB, resident / MB, seconds);
    return whole_end();
}

int main(int arguments, char **argument) {
    frees_neighbours = arguments > 1 && strcmp(argument[1], "neighbours") == 0;
    if (frees_neighbours || (arguments > 1 && strcmp(argument[1], "each") == 0)) {
        return run_threads();
    }
    const size_t table_bytes = BLOCKS * sizeof *blocks;
    blocks = malloc(table_bytes);
    if (arguments > 1 && strcmp(argument[1], "threads") == 0) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, fill, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    } else {
        fill(NULL);
    }
    const size_t full = whole_resident_bytes();
    release_all();
    free(blocks);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    uint64_t state = 2;
    size_t resident = whole_resident_bytes();
    double seconds = 0;
    /* 2 seconds by the clock and 1000 turns: a loaded machine has its turns too */
    for (int turn = 0; resident >= 40 * MB && (seconds < 2.0 || turn < 1000); turn++) {
        light_turn(&state);
        resident = whole_resident_bytes();
        clock_gettime(CLOCK_MONOTONIC, &now);
        seconds = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
    }
    CHECK(full > 200 * MB, "only %zu bytes were resident when all was live", full);
    CHECK(resident < 40 * MB, "%.1f s after 230 MB were freed %zu bytes are still resident", seconds,
          resident);
    printf("%zu MB resident when full, %zu MB after %.2f s\n", full / MB, resident / MB, seconds);
    return whole_end();
}
