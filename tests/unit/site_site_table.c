/* SPDX-License-Identifier: MIT
 *
 * Each stack has one site, for ever, however full the table, however it was asked for.
 */
#include "site_rooms.h"

#include "mod_alloc.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

Test(site_table, same_stack_gets_the_same_site) {
    cr_assert(make_rooms(16 * MIB, 4096, NULL));
    moda_shard *shard = moda_registry_take();
    moda_site_thread *thread = make_site_thread();
    for (int turn = 0; turn < 3; turn++) {
        for (uint64_t n = 0; n < 500; n++) {
            cr_assert_eq(intern_stack(shard, turn == 1 ? thread : NULL, n)->id, n + 1);
        }
    }
    cr_assert_eq(moda_region()->site_count, 500);
    cr_assert(moda_site_table_is_valid());
}

Test(site_table, a_site_keeps_what_the_walk_said) {
    cr_assert(make_rooms(16 * MIB, 4096, NULL));
    moda_shard *shard = moda_registry_take();
    const uint64_t frames[3] = {1, 2, 3};
    const moda_walk walk = {.count = 3, .end = MOD_ALLOC_WALK_CUT, .guessed = 2};
    const moda_site *site = moda_site_intern(shard, NULL, &walk, frames);
    cr_assert_eq(site->frame_count, 3);
    cr_assert_arr_eq(site->frames, frames, sizeof frames);
    cr_assert_eq(site->walk_end, MOD_ALLOC_WALK_CUT);
    cr_assert_eq(site->guessed, 2);
    cr_assert_eq(site->first_slot, shard->index);
    cr_assert_eq(site->counts.lifetime_min, UINT64_MAX);
}

/* Stacks that differ as little as can be: in one bit of one frame, in order, in length. */
Test(site_table, whole_stacks_are_compared) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    moda_shard *shard = moda_registry_take();
    uint32_t ids = 0;
    for (uint32_t count = 1; count <= 9; count++) {
        uint64_t frames[9] = {0};
        const moda_walk walk = {.count = count};
        cr_assert_eq(moda_site_intern(shard, NULL, &walk, frames)->id, ++ids);
        for (uint32_t i = 0; i < count; i++) {
            for (uint32_t bit = 0; bit < 64; bit += 7) {
                frames[i] = UINT64_C(1) << bit;
                cr_assert_eq(moda_site_intern(shard, NULL, &walk, frames)->id, ++ids);
                frames[i] = 0;
            }
        }
    }
    const uint64_t one[2] = {5, 6};
    const uint64_t other[2] = {6, 5};
    const moda_walk walk = {.count = 2};
    cr_assert_neq(moda_site_intern(shard, NULL, &walk, one), moda_site_intern(shard, NULL, &walk, other));
    cr_assert(moda_site_table_is_valid());
}

/* Two stacks of the same hash: found by search (2^32 values, 300,000 stacks: some ten pairs). */
Test(site_table, stacks_of_the_same_hash_are_two) {
    enum { N = 300000 };
    cr_assert(make_rooms(256 * MIB, 4096, NULL));
    moda_shard *shard = moda_registry_take();
    for (uint64_t n = 0; n < N; n++) {
        const uint64_t frame = 16 * n;
        cr_assert_eq(moda_site_intern(shard, NULL, &(moda_walk){.count = 1}, &frame)->id, n + 1);
    }
    uint32_t pairs = 0;
    uint32_t *seen = calloc(UINT64_C(1) << 29, 1); /* a bit for each hash */
    cr_assert_not_null(seen);
    for (const moda_site *site = moda_region_at(moda_region()->site_list); site != NULL;
         site = moda_region_at(site->next_in_list)) {
        const uint32_t bit = UINT32_C(1) << site->hash % 32;
        pairs += (seen[site->hash / 32] & bit) != 0;
        seen[site->hash / 32] |= bit;
    }
    free(seen);
    cr_assert_gt(pairs, 0);
    cr_assert_lt(pairs, 40, "the hash spreads: %u", pairs);
    cr_assert(moda_site_table_is_valid());
}

