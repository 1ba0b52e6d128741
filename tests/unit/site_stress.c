/* SPDX-License-Identifier: MIT
 *
 * Four threads make sites and count at them while a fifth reads; then everything must be there, once. A
 * program of its own, so that it can be built with the thread sanitizer too, which is to find nothing.
 * Usage: site_stress [turns]
 */
#include "site_rooms.h"

#include <pthread.h>
#include <stdio.h>

#define THREADS 4
#define STACKS 6000u /* from 64 buckets: grows seven times */
#define MAILBOX 256u

typedef struct block {
    moda_site *site;
    moda_sample sample;
} block;

static uint64_t turns = 400000;
static block mailbox[MAILBOX];
static uint32_t mailbox_lock[MAILBOX];
static uint32_t stop;
static moda_shard *shards[THREADS];

typedef struct sums {
    uint64_t allocated, freed, bytes_allocated, bytes_freed;
} sums;
static sums of_thread[THREADS];

static void check(bool claim, const char *what) {
    if (!claim) {
        fprintf(stderr, "site_stress: not so: %s\n", what);
        abort();
    }
}

/* Swaps a block with the one in a random box, so that blocks are freed by other threads than their own. */
static block swap(uint64_t *random, block mine) {
    const uint32_t i = (uint32_t)(next_number(random) % MAILBOX);
    while (__atomic_exchange_n(&mailbox_lock[i], 1, __ATOMIC_ACQUIRE) != 0) {
        moda_pause();
    }
    const block other = mailbox[i];
    mailbox[i] = mine;
    __atomic_store_n(&mailbox_lock[i], 0, __ATOMIC_RELEASE);
    return other;
}

static void *work(void *index) {
    const size_t me = (size_t)(uintptr_t)index;
    moda_shard *shard = shards[me];
    moda_site_thread *thread = make_site_thread();
    uint64_t random = me + 1;
    for (uint64_t turn = 0; turn < turns; turn++) {
        const uint64_t n = next_number(&random) % (next_number(&random) % 4 == 0 ? STACKS : 8);
        block b = {
            .site = intern_stack(shard, thread, n),
            .sample = {.weight_fixed = MODA_COUNT_ONE, .size = 16 + n % 100, .requested = 1 + n % 100}};
        check(b.site->id != 0, "there is room");
        moda_site_count_alloc(shard, b.site, &b.sample);
        of_thread[me].allocated++;
        of_thread[me].bytes_allocated += b.sample.size;
        const block other = swap(&random, b);
        if (other.site != NULL) {
            const moda_sample_end end = {.born = turn + 1, .now_ticks = turn + 6, .is_remote = turn % 2 == 0};
            moda_site_count_free(shard, other.site, &other.sample, &end);
            of_thread[me].freed++;
            of_thread[me].bytes_freed += other.sample.size;
        }
        if (turn % 64 == 0) {
            (void)moda_add_relaxed(&moda_region()->peak_epoch, 1);
        }
        if (turn % 20000 == 19999) {
            moda_site_flush(shard);
        }
    }
    return NULL;
}

/* A site's figures never fall, as long as a reader has each of them once. */
static void *read_sites(void *unused) {
    (void)unused;
    static uint64_t seen[STACKS + 1];
    while (moda_load_relaxed(&stop) == 0) {
        const moda_site *site = moda_region_at(moda_load_acquire(&moda_region()->site_list));
        for (; site != NULL; site = moda_region_at(site->next_in_list)) {
            moda_site_counts counts;
            if (!moda_site_read(site, &counts)) {
                continue;
            }
            check(counts.alloc_samples >= seen[site->id], "figures only grow");
            check(counts.alloc_samples * MODA_COUNT_ONE == counts.alloc_count, "figures of one moment");
            seen[site->id] = counts.alloc_samples;
        }
    }
    return NULL;
}

static void check_sums(void) {
    sums all = {0};
    for (int i = 0; i < THREADS; i++) {
        all.allocated += of_thread[i].allocated;
        all.freed += of_thread[i].freed;
        all.bytes_allocated += of_thread[i].bytes_allocated;
        all.bytes_freed += of_thread[i].bytes_freed;
    }
    sums seen = {0};
    for (const moda_site *site = moda_region_at(moda_region()->site_list); site != NULL;
         site = moda_region_at(site->next_in_list)) {
        moda_site_counts counts;
        check(moda_site_read(site, &counts), "nobody is in the middle of a change");
        seen.allocated += counts.alloc_samples;
        seen.freed += counts.free_samples;
        seen.bytes_allocated += counts.alloc_bytes;
        seen.bytes_freed += counts.free_bytes;
        check(counts.lifetime_count == counts.free_count, "each free ended a life");
    }
    check(seen.allocated == all.allocated && seen.bytes_allocated == all.bytes_allocated, "all allocations");
    check(seen.freed == all.freed && seen.bytes_freed == all.bytes_freed, "all frees");
}

int main(int argc, char **argv) {
    if (argc > 1) {
        turns = strtoull(argv[1], NULL, 10);
    }
    check(make_rooms((uint64_t)64 << 20, 64, NULL), "the region is there");
    for (int i = 0; i < THREADS; i++) {
        shards[i] = moda_registry_take();
        shards[i]->sample_bytes = i % 2 == 0 ? 1 : 4096; /* large caches and small */
    }
    pthread_t threads[THREADS];
    pthread_t reader;
    pthread_create(&reader, NULL, read_sites, NULL);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    moda_store_relaxed(&stop, 1);
    pthread_join(reader, NULL);
    check_sums();
    for (int i = 0; i < THREADS; i++) {
        check(moda_site_deltas_are_valid(shards[i]), "deltas are in their places");
        moda_site_flush(shards[i]);
    }
    check_sums();
    check(moda_site_table_is_valid(), "ids without holes, no stack twice, all in their buckets");
    check(moda_region()->site_count <= STACKS, "no more sites than stacks");
    return 0;
}
