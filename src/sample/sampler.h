/* SPDX-License-Identifier: MIT
 *
 * sampler.h - which allocations get a backtrace, and what each of them stands for.
 *
 * hot/slow.c asks. No memory but the 8 bytes of a thread's stream; a stream is one thread's.
 *
 * The mathematics. Let a Poisson process mark bytes of the stream of block bytes that a thread allocates,
 * with R bytes between two marks in the mean. An allocation that holds at least one mark is a sample.
 *
 *   gap     The distance g from anywhere to the next mark is exponential with mean R:
 *           P(g >= x) = exp(-x/R), so g = -R ln(u) for u uniform in (0, 1]. What is left of a gap after an
 *           allocation without a mark is again such a distance, so the countdown just goes on; after a
 *           sample a new gap is drawn from the sample's end.
 *   whole   The countdown is whole bytes: G = floor(g). An allocation of s bytes is a sample if
 *           G - s < 0, which for whole s is the same as g < s. Rounding down is therefore exact, and
 *           P(sample) = P(g < s) = 1 - exp(-s/R) = p.
 *   weight  Each sample counts 1/p allocations. The sum over all samples of one size has the mean
 *           n p (1/p) = n: unbiased for each size and R, also where s is far above R. Its variance is
 *           n (1-p)/p. Bytes are s times as many.
 *   R = 1   means every allocation (p would be 0.9997 for 8 bytes): weight 1, exact. R = 0: none.
 *
 * A weight is kept in fixed point, 65536 for one block (MODA_COUNT_ONE), rounded to a whole number that a
 * float holds without loss (24 significant bits), up or down at random so that its mean is the true weight:
 * rounding adds no bias, and at most 2^-23 (relative; 2^-16 where the weight is below 256) of spread. The bytes of a sample,
 * weight x size, are rounded to the nearest whole byte, the same at its birth and at its end: off by half a byte in
 * at least max(R, size), below 1e-6 at the default R.
 */
#ifndef MODA_SAMPLE_SAMPLER_H
#define MODA_SAMPLE_SAMPLER_H

#include "base/compiler.h"

/* The longest gap, also where sampling is off: far enough from overflow to add to it. */
#define MODA_SAMPLER_NEVER (INT64_C(1) << 60)

/* Starts a thread's stream. The same seed, slot and incarnation give the same stream: no address, clock or
 * thread id goes in. */
void moda_sampler_seed(uint64_t *stream, uint64_t seed, uint32_t slot, uint32_t incarnation);

/* Block bytes until the next sample: an allocation that takes this below 0 is one. 0 for mean 1 (each
 * is), MODA_SAMPLER_NEVER for mean 0. */
int64_t moda_sampler_gap(uint64_t *stream, uint64_t mean);

/* 1 / (1 - exp(-size/mean)), to 1e-13; 1 for mean 1. */
double moda_sampler_weight(size_t size, uint64_t mean);

/* The weight of one sample, x 65536, rounded as said above. */
uint64_t moda_sampler_weight_fixed(uint64_t *stream, size_t size, uint64_t mean);

/* To and from the float that a block's header keeps: without loss for what the function above gives. */
MODA_INLINE float moda_sampler_pack_weight(uint64_t weight_fixed) {
    return (float)(int64_t)weight_fixed;
}
MODA_INLINE uint64_t moda_sampler_unpack_weight(float weight) {
    return (uint64_t)(int64_t)weight;
}

/* Weight x bytes, rounded. Where every allocation is a sample each weight is 1. */
MODA_INLINE uint64_t moda_sampler_weigh(uint64_t weight_fixed, uint64_t bytes) {
    if (moda_likely(weight_fixed == 65536u)) {
        return bytes;
    }
    return (uint64_t)(((unsigned __int128)weight_fixed * bytes + 32768u) >> 16);
}

/* For tests: ln(x) for x > 0, and 1 - exp(-x) for x >= 0. */
double moda_sampler_log(double x);
double moda_sampler_one_minus_exp(double x);

#endif
