/* SPDX-License-Identifier: MIT
 *
 * compare_stats.h - medians of paired ratios, how sure they are, and what may be said of them.
 *
 * Called by cmd_compare.c after each round of pairs. Memory: one scratch array per call, from malloc.
 * Pure functions: the same ratios give the same figures.
 */
#ifndef MODA_CLI_COMPARE_STATS_H
#define MODA_CLI_COMPARE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A generator of random numbers, splitmix64: state is any number. */
uint64_t moda_compare_random(uint64_t *state);
/* Even over 0 .. bound - 1. */
uint64_t moda_compare_random_below(uint64_t *state, uint64_t bound);

/* Sorts `values`. The mean of the two middle ones where n is even; NaN where n is 0. */
double moda_compare_median(double *values, size_t n);

typedef struct moda_compare_estimate {
    size_t n;                   /* pairs behind it */
    double median;              /* of the ratios */
    double low, high;           /* 95 % interval of the median; all values below 6 pairs */
    double sure_low, sure_high; /* 99 % interval: what a verdict needs */
} moda_compare_estimate;

moda_compare_estimate moda_compare_estimate_of(const double *ratios, size_t n);

typedef enum moda_compare_verdict {
    MODA_COMPARE_NOT_SHOWN, /* no difference shown by this many pairs */
    MODA_COMPARE_LESS,
    MODA_COMPARE_MORE,
    MODA_COMPARE_NOTHING /* no pairs */
} moda_compare_verdict;

/* `noise` is the estimate of the same metric where both sides are the same command (A/A), or NULL. */
moda_compare_verdict moda_compare_judge(const moda_compare_estimate *estimate,
                                        const moda_compare_estimate *noise);

/* Half of the 95 % interval's width: the x of "+- x". Infinite below 6 pairs. */
double moda_compare_half_width(const moda_compare_estimate *estimate);

#endif
