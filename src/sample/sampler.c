/* SPDX-License-Identifier: MIT
 *
 * sampler.c - the arithmetic of sampler.h, without libm: a malloc must not depend on it, and its functions may
 * be anything in the program (they can be interposed).
 */
#include "sample/sampler.h"

#include <string.h>

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014); 64 bits of state, one output a
 * step, each state is a good start. */
static uint64_t next_random(uint64_t *stream) {
    uint64_t z = *stream += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void moda_sampler_seed(uint64_t *stream, uint64_t seed, uint32_t slot, uint32_t incarnation) {
    /* Three steps of mixing, or neighbouring slots would start at neighbouring states. */
    uint64_t mixed = seed;
    mixed = next_random(&mixed) ^ slot;
    mixed = next_random(&mixed) ^ incarnation;
    *stream = next_random(&mixed);
}

/* ln(x) = e ln 2 + ln m, with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh(t), t = (m-1)/(m+1), |t| < 0.172:
 * the series' first term left out, 2 t^19/19, is below 4e-16. */
double moda_sampler_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t exponent = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    static const double term[] = {1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0};
    const double t = (m - 1) / (m + 1);
    const double square = t * t;
    double sum = 1.0 / 17;
    for (int i = 0; i < 8; i++) {
        sum = sum * square + term[i];
    }
    return (double)exponent * 0.69314718055994530942 + 2 * t * sum;
}

/* With x = 2^k y and y <= 1/8: the series of 1 - exp(-y) to y^10 (the next term is below 1e-17 of the first),
 * then k times 1 - exp(-2y) = q (2 - q) for q = 1 - exp(-y), in which nothing cancels. */
double moda_sampler_one_minus_exp(double x) {
    if (x > 40) {
        return 1; /* exp(-40) is below half a unit in the last place */
    }
    int doublings = 0;
    while (x > 0.125) {
        x *= 0.5;
        doublings++;
    }
    static const double part[] = {1.0 / 10, 1.0 / 9, 1.0 / 8, 1.0 / 7, 1.0 / 6,
                                  1.0 / 5,  1.0 / 4, 1.0 / 3, 1.0 / 2};
    double sum = 1;
    for (int i = 0; i < 9; i++) {
        sum = 1 - x * part[i] * sum;
    }
    double q = x * sum;
    while (doublings-- > 0) {
        q *= 2 - q;
    }
    return q;
}

int64_t moda_sampler_gap(uint64_t *stream, uint64_t mean) {
    if (mean <= 1) {
        return mean == 1 ? 0 : MODA_SAMPLER_NEVER;
    }
    /* 53 bits, never 0: (0, 1]. */
    const double u = (double)((next_random(stream) >> 11) + 1) * 0x1p-53;
    const double gap = -(double)mean * moda_sampler_log(u);
    return gap < (double)MODA_SAMPLER_NEVER ? (int64_t)gap : MODA_SAMPLER_NEVER;
}

double moda_sampler_weight(size_t size, uint64_t mean) {
    if (mean <= 1 || size == 0) {
        return 1;
    }
    return 1 / moda_sampler_one_minus_exp((double)size / (double)mean);
}

uint64_t moda_sampler_weight_fixed(uint64_t *stream, size_t size, uint64_t mean) {
    if (mean <= 1) {
        return 65536;
    }
    const double exact = moda_sampler_weight(size, mean) * 65536;
    const uint64_t above = (uint64_t)exact >> 24;
    const uint64_t unit =
        above == 0 ? 1
                   : UINT64_C(2) << (63 - __builtin_clzll(above)); /* of the last of 24 significant bits */
    const double steps = exact / (double)unit;
    const uint64_t whole = (uint64_t)steps;
    const double u = (double)(next_random(stream) >> 11) * 0x1p-53;
    return (whole + (u < steps - (double)whole)) * unit;
}
