/* SPDX-License-Identifier: MIT
 *
 * stats.c - the statistics of `mod-alloc compare` against known answers.
 *
 * Where a test draws random numbers its seed is fixed, so that it always passes or always fails; the odds
 * that a fresh seed would have passed are stated beside it.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

#include "cli/compare_stats.h"

enum { RATIOS_MAX = 400 };

static void expect_about(double got, double wanted, double tolerance) {
    cr_expect(fabs(got - wanted) <= tolerance, "%.9g is not %.9g +- %.3g", got, wanted, tolerance);
}

/* Normal, by the sum of twelve even numbers less 6: close enough for what is tested here. */
static double noise(uint64_t *random) {
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        sum += (double)(moda_compare_random(random) >> 11) * 0x1p-53;
    }
    return sum;
}

static void fill(double *ratios, size_t n, double centre, double spread, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        ratios[i] = centre * (1 + spread * noise(&seed));
    }
}

Test(compare_stats, splitmix64_gives_its_published_numbers) {
    uint64_t state = 1234567;
    static const uint64_t known[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        cr_expect_eq(moda_compare_random(&state), known[i]);
    }
}

Test(compare_stats, a_bounded_number_stays_below_its_bound_and_reaches_both_ends) {
    uint64_t state = 7;
    bool seen[5] = {false};
    for (int i = 0; i < 200; i++) {
        const uint64_t number = moda_compare_random_below(&state, 5);
        cr_assert_lt(number, 5);
        seen[number] = true;
    }
    for (int i = 0; i < 5; i++) {
        cr_expect(seen[i]);
    }
}

typedef struct median_case {
    double values[6];
    size_t n;
    double median;
} median_case;

ParameterizedTestParameters(compare_stats, median_of_few) {
    static median_case cases[] = {
        {{3}, 1, 3}, {{4, 2}, 2, 3}, {{9, 1, 5}, 3, 5}, {{8, 1, 6, 2}, 4, 4}, {{1, 1, 1, 1, 100}, 5, 1},
    };
    return cr_make_param_array(median_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(median_case *c, compare_stats, median_of_few) {
    double values[6];
    memcpy(values, c->values, sizeof values);
    expect_about(moda_compare_median(values, c->n), c->median, 0);
}

Test(compare_stats, the_median_of_nothing_is_not_a_number) {
    cr_expect(isnan(moda_compare_median(NULL, 0)));
}

/* The bootstrap of a median has a law in closed form (Efron 1979, section 3): of n = 2m - 1 values the
 * resample's median lies above the k-th smallest with the probability that a binomial (n, k/n) is at most
 * m - 1. N is chosen so that the ends are clear: 1.3 % of all medians lie below the interval's end,
 * 4.6 % at or below it; 4000 resamples do not mistake either for 2.5 % (6 standard errors). */
static double binomial_at_most(int n, double p, int k) {
    double sum = 0;
    for (int i = 0; i <= k; i++) {
        sum += exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1)) * pow(p, i) * pow(1 - p, n - i);
    }
    return sum;
}

Test(compare_stats, the_bootstrap_interval_is_that_of_efron_s_closed_form) {
    enum { N = 19, MIDDLE = 10 };
    double values[N];
    int low = 0, high = 0;
    for (int k = 1; k <= N; k++) {
        values[k - 1] = k;
        /* P(median <= k) */
        const double at_most = 1 - (k < N ? binomial_at_most(N, (double)k / N, MIDDLE - 1) : 0);
        low = low ? low : at_most >= 0.025 ? k : 0;
        high = high ? high : at_most >= 0.975 ? k : 0;
    }
    const moda_compare_estimate e = moda_compare_estimate_of(values, N, 1);
    cr_expect_eq(e.n, N);
    expect_about(e.median, MIDDLE, 0);
    expect_about(e.low, low, 0);
    expect_about(e.high, high, 0);
    cr_expect_leq(e.sure_low, e.low);
    cr_expect_geq(e.sure_high, e.high);
}

Test(compare_stats, the_same_seed_gives_the_same_interval_and_another_one_nearly) {
    double ratios[41];
    fill(ratios, 41, 1.01, 0.02, 5);
    const moda_compare_estimate a = moda_compare_estimate_of(ratios, 41, 1);
    const moda_compare_estimate b = moda_compare_estimate_of(ratios, 41, 1);
    const moda_compare_estimate c = moda_compare_estimate_of(ratios, 41, 2);
    expect_about(a.low, b.low, 0);
    expect_about(a.high, b.high, 0);
    expect_about(a.low, c.low, 0.003);
    expect_about(a.high, c.high, 0.003);
}

