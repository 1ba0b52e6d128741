/* SPDX-License-Identifier: MIT
 *
 * sampling_switch.c - mod_alloc_set_sampling while the program runs, seen by the call sites: off, every allocation, off
 * again, on each thread; the array of sites and the visit of them say the same; counters do not care.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "whole.h"

#pragma weak mod_alloc_call_sites_get
#pragma weak mod_alloc_call_sites_free
#pragma weak mod_alloc_sites_dropped

enum { SIZE = 500, BLOCKS = 1000 };

/* Blocks of SIZE bytes with a site of their own: this function's. */
static __attribute__((noinline)) void here(int count) {
    for (int i = 0; i < count; i++) {
        void *volatile p = malloc(SIZE);
        free(p);
    }
}

/* At the latest after this much each thread has taken up what was set. */
static void take_it_up(void) {
    for (int i = 0; i < 5000; i++) {
        void *volatile p = malloc(1000);
        free(p);
    }
}

typedef struct sums {
    size_t sites;
    uint64_t allocs, frees, requested, samples;
} sums;

static int add(const mod_alloc_call_site *site, void *context) {
    sums *s = context;
    s->sites++;
    s->allocs += site->alloc_count;
    s->frees += site->free_count;
    s->requested += site->alloc_requested_bytes;
    s->samples += site->alloc_samples;
    return 0;
}

static int stop_at_first(const mod_alloc_call_site *site, void *context) {
    (void)site;
    ++*(int *)context;
    return 1;
}

static sums visited(void) {
    sums all = {0};
    const size_t count = mod_alloc_call_sites(add, &all);
    CHECK_EQ(count, all.sites, "sites visited");
    return all;
}

static sums listed(void) {
    sums all = {0};
    size_t count = 0;
    mod_alloc_call_site *sites = mod_alloc_call_sites_get(&count);
    CHECK((sites == NULL) == (count == 0), "an array of %zu sites at %p", count, (void *)sites);
    for (size_t i = 0; i < count; i++) {
        CHECK(sites[i].id == 0 || (sites[i].frame_count > 0 && sites[i].frames[0] != 0),
              "site %u has no frame", sites[i].id);
        add(&sites[i], &all);
    }
    mod_alloc_call_sites_free(sites);
    return all;
}

static void expect(const char *where, sums before, uint64_t blocks, uint64_t bytes) {
    const sums v = visited(), l = listed();
    CHECK(memcmp(&v, &l, sizeof v) == 0, "%s: the array has %" PRIu64 " allocations, the visit %" PRIu64,
          where, l.allocs, v.allocs);
    CHECK_EQ(v.allocs - before.allocs, blocks, where);
    CHECK_EQ(v.frees - before.frees, blocks, where);
    CHECK_EQ(v.requested - before.requested, bytes, where);
    CHECK_EQ(v.samples - before.samples, blocks, where);
    mod_alloc_sampling_stats sampling;
    mod_alloc_sampling(&sampling);
    CHECK_EQ(sampling.samples, v.samples, where);
    CHECK_EQ(sampling.dropped, mod_alloc_sites_dropped(), where);
}

/* The other thread works while this one waits, and the other way round. */
static pthread_barrier_t turn;

static void *other(void *argument) {
    pthread_barrier_wait(&turn); /* off */
    here(BLOCKS);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn); /* every allocation */
    take_it_up();
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    here(BLOCKS);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn); /* off again */
    take_it_up();
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    here(BLOCKS);
    pthread_barrier_wait(&turn);
    return argument;
}

static void the_other_works(void) {
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
}

int main(void) {
    whole_begin();
    mod_alloc_set_sampling(0);
    take_it_up();
    pthread_barrier_init(&turn, NULL, 2);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, other, NULL) == 0, "pthread_create");
    sums before = visited();
    const mod_alloc_stats start = whole_now();
    here(BLOCKS);
    the_other_works();
    expect("off", before, 0, 0);

    mod_alloc_set_sampling(1);
    take_it_up();
    the_other_works();
    mod_alloc_sampling_stats sampling;
    mod_alloc_sampling(&sampling);
    CHECK_EQ(sampling.sample_bytes, 1, "sampling of every allocation");
    before = visited();
    here(BLOCKS);
    expect("every allocation", before, BLOCKS, (uint64_t)BLOCKS * SIZE);
    before = visited();
    the_other_works();
    expect("every allocation of the other thread", before, BLOCKS, (uint64_t)BLOCKS * SIZE);
    int visits = 0;
    CHECK_EQ(mod_alloc_call_sites(stop_at_first, &visits), 1, "a visit that stops");
    CHECK_EQ(visits, 1, "a visit that stops");

    mod_alloc_set_sampling(0);
    take_it_up();
    the_other_works();
    before = visited();
    here(BLOCKS);
    the_other_works();
    expect("off again", before, 0, 0);
    CHECK_EQ(whole_now().alloc_count - start.alloc_count, 6 * BLOCKS + 4 * 5000, "the counters have all");
    pthread_join(thread, NULL);
    return whole_end();
}
