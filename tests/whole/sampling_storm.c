/* SPDX-License-Identifier: MIT
 *
 * sampling_storm.c - two threads call mod_alloc_set_sampling with any value at all, while three others allocate, realloc and
 * free. Once all is freed no site has a block left: each sample ends with the weight that it began with, whatever the rate is
 * then; and the counters have seen every block.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "whole.h"

enum { WORKERS = 3, SWITCHERS = 2, STEPS = 400000, SLOTS = 64 };

static int working = WORKERS;
/* Until every thread is there: the C library keeps what it allocates for one. */
static pthread_barrier_t begin;

static unsigned next(unsigned *random) {
    return (*random = *random * 1103515245 + 12345) >> 8;
}

static void *work(void *argument) {
    unsigned random = (unsigned)(size_t)argument;
    void *slot[SLOTS] = {0};
    pthread_barrier_wait(&begin);
    mod_alloc_set_sampling(
        1000); /* or nothing may be sampled: on one core all may be done before the others run */
    for (int step = 0; step < STEPS; step++) {
        const unsigned i = next(&random) % SLOTS;
        free(slot[i]);
        slot[i] = malloc(next(&random) % 3000 + 1);
        if (next(&random) % 16 == 0) {
            slot[i] = realloc(slot[i], next(&random) % 9000 + 1);
        }
    }
    for (int i = 0; i < SLOTS; i++) {
        free(slot[i]);
    }
    __atomic_sub_fetch(&working, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void *switch_about(void *argument) {
    static const uint64_t bytes[] = {0,          1,          2,          3,          4096,
                                     512 * 1024, 1ULL << 40, 1ULL << 62, 1ULL << 63, UINT64_MAX};
    unsigned random = (unsigned)(size_t)argument;
    pthread_barrier_wait(&begin);
    while (__atomic_load_n(&working, __ATOMIC_RELAXED) > 0) {
        mod_alloc_set_sampling(bytes[next(&random) % (sizeof bytes / sizeof bytes[0])]);
        sched_yield();
    }
    return NULL;
}

static int look(const mod_alloc_call_site *site, void *context) {
    uint64_t *allocated = context;
    *allocated += site->alloc_count;
    CHECK_EQ(site->live_count, 0, "blocks live at a site");
    CHECK_EQ(site->live_bytes, 0, "bytes live at a site");
    CHECK(site->alloc_count >= site->alloc_samples, "site %u: %" PRIu64 " blocks, %" PRIu64 " samples",
          site->id, site->alloc_count, site->alloc_samples);
    return 0;
}

int main(void) {
    whole_begin();
    mod_alloc_set_sampling(0);
    pthread_barrier_init(&begin, NULL, WORKERS + SWITCHERS);
    pthread_t thread[WORKERS + SWITCHERS];
    const mod_alloc_stats before = whole_now();
    for (size_t i = 0; i < WORKERS + SWITCHERS; i++) {
        NEED(pthread_create(&thread[i], NULL, i < WORKERS ? work : switch_about, (void *)(i + 1)) == 0,
             "pthread_create");
    }
    for (size_t i = 0; i < WORKERS + SWITCHERS; i++) {
        pthread_join(thread[i], NULL);
    }
    mod_alloc_set_sampling(0);
    const mod_alloc_stats after = whole_now();
    CHECK(after.alloc_count - before.alloc_count >= (uint64_t)WORKERS * STEPS,
          "%" PRIu64 " allocations counted", after.alloc_count - before.alloc_count);
    uint64_t allocated = 0;
    mod_alloc_call_sites(look, &allocated);
    CHECK(allocated > 0, "no samples were taken");
    return whole_end();
}
