/* SPDX-License-Identifier: MIT
 *
 * pages_stay.c - a second thread replaces one of eight live blocks of up to 30000 bytes by another, again and again for 3 seconds:
 * it needs a page of each size now and then, and the same ones serve it. 120 KB are live; the pages have 2 to 2.5 MB
 * that were used once, as those of plain mimalloc. Where pages are given up that are needed again soon, and made anew
 * elsewhere, it is 3.9 MB within 600 turns.
 *
 * What is needed soon is said by the clock: where the system takes the core away between two turns, pages go as they
 * should. So what is resident is counted anew then: a loaded machine shows less, and nothing that is not so.
 */
#include <pthread.h>

#include "whole.h"

enum { LIVE = 8, SIZE_MAX_OF_IT = 30000, IN_TURN = 40, RESIDENT_MAX = 3 << 20 };

/* A turn needs 0.2 ms; empty pages are looked at each 10 ms. */
static const double pause_seconds = 0.002;

static void free_all(void **block) {
    for (size_t i = 0; i < LIVE; i++) {
        free(block[i]);
        block[i] = NULL;
    }
}

static void *replace(void *unused) {
    (void)unused;
    void *block[LIVE] = {0};
    uint64_t state = 3;
    free(malloc(1));
    size_t before = whole_resident_bytes(), highest = 0;
    const double begin = whole_seconds_now();
    for (double turn = begin, now; turn < begin + 3; turn = now) {
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
        now = whole_seconds_now();
        if (now - turn > pause_seconds) {
            free_all(block);
            malloc_trim(0);
            before = whole_resident_bytes();
            now = whole_seconds_now();
        } else if (resident > before + highest) {
            highest = resident - before;
        }
    }
    free_all(block);
    CHECK(highest < RESIDENT_MAX, "%zu KiB more are resident, with 120 KB live", highest >> 10);
    printf("at most %zu KiB above the start\n", highest >> 10);
    return NULL;
}

int main(void) {
    whole_begin();
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, replace, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    return whole_end();
}
