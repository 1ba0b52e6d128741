/* SPDX-License-Identifier: MIT
 *
 * Gaps are exponential, weights undo the chances, and the estimates they give have no bias. Seeds are fixed:
 * each test always passes or always fails. The bounds say how often another seed would miss them.
 */
#include "sample/sampler.h"

#include <criterion/criterion.h>
#include <math.h>

Test(sample_sampler, own_logarithm_is_libms) {
    for (double x = 1e-17; x < 1e9; x *= 1.003) {
        cr_assert_float_eq(moda_sampler_log(x), log(x), 1e-15 * fmax(1, fabs(log(x))), "ln %g", x);
    }
}

Test(sample_sampler, own_exponential_is_libms) {
    for (double x = 1e-12; x < 1e6; x *= 1.003) {
        const double exact = -expm1(-x);
        cr_assert_float_eq(moda_sampler_one_minus_exp(x), exact, 1e-15 * exact, "1 - exp(-%g)", x);
    }
}

Test(sample_sampler, every_and_none) {
    uint64_t stream;
    moda_sampler_seed(&stream, 1, 2, 3);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(moda_sampler_gap(&stream, 1), 0);
        cr_assert_eq(moda_sampler_gap(&stream, 0), MODA_SAMPLER_NEVER);
        cr_assert_eq(moda_sampler_weight_fixed(&stream, 8, 1), 65536);
    }
}

Test(sample_sampler, streams_depend_on_seed_slot_and_incarnation_alone) {
    uint64_t first[4];
    uint64_t again[4];
    for (uint32_t i = 0; i < 4; i++) {
        moda_sampler_seed(&first[i], 7 + (i == 1), 1 + (i == 2), 5 + (i == 3));
        moda_sampler_seed(&again[i], 7 + (i == 1), 1 + (i == 2), 5 + (i == 3));
        cr_assert_eq(first[i], again[i]);
        for (uint32_t j = 0; j < i; j++) {
            cr_assert_neq(first[i], first[j]);
        }
    }
}

Test(sample_sampler, gaps_are_exponential) {
    /* Kolmogorov and Smirnov: n draws stay within 1.95 / sqrt(n) of the distribution but once in 1,000 seeds. The
     * deciles are looked at. Gaps are whole, so P(G < s) = 1 - exp(-s/R) for whole s. */
    enum { N = 1000000, MEAN = 5000 };
    uint64_t stream;
    moda_sampler_seed(&stream, 42, 0, 0);
    uint32_t below[10] = {0};
    int64_t border[10];
    for (int k = 1; k < 10; k++) {
        border[k] = (int64_t)(-MEAN * log(1 - k / 10.0));
    }
    for (int i = 0; i < N; i++) {
        const int64_t gap = moda_sampler_gap(&stream, MEAN);
        cr_assert_geq(gap, 0);
        for (int k = 1; k < 10; k++) {
            below[k] += gap < border[k];
        }
    }
    for (int k = 1; k < 10; k++) {
        const double expected = 1 - exp(-(double)border[k] / MEAN);
        cr_assert_float_eq(below[k] / (double)N, expected, 1.95 / sqrt(N), "decile %d: %u", k, below[k]);
    }
}

Test(sample_sampler, a_float_keeps_a_weight_whole) {
    uint64_t stream;
    moda_sampler_seed(&stream, 3, 0, 0);
    for (uint64_t mean = 2; mean < UINT64_C(1) << 40; mean = mean * 3 + 1) {
        for (size_t size = 8; size < (size_t)1 << 40; size = size * 3 + 1) {
            const uint64_t fixed = moda_sampler_weight_fixed(&stream, size, mean);
            cr_assert_eq(moda_sampler_unpack_weight(moda_sampler_pack_weight(fixed)), fixed);
            cr_assert_float_eq((double)fixed / 65536, moda_sampler_weight(size, mean),
                               1.6e-5 * moda_sampler_weight(size, mean));
        }
    }
}

Test(sample_sampler, rounding_a_weight_has_no_bias) {
    /* 1.3130 x 65536 = 86049.2..: the mean of n roundings is within 3 / sqrt(n) x 0.5 but once in 370 seeds. */
    enum { N = 100000 };
    uint64_t stream;
    moda_sampler_seed(&stream, 11, 0, 0);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += (double)moda_sampler_weight_fixed(&stream, 1434, 1000);
    }
    cr_assert_float_eq(sum / N, moda_sampler_weight(1434, 1000) * 65536, 1.5 / sqrt(N));
}

