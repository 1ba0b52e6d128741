/* SPDX-License-Identifier: MIT
 *
 * pages_stay.c - a second thread replaces one of eight live blocks of up to 30000 bytes by another, again and again for 3 seconds:
 * it needs a page of each size now and then, and the same ones serve it. 120 KB are live; the pages have 2 to 2.5 MB
 * that were used once, as those of plain mimalloc. Where pages are given up that are needed again soon, and made anew
 * elsewhere, it is 4 MB.
 */
#include <pthread.h>
#include <time.h>

#include "whole.h"

enum { LIVE = 8, SIZE_MAX_OF_IT = 30000, IN_TURN = 40, RESIDENT_MAX = 15 << 18 };

static void *replace(void *unused) {
    (void)unused;
    void *block[LIVE] = {0};
    uint64_t state = 3;
    free(malloc(1));
    const size_t before = whole_resident_bytes();
    size_t highest = before;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (int i = 0; i < IN_TURN; i++) {
            const size_t which = whole_random(&state) % LIVE;
            const size_t size = 1 + whole_random(&state) % SIZE_MAX_OF_IT;
            free(block[which]);
            block[which] = malloc(size);
            NEED(block[which] != NULL, "malloc(%zu) gives NULL", size);
            memset(block[which], 1, size);
        }
        usleep(100);
        const size_t resident = whole_resident_bytes();
        highest = resident > highest ? resident : highest;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begin.tv_sec < 3);
    for (size_t i = 0; i < LIVE; i++) {
        free(block[i]);
    }
    CHECK(highest - before < RESIDENT_MAX, "%zu KiB resident, %zu before, with 120 KB live", highest >> 10,
          before >> 10);
    printf("at most %zu KiB above the start\n", (highest - before) >> 10);
    return NULL;
}

int main(void) {
    whole_begin();
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, replace, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    return whole_end();
}
