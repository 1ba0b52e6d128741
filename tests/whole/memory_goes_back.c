/* SPDX-License-Identifier: MIT
 *
 * memory_goes_back.c - 230 MB in small blocks are freed; then, within 2 seconds of light activity, less
 * than 40 MB are resident. mimalloc 2.0.9 by itself keeps all of it. The argument "threads" lets another
 * thread, which then ends, do the allocating; "exact" is the same with live tracking of each block, for
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

int main(int arguments, char **argument) {
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
        for (int i = 0; i < 20; i++) {
            free(malloc(whole_random(&state) % (i == 0 ? 40000 : 500)));
        }
        usleep(1000);
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