/* What an incremental walk says about its tail may be anything true: the site is that of a plain walk. */
Test(site_table, reused_frames_lead_to_the_same_site) {
    cr_assert(make_rooms(64 * MIB, 4096, NULL));
    moda_shard *shard = moda_registry_take();
    moda_site_thread *thread = make_site_thread();
    uint64_t last[FRAMES_MAX];
    uint64_t frames[FRAMES_MAX];
    uint32_t last_count = 0;
    uint64_t random = 1;
    for (int turn = 0; turn < 200000; turn++) {
        /* Keeps a random part of the last stack's tail, and grows new inner frames from few. */
        const uint32_t kept = last_count == 0 ? 0 : (uint32_t)(next_number(&random) % (last_count + 1));
        const uint32_t inner = (uint32_t)(next_number(&random) % 4) + (kept == 0);
        if (kept + inner > FRAMES_MAX) {
            continue;
        }
        const uint32_t count = kept + inner;
        for (uint32_t i = 0; i < inner; i++) {
            frames[i] = 64 * (1 + next_number(&random) % 3);
        }
        memcpy(frames + inner, last + last_count - kept, kept * sizeof frames[0]);
        uint32_t equal = 0;
        while (equal < count && equal < last_count
               && frames[count - 1 - equal] == last[last_count - 1 - equal]) {
            equal++;
        }
        const uint32_t said =
            equal == 0 || turn % 3 == 0 ? equal : (uint32_t)(next_number(&random) % (equal + 1));
        const moda_walk walk = {.count = count, .reused = said};
        const moda_site *site = moda_site_intern(shard, thread, &walk, frames);
        cr_assert_eq(moda_site_intern(shard, NULL, &(moda_walk){.count = count}, frames), site);
        cr_assert_eq(site->frame_count, count);
        cr_assert_arr_eq(site->frames, frames, count * sizeof frames[0]);
        if (turn % 1000 == 999) {
            moda_site_thread_forget(thread);
            last_count = 0;
        } else {
            memcpy(last, frames, sizeof last);
            last_count = count;
        }
    }
    cr_assert(moda_site_table_is_valid());
}

Test(site_table, it_grows_in_place) {
    cr_assert(make_rooms(64 * MIB, 1, NULL));
    moda_shard *shard = moda_registry_take();
    const moda_buckets *first = moda_region_at(moda_region()->site_buckets);
    cr_assert_eq(first->count, 64);
    moda_site *sites[20000];
    for (uint64_t n = 0; n < 20000; n++) {
        sites[n] = intern_stack(shard, NULL, n);
        cr_assert_eq(sites[n]->id, n + 1);
        if ((n & (n + 1)) == 0) {
            cr_assert(moda_site_table_is_valid());
        }
    }
    const moda_buckets *last = moda_region_at(moda_region()->site_buckets);
    cr_assert_eq(last->count, 32768);
    for (uint64_t n = 0; n < 20000; n++) {
        cr_assert_eq(intern_stack(shard, NULL, n), sites[n]);
    }
    cr_assert(moda_site_table_is_valid());
}

/* Of 1 MiB such a table once took half, and of sites only half as many had room. */
Test(site_table, buckets_take_an_eighth_at_most) {
    cr_assert(make_rooms(MIB, 1 << 20, NULL));
    const moda_buckets *buckets = moda_region_at(moda_region()->site_buckets);
    cr_assert_eq(buckets->count, (1 << 20) / 8 / sizeof(moda_ref));
    cr_assert_leq(moda_region()->used, MIB / 4);
}

Test(site_table, as_many_buckets_as_asked_for_where_there_is_room) {
    cr_assert(make_rooms(64 * MIB, 1 << 20, NULL));
    cr_assert_eq(((const moda_buckets *)moda_region_at(moda_region()->site_buckets))->count, 1 << 20);
}

Test(site_table, buckets_are_rounded_up) {
    cr_assert(make_rooms(64 * MIB, 4097, NULL));
    cr_assert_eq(((moda_buckets *)moda_region_at(moda_region()->site_buckets))->count, 8192);
}