/* One run: a thread allocates blocks of all sizes in turn; the estimates by size, as the slow path makes them. */
#define SIZES 8
static const size_t size_of[SIZES] = {8, 48, 400, 4096, 65536, 524288, 1048576, 8388608};
static const int blocks_of[SIZES] = {4000, 2000, 1000, 500, 100, 20, 10, 3};

static void run(uint64_t seed, uint64_t mean, uint64_t counts[SIZES], uint64_t bytes[SIZES]) {
    uint64_t stream;
    moda_sampler_seed(&stream, seed, 1, 1);
    int64_t left = moda_sampler_gap(&stream, mean);
    for (int turn = 0; turn < 4000; turn++) {
        for (int k = 0; k < SIZES; k++) {
            if (turn >= blocks_of[k]) {
                continue;
            }
            left -= (int64_t)size_of[k];
            if (left < 0) {
                const uint64_t weight = moda_sampler_weight_fixed(&stream, size_of[k], mean);
                counts[k] += weight;
                bytes[k] += moda_sampler_weigh(weight, size_of[k]);
                left = moda_sampler_gap(&stream, mean);
            }
        }
    }
}

static void check_unbiased(uint64_t mean) {
    /* 1,000 seeds, 8 sizes, counts and bytes: each mean lies within 3 standard errors of the truth with
     * probability 0.9973, all 8 (bytes follow counts) with 0.98. The standard error is the theory's,
     * sqrt(n (1-p)/p) a run, which the spread seen must match to 15 % (6.7 of its own standard
     * errors, where there is enough of it to measure). */
    enum { SEEDS = 1000 };
    double sum[SIZES] = {0};
    double squares[SIZES] = {0};
    double sum_bytes[SIZES] = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t counts[SIZES] = {0};
        uint64_t bytes[SIZES] = {0};
        run(seed, mean, counts, bytes);
        for (int k = 0; k < SIZES; k++) {
            const double estimate = (double)counts[k] / 65536;
            sum[k] += estimate;
            squares[k] += estimate * estimate;
            sum_bytes[k] += (double)bytes[k];
        }
    }
    for (int k = 0; k < SIZES; k++) {
        const double p = -expm1(-(double)size_of[k] / (double)mean);
        const double variance = blocks_of[k] * (1 - p) / p;
        /* The weight's own rounding adds at most half a unit of 1/65536. */
        const double error = sqrt(variance / SEEDS) + 1e-5;
        const double average = sum[k] / SEEDS;
        cr_expect_float_eq(average, blocks_of[k], 3 * error, "R %lu size %zu: %.6f of %d, error %.6f",
                           (unsigned long)mean, size_of[k], average, blocks_of[k], error);
        const double in_bytes = (double)blocks_of[k] * (double)size_of[k];
        cr_expect_float_eq(sum_bytes[k] / SEEDS, in_bytes,
                           3 * error * (double)size_of[k] + blocks_of[k] * 0.5 * p);
        const double seen = squares[k] / SEEDS - average * average;
        if (p * blocks_of[k] > 10 && (1 - p) * blocks_of[k] > 10) {
            cr_expect_float_eq(seen, variance, 0.15 * variance, "R %lu size %zu: variance %g, theory %g",
                               (unsigned long)mean, size_of[k], seen, variance);
        }
    }
}

Test(sample_sampler, estimates_are_unbiased_at_4_kib) {
    check_unbiased(4096);
}

Test(sample_sampler, estimates_are_unbiased_at_64_kib) {
    check_unbiased(65536);
}

Test(sample_sampler, estimates_are_unbiased_at_512_kib) {
    check_unbiased(524288);
}

Test(sample_sampler, estimates_are_exact_at_1) {
    uint64_t counts[SIZES] = {0};
    uint64_t bytes[SIZES] = {0};
    run(5, 1, counts, bytes);
    for (int k = 0; k < SIZES; k++) {
        cr_assert_eq(counts[k], (uint64_t)blocks_of[k] * 65536);
        cr_assert_eq(bytes[k], (uint64_t)blocks_of[k] * size_of[k]);
    }
}
