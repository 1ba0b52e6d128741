/* SPDX-License-Identifier: MIT
 *
 * Which lives are timed where every allocation is recorded: each of a site's first ones, then one in
 * MODA_LIVES_STRIDE, so chosen that what they say of all is unbiased, whatever order the program has in its lives.
 *
 * Numbers are drawn from fixed seeds: a test passes each time or never. The odds said are those of a new seed.
 */
#include "site_rooms.h"

#include "site/count.h"

#include <criterion/criterion.h>
#include <math.h>

#define MIB ((uint64_t)1 << 20)
#define STREAMS 400

static moda_shard *shard;
static const moda_sample one = {.weight_fixed = MODA_COUNT_ONE, .size = 32, .requested = 20};

static moda_site *prepare(void) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    shard = moda_registry_take();
    shard->sample_bytes = 1;
    shard->random = 42;
    return intern_stack(shard, NULL, 0);
}

static moda_born allocate(moda_site *site) {
    const moda_born born = moda_site_begin_life(shard, site);
    moda_site_note_sample(shard, 0, &one);
    moda_site_count_alloc(shard, site, &one);
    return born;
}

static bool is_timed_for_one(moda_born born) {
    return born != MODA_BORN_UNTIMED && born < MODA_BORN_FOR_MANY;
}

/* Of lives of these lengths, the n-th being its thread's n * stride-th block, estimated in STREAMS runs. */
typedef struct estimates {
    double truth, mean, spread, expected_spread;
} estimates;

static estimates estimate(uint32_t lives, uint32_t stride, const uint32_t *length) {
    estimates e = {0};
    double squares = 0, sum = 0, sum_of_squares = 0;
    for (uint32_t i = 0; i < lives; i++) {
        e.truth += length[i];
        squares += (double)length[i] * length[i];
    }
    uint64_t state = 7;
    for (uint32_t run = 0; run < STREAMS; run++) {
        const uint64_t stream = next_number(&state), first = next_number(&state) % 1000000;
        double found = 0;
        for (uint32_t i = 0; i < lives; i++) {
            if (moda_life_is_chosen(stream, first + (uint64_t)i * stride)) {
                found += (double)MODA_LIVES_STRIDE * length[i];
            }
        }
        sum += found;
        sum_of_squares += found * found;
    }
    e.mean = sum / STREAMS;
    e.spread = sqrt((sum_of_squares - sum * e.mean) / (STREAMS - 1));
    e.expected_spread = sqrt((MODA_LIVES_STRIDE - 1) * squares);
    return e;
}

/* Long and short lives by turns, with many a period, at a site that has each, each second ... block of its thread. Each
 * mean lies within 4 standard errors (missed once in 16,000, 150 tries), and all together are as far off as chance
 * is: the squares of n such distances add up to n, give or take 3 times sqrt(2 n) (missed once in 300). */
Test(site_count, estimates_are_unbiased_for_each_period) {
    static const uint32_t periods[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 21, 32, 64, 89, 233, 256};
    static const uint32_t strides[] = {1, 2, 3, 5, 8, 13, 16, 64, 144, 1024};
    enum {
        LIVES = 2000,
        PERIODS = sizeof periods / sizeof *periods,
        STRIDES = sizeof strides / sizeof *strides
    };
    static uint32_t length[LIVES];
    double squares = 0;
    for (uint32_t i = 0; i < PERIODS * STRIDES; i++) {
        const uint32_t period = periods[i / STRIDES], stride = strides[i % STRIDES];
        for (uint32_t n = 0; n < LIVES; n++) {
            length[n] = n % period == 0 ? 1000 : 1 + n % 3;
        }
        const estimates e = estimate(LIVES, stride, length);
        const double z = (e.mean - e.truth) / (e.expected_spread / sqrt(STREAMS));
        cr_expect_leq(fabs(z), 4, "period %u, each %u-th block: %.0f for %.0f, off by %.1f standard errors",
                      period, stride, e.mean, e.truth, z);
        /* 400 runs know their spread to 3.5 %: 15 % are more than 4 times that */
        cr_expect_lt(fabs(e.spread / e.expected_spread - 1), 0.15,
                     "period %u, each %u-th block: spread %.0f, not %.0f", period, stride, e.spread,
                     e.expected_spread);
        squares += z * z;
    }
    const double n = PERIODS * STRIDES;
    cr_expect_leq(fabs(squares - n), 3 * sqrt(2 * n), "squares of %.0f distances add up to %.1f", n, squares);
}

/* One run as a program has it: within 4 standard deviations. */
Test(site_count, a_long_run_knows_how_many_lives_there_were) {
    enum { LIVES = 1 << 20 };
    uint64_t chosen = 0;
    for (uint64_t n = 0; n < LIVES; n++) {
        chosen += moda_life_is_chosen(12345, n);
    }
    const double off = (double)(chosen * MODA_LIVES_STRIDE) - LIVES;
    cr_assert_leq(fabs(off), 4 * sqrt((MODA_LIVES_STRIDE - 1) * (double)LIVES), "%.0f", off);
}