Test(compare_stats, equal_ratios_have_an_interval_of_no_width) {
    double ratios[10];
    for (int i = 0; i < 10; i++) {
        ratios[i] = 1.25;
    }
    const moda_compare_estimate e = moda_compare_estimate_of(ratios, 10, 3);
    expect_about(e.low, 1.25, 0);
    expect_about(e.high, 1.25, 0);
    cr_expect_eq(moda_compare_judge(&e, NULL), MODA_COMPARE_MORE);
}

/* 1000 times 40 pairs with 2 % noise: the 95 % interval holds the truth in about 95 % of them (binomial:
 * 930 .. 970 with odds of 200 to 1; the percentile interval of a median is known to be a little short or
 * long by its steps, hence 920 .. 975). */
Test(compare_stats, the_interval_holds_the_truth_as_often_as_it_says) {
    double ratios[40];
    int held = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        fill(ratios, 40, 1.0, 0.02, 1000 + i);
        const moda_compare_estimate e = moda_compare_estimate_of(ratios, 40, i);
        held += e.low <= 1 && 1 <= e.high;
    }
    cr_expect(held >= 920 && held <= 975, "%d of 1000", held);
}

/* A/A: a verdict needs the 99 % interval and more than the noise row shows. At 1 % each, more than 20 of
 * 1000 have odds below 1 to 500; the noise row cuts them further. */
Test(compare_stats, the_same_against_the_same_is_hardly_ever_called_a_difference) {
    double ratios[40], noise_ratios[40];
    int claimed = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        fill(ratios, 40, 1.0, 0.02, 2 * i);
        fill(noise_ratios, 40, 1.0, 0.02, 2 * i + 1);
        const moda_compare_estimate e = moda_compare_estimate_of(ratios, 40, i);
        const moda_compare_estimate of_noise = moda_compare_estimate_of(noise_ratios, 40, i);
        claimed += moda_compare_judge(&e, &of_noise) != MODA_COMPARE_NOT_SHOWN;
    }
    cr_expect_leq(claimed, 20, "%d of 1000", claimed);
}

/* 2 % slower, 2 % noise, 40 pairs: the median's standard error is 1.25 x 2 % / sqrt(40) = 0.4 %, so that
 * the verdict's 2.58 of them leave a miss in 1 of 100. */
Test(compare_stats, two_per_cent_are_seen_through_noise_as_large) {
    double ratios[40];
    int seen = 0;
    for (uint64_t i = 0; i < 200; i++) {
        fill(ratios, 40, 1.02, 0.02, 77 + i);
        const moda_compare_estimate e = moda_compare_estimate_of(ratios, 40, i);
        seen += moda_compare_judge(&e, NULL) == MODA_COMPARE_MORE;
    }
    cr_expect_geq(seen, 190, "%d of 200", seen);
}

Test(compare_stats, wild_outliers_do_not_move_the_verdict) {
    double ratios[40];
    fill(ratios, 40, 1.0, 0.005, 9);
    for (size_t i = 0; i < 40; i += 5) {
        ratios[i] *= 3;
    }
    const moda_compare_estimate e = moda_compare_estimate_of(ratios, 40, 1);
    expect_about(e.median, 1, 0.01);
}

Test(compare_stats, fewer_than_six_pairs_prove_nothing) {
    double ratios[6] = {2, 2, 2, 2, 2, 2};
    const moda_compare_estimate five = moda_compare_estimate_of(ratios, 5, 1);
    const moda_compare_estimate six = moda_compare_estimate_of(ratios, 6, 1);
    cr_expect_eq(moda_compare_judge(&five, NULL), MODA_COMPARE_NOT_SHOWN);
    cr_expect_eq(moda_compare_judge(&six, NULL), MODA_COMPARE_MORE);
    cr_expect(isinf(moda_compare_half_width(&five)));
    const moda_compare_estimate none = moda_compare_estimate_of(ratios, 0, 1);
    cr_expect_eq(moda_compare_judge(&none, NULL), MODA_COMPARE_NOTHING);
}

Test(compare_stats, what_the_noise_shows_as_well_is_no_difference) {
    double ratios[20], of_noise[20];
    fill(ratios, 20, 1.01, 0.001, 1);
    fill(of_noise, 20, 0.985, 0.001, 2);
    const moda_compare_estimate e = moda_compare_estimate_of(ratios, 20, 1);
    const moda_compare_estimate noisy = moda_compare_estimate_of(of_noise, 20, 1);
    cr_expect_eq(moda_compare_judge(&e, NULL), MODA_COMPARE_MORE);
    cr_expect_eq(moda_compare_judge(&e, &noisy), MODA_COMPARE_NOT_SHOWN);
}
