/* SPDX-License-Identifier: MIT
 *
 * samples_reuse.c - a sample that is freed leaves its memory to the next one, of its size or of less: samples come and go
 * without touching memory that is new.
 *
 * Pairs of malloc and free, of which one in twenty is a sample. Samples lie in pages of their own, where mimalloc's
 * generic path would hand out one block after the other.
 */
#include "whole.h"

enum { PAIRS = 40000, PLACES = 4096, SLICE_BITS = 16 };

static uintptr_t place[PLACES];
static unsigned hits[PLACES];
static unsigned place_count;

static void note(uintptr_t at) {
    unsigned i = 0;
    while (i < place_count && place[i] != at) {
        i++;
    }
    NEED(i < PLACES, "%u blocks at different addresses", i);
    place[i] = at;
    hits[i]++;
    place_count += i == place_count;
}

static unsigned hits_in_slice_of(unsigned one) {
    unsigned sum = 0;
    for (unsigned i = 0; i < place_count; i++) {
        sum += place[i] >> SLICE_BITS == place[one] >> SLICE_BITS ? hits[i] : 0;
    }
    return sum;
}

/* Samples, and at how many places they were. */
static unsigned run(unsigned *of_samples) {
    memset(hits, 0, sizeof hits);
    place_count = 0;
    for (int i = 0; i < PAIRS; i++) {
        void *p = malloc(i % 2 == 0 ? 3000 : 2100);
        NEED(p != NULL, "no block");
        note((uintptr_t)p);
        free(p);
    }
    unsigned samples = 0;
    *of_samples = 0;
    for (unsigned i = 0; i < place_count; i++) {
        if (hits_in_slice_of(i) < PAIRS / 8) {
            (*of_samples)++;
            samples += hits[i];
        }
    }
    return samples;
}

/* Memory is given back by the clock, now and then: a run in which that happens sees other places. Of five, one must not. */
int main(void) {
    whole_begin();
    unsigned samples = 0, of_samples = 0;
    for (int i = 0; i < 5 && (samples <= PAIRS / 100 || of_samples > 2); i++) {
        samples = run(&of_samples);
    }
    CHECK(samples > PAIRS / 100, "%u samples", samples);
    CHECK(of_samples <= 2, "%u samples at %u places", samples, of_samples);
    return whole_end();
}