Test(site_count, each_of_the_first_lives_is_timed) {
    moda_site *site = prepare();
    for (uint32_t i = 0; i < MODA_LIVES_ALL; i++) {
        cr_assert(is_timed_for_one(allocate(site)), "block %u", i);
    }
    uint32_t for_many = 0;
    for (uint32_t i = 0; i < 8000; i++) {
        const moda_born born = allocate(site);
        cr_assert(!is_timed_for_one(born), "block %u after the first ones", i);
        for_many += born != MODA_BORN_UNTIMED;
    }
    cr_assert(for_many > 880 && for_many < 1120, "%u of 8000", for_many); /* 4 standard deviations */
}

Test(site_count, a_delta_that_begins_anew_knows_that_its_site_is_old) {
    moda_site *site = prepare(), *other = intern_stack(shard, NULL, 1);
    for (uint32_t i = 0; i < MODA_LIVES_ALL - 1; i++) {
        allocate(site);
        moda_site_flush(shard);
    }
    cr_assert(is_timed_for_one(allocate(site)));
    moda_site_flush(shard);
    for (uint32_t i = 0; i < 1000; i++) {
        cr_assert(!is_timed_for_one(allocate(site)), "block %u after the first ones", i);
        if (i % 10 == 0) {
            moda_site_flush(shard);
            cr_assert_eq(moda_site_find_delta(shard, moda_region_ref(site)), NULL);
        }
    }
    cr_assert(moda_site_deltas_are_valid(shard));
    cr_assert(is_timed_for_one(allocate(other)), "another site is another matter");
}

Test(site_count, where_some_allocations_are_recorded_each_of_them_is_timed) {
    moda_site *site = prepare();
    shard->sample_bytes = 4096;
    for (uint32_t i = 0; i < 5000; i++) {
        cr_assert(is_timed_for_one(allocate(site)), "block %u", i);
    }
}

static void end(moda_site *site, moda_born born, uint64_t now, bool is_remote) {
    const moda_sample_end how = {.born = born, .now_ticks = now, .is_remote = is_remote};
    moda_site_count_free(shard, site, &one, &how);
}

Test(site_count, a_life_counts_for_as_many_as_it_stands_for) {
    moda_site *site = prepare();
    for (int i = 0; i < 4; i++) {
        moda_site_count_alloc(shard, site, &one);
    }
    end(site, 100, 110, false);
    end(site, 100 | MODA_BORN_FOR_MANY, 107, true);
    end(site, MODA_BORN_UNTIMED, 0, true);
    end(site, 100 | MODA_BORN_FOR_MANY, 99, false); /* of another core's clock */
    moda_site_counts c;
    cr_assert(moda_site_read(site, &c));
    cr_assert_eq(c.free_count, 4 * MODA_COUNT_ONE);
    cr_assert_eq(c.remote_free_count, 2 * MODA_COUNT_ONE, "is counted for each");
    cr_assert_eq(c.lifetime_count, (1 + 2 * MODA_LIVES_STRIDE) * MODA_COUNT_ONE);
    cr_assert_eq(c.lifetime_sum, 10 + 7 * MODA_LIVES_STRIDE);
    cr_assert_eq(c.lifetime_min, 0);
    cr_assert_eq(c.lifetime_max, 10);
    cr_assert_eq(c.short_lived_count, c.lifetime_count);
}

static void end_life(moda_site *site, const moda_sample *sample, uint64_t ticks) {
    const moda_sample_end end = {.born = 1, .now_ticks = 1 + ticks};
    moda_site_count_alloc(shard, site, sample);
    moda_site_count_free(shard, site, sample, &end);
}

/* Two days of a 3 GHz clock, of a sample that stands for 32,768 blocks; and many such. */
Test(site_count, lives_add_up_to_no_less_than_they_were) {
    const moda_sample small = {.weight_fixed = MODA_COUNT_ONE << 15, .size = 16, .requested = 16};
    const uint64_t two_days = UINT64_C(2) * 86400 * 3000000000;
    moda_site *site = prepare();
    shard->sample_bytes = 4096; /* in a delta */
    moda_site_counts c;
    end_life(site, &small, two_days / 2);
    cr_assert(moda_site_read(site, &c));
    cr_assert_eq(c.lifetime_sum, two_days / 2 << 15);
    end_life(site, &small, 2 * two_days); /* too much by itself */
    cr_assert(moda_site_read(site, &c));
    cr_assert_eq(c.lifetime_sum, UINT64_MAX);
    end_life(site, &small, two_days);
    moda_site_flush(shard); /* on to the site, and more on top of it */
    end_life(site, &small, two_days);
    cr_assert(moda_site_read(site, &c));
    cr_assert_eq(c.lifetime_sum, UINT64_MAX);
    cr_assert_eq(moda_site_of_all_lives(&c, c.lifetime_sum), UINT64_MAX);
    cr_assert_eq(c.lifetime_count, 4 * small.weight_fixed);
}
