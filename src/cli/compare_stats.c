/* SPDX-License-Identifier: MIT
 *
 * compare_stats.c - medians of paired ratios, how sure they are, and what may be said of them.
 *
 * Why the median of ratios inside pairs: what disturbs a machine (a neighbour, a clock that changes, a
 * cache that others fill) disturbs both halves of a pair that run at the same moment, and goes away in
 * the quotient; what hits one half alone is an outlier, and the median does not care how far out it is.
 *
 * The interval is the percentile bootstrap (B. Efron, "Bootstrap methods: another look at the jackknife",
 * Annals of Statistics 7, 1979; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13):
 * draw n ratios with replacement out of the n, take their median, do so RESAMPLES times, sort: the 2.5 %
 * and 97.5 % points bound the interval. For the median this agrees with the binomial interval of order
 * statistics but for rounding (Efron 1979, section 3), so it needs no law for the noise, only that
 * pairs are independent of each other.
 *
 * With fewer than 6 pairs all of them on one side of 1 still happen by chance once in 2^(n-1) >= 1/16:
 * no verdict is given, and no width.
 *
 * Laws
 *   1. low <= median <= high, and the 99 % interval holds the 95 % one.
 *   2. the same input and seed give the same output.
 */
#include "cli/compare_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 4000, PAIRS_MIN = 6 };

/* S. Vigna's splitmix64, from "Fast splittable pseudorandom number generators" (Steele, Lea, Flood 2014). */
uint64_t moda_compare_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The high word of a product: its unevenness is bound / 2^64. */
uint64_t moda_compare_random_below(uint64_t *state, uint64_t bound) {
    return (uint64_t)(((unsigned __int128)moda_compare_random(state) * bound) >> 64);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle_of_sorted(const double *sorted, size_t n) {
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double moda_compare_median(double *values, size_t n) {
    if (n == 0) {
        return NAN;
    }
    qsort(values, n, sizeof *values, by_value);
    return middle_of_sorted(values, n);
}

/* A resample's median without sorting it: count how often each of the sorted values was drawn, then walk
 * to the middle. */
static double median_of_resample(const double *sorted, uint32_t *drawn, size_t n, uint64_t *random) {
    memset(drawn, 0, n * sizeof *drawn);
    for (size_t i = 0; i < n; i++) {
        drawn[moda_compare_random_below(random, n)]++;
    }
    const size_t lower_rank = (n - 1) / 2, upper_rank = n / 2; /* equal where n is odd */
    size_t seen = 0, i = 0;
    while (seen + drawn[i] <= lower_rank) {
        seen += drawn[i++];
    }
    const double lower = sorted[i];
    while (seen + drawn[i] <= upper_rank) {
        seen += drawn[i++];
    }
    return (lower + sorted[i]) / 2;
}

static double quantile(const double *sorted, size_t n, double share) {
    return sorted[(size_t)lround(share * (double)(n - 1))];
}

moda_compare_estimate moda_compare_estimate_of(const double *ratios, size_t n, uint64_t seed) {
    moda_compare_estimate result = {
        .n = n, .median = NAN, .low = NAN, .high = NAN, .sure_low = NAN, .sure_high = NAN};
    double *sorted = malloc((n + RESAMPLES) * sizeof *sorted);
    uint32_t *drawn = malloc((n + 1) * sizeof *drawn);
    if (n == 0 || !sorted || !drawn) {
        goto done;
    }
    memcpy(sorted, ratios, n * sizeof *sorted);
    result.median = moda_compare_median(sorted, n);
    double *medians = sorted + n;
    for (size_t i = 0; i < RESAMPLES; i++) {
        medians[i] = median_of_resample(sorted, drawn, n, &seed);
    }
    qsort(medians, RESAMPLES, sizeof *medians, by_value);
    result.low = fmin(quantile(medians, RESAMPLES, 0.025), result.median);
    result.high = fmax(quantile(medians, RESAMPLES, 0.975), result.median);
    result.sure_low = fmin(quantile(medians, RESAMPLES, 0.005), result.low);
    result.sure_high = fmax(quantile(medians, RESAMPLES, 0.995), result.high);
done:
    free(sorted);
    free(drawn);
    return result;
}

/* A difference is claimed where the 99 % interval leaves 1 out: at 95 % one A/A comparison in twenty would
 * be called a difference, and a table has many rows. It must also be larger than what the same command
 * showed against itself in the same minutes. */
moda_compare_verdict moda_compare_judge(const moda_compare_estimate *estimate,
                                        const moda_compare_estimate *noise) {
    if (estimate->n == 0) {
        return MODA_COMPARE_NOTHING;
    }
    const bool is_clear = estimate->sure_low > 1 || estimate->sure_high < 1;
    const bool is_noise = noise && noise->n > 0 && fabs(estimate->median - 1) <= fabs(noise->median - 1);
    if (estimate->n < PAIRS_MIN || !is_clear || is_noise) {
        return MODA_COMPARE_NOT_SHOWN;
    }
    return estimate->median < 1 ? MODA_COMPARE_LESS : MODA_COMPARE_MORE;
}

double moda_compare_half_width(const moda_compare_estimate *estimate) {
    return estimate->n < PAIRS_MIN ? INFINITY : (estimate->high - estimate->low) / 2;
}