Test(site_table, what_finds_no_room_is_counted) {
    enum { N = 1000000 };
    cr_assert(make_rooms(MIB, 4096, NULL));
    moda_shard *shard = moda_registry_take();
    moda_site_thread *thread = make_site_thread();
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 16, .requested = 10};
    uint64_t kept = 0;
    for (uint64_t n = 0; n < N; n++) {
        moda_site *site = intern_stack(shard, thread, n);
        kept += site->id != 0;
        moda_site_count_alloc(shard, site, &sample);
    }
    cr_assert_gt(kept, 1000);
    cr_assert_eq(moda_region()->site_count, kept);
    cr_assert_eq(shard->dropped, N - kept);
    cr_assert_eq(intern_stack(shard, thread, 5)->id, 6, "what is there is found");
    cr_assert(moda_site_table_is_valid());
    /* Nothing is lost: the sum over all sites is what was allocated. */
    moda_site_counts counts;
    moda_site_read(moda_site_overflow(), &counts);
    cr_assert_eq(counts.alloc_samples, N - kept);
    uint64_t samples = counts.alloc_samples;
    uint64_t bytes = counts.alloc_bytes;
    for (const moda_site *site = moda_region_at(moda_region()->site_list); site != NULL;
         site = moda_region_at(site->next_in_list)) {
        moda_site_read(site, &counts);
        samples += counts.alloc_samples;
        bytes += counts.alloc_bytes;
    }
    cr_assert_eq(samples, N);
    cr_assert_eq(bytes, UINT64_C(16) * N);
}

Test(site_table, no_frames_is_the_overflow_site_but_no_drop) {
    cr_assert(make_rooms(4 * MIB, 64, NULL));
    moda_shard *shard = moda_registry_take();
    const moda_walk walk = {.end = MOD_ALLOC_WALK_NONE};
    const moda_site *site = moda_site_intern(shard, NULL, &walk, NULL);
    cr_assert_eq(site, moda_site_overflow());
    cr_assert_eq(site->id, 0);
    cr_assert_eq(site->walk_end, MOD_ALLOC_WALK_NONE);
    cr_assert_eq(shard->dropped, 0);
}

/* ---- fork ---- */

static void check_child(const char *path) {
    cr_assert(make_rooms(16 * MIB, 64, path));
    moda_shard *shard = moda_registry_take();
    moda_site_thread *thread = make_site_thread();
    const moda_sample sample = {.weight_fixed = MODA_COUNT_ONE, .size = 16, .requested = 10};
    for (uint64_t n = 0; n < 1000; n++) {
        moda_site_count_alloc(shard, intern_stack(shard, thread, n), &sample);
    }
    moda_site_fork_prepare();
    const pid_t child = fork();
    if (child == 0) {
        bool is_good = moda_region_fork_child();
        intern_stack(shard, NULL, 3)->counts_lock |= 1; /* some other thread of the parent was at it */
        moda_site_fork_child();
        for (uint64_t n = 0; n < 3000; n++) {
            moda_site *site = intern_stack(shard, thread, n);
            is_good = is_good && site->id == n + 1;
            moda_site_count_alloc(shard, site, &sample);
        }
        moda_site_counts counts;
        moda_site_read(intern_stack(shard, thread, 3), &counts);
        is_good = is_good && counts.alloc_samples == 2 && moda_site_table_is_valid()
                  && moda_site_deltas_are_valid(shard);
        _exit(is_good ? 0 : 1);
    }
    moda_site_fork_parent();
    int status;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
    cr_assert_eq(moda_region()->site_count, 1000);
    cr_assert(moda_site_table_is_valid());
}

Test(site_table, a_child_in_memory_goes_on) {
    check_child(NULL);
}

Test(site_table, a_child_with_a_file_goes_on) {
    char path[] = "/tmp/moda-sites-XXXXXX";
    cr_assert_not_null(mkdtemp(path));
    char pattern[64];
    snprintf(pattern, sizeof pattern, "%s/%%p", path);
    check_child(pattern);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", path);
    cr_assert_eq(system(command), 0);
}
