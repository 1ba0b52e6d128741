/* SPDX-License-Identifier: MIT
 *
 * lives.c - where every allocation is recorded, how long blocks live is timed for each of a site's first 256 and estimated
 * from one in eight from then on. The program times each life itself, so it knows by how much an estimate may be off: by
 * 5 standard deviations, missed once in 1.7 million. All else that is counted at the site stays exact. With the argument
 * "all" (and MOD_ALLOC_LIFETIMES=all) lives are no estimates either.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "whole.h"

enum { ALL = 256, STRIDE = 8, BATCH = 501, BATCHES = 39, LIVES = BATCH * BATCHES, COLD = 200, SIZE = 64 };
#define SHORT_NS 1000000.0
static bool all_are_timed;

static __attribute__((noinline)) void *by_hot(void) {
    void *p = malloc(SIZE);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static __attribute__((noinline)) void *by_cold(void) {
    void *p = malloc(SIZE);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

typedef struct search {
    uintptr_t function;
    mod_alloc_call_site sum;
} search;

static int look_at(const mod_alloc_call_site *site, void *context) {
    search *s = context;
    if (site->frame_count == 0 || site->frames[0] - s->function >= 64) {
        return 0;
    }
    CHECK(s->sum.alloc_count == 0, "a second site, of %" PRIu64, site->alloc_count);
    s->sum = *site;
    return 0;
}

static mod_alloc_call_site site_of(void *(*function)(void)) {
    search s = {.function = (uintptr_t)function};
    mod_alloc_call_sites(look_at, &s);
    return s.sum;
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void *block[BATCH];
/* Read on both sides of malloc and of free, so that a pause of the system beside a reading is in what is not known. */
static double before_birth[BATCH], behind_birth[BATCH];
static double least_ns, most_ns, longest, surely_short, maybe_short;
static double estimated, most_ns_squared; /* those of which a sum is estimated */

static void begin(int i) {
    before_birth[i] = now_ns();
    block[i] = by_hot();
    behind_birth[i] = now_ns();
}

static void end(int i, bool is_estimated) {
    const double least = now_ns() - behind_birth[i];
    free(block[i]);
    const double most = now_ns() - before_birth[i];
    least_ns += least;
    most_ns += most;
    longest = most > longest ? most : longest;
    if (is_estimated) {
        most_ns_squared += most * most;
        estimated++;
    }
    surely_short += most < 0.8 * SHORT_NS;
    maybe_short += least < 1.2 * SHORT_NS;
}

static void *end_on_another_thread(void *unused) {
    for (int i = 0; i < BATCH; i++) {
        end(i, true);
    }
    return unused;
}

static void check_estimate(const char *what, double found, double least, double most, double variance,
                           double slack) {
    const double off = (found < least ? least - found : found - most) - slack;
    CHECK(off <= 0 || (!all_are_timed && off * off <= 25 * (STRIDE - 1) * variance),
          "%s: %.0f found, %.0f to %.0f true, off by more than five times the root of %.3g", what, found,
          least, most, (STRIDE - 1) * variance);
}

/* Short ones and long ones in turn, block by block. */
static void run_batch(int n) {
    for (int i = 0; i < BATCH; i++) {
        begin(i);
        if (i % 2 != 0 && n != BATCHES - 1) {
            end(i, n * BATCH + i >= ALL);
            block[i] = NULL;
        }
    }
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    if (n == BATCHES - 1) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, end_on_another_thread, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
        return;
    }
    for (int i = 0; i < BATCH; i++) {
        if (block[i]) {
            end(i, n * BATCH + i >= ALL);
        }
    }
}

static void a_hot_site_is_estimated(void) {
    for (int n = 0; n < BATCHES; n++) {
        if (n == BATCHES - 1) {
            CHECK_EQ(site_of(by_hot).peak_count, BATCH / 2 + 1, "hot"); /* known to one thread alone */
        }
        run_batch(n);
    }
    const mod_alloc_call_site s = site_of(by_hot);
    CHECK_EQ(s.alloc_count, LIVES, "hot");
    CHECK_EQ(s.free_count, LIVES, "hot");
    CHECK_EQ(s.live_count, 0, "hot");
    CHECK_EQ(s.live_bytes, 0, "hot");
    CHECK_EQ(s.remote_free_count, BATCH, "hot");
    CHECK_EQ(s.lifetime_count, LIVES, "lives");
    /* their clock is another's: 1 us a life */
    check_estimate("their sum", (double)s.lifetime_sum_ns, least_ns, most_ns, most_ns_squared,
                   1000.0 * LIVES);
    check_estimate("short ones", (double)s.short_lived_count, surely_short, maybe_short, estimated,
                   all_are_timed ? 0 : (STRIDE - 1) * (maybe_short - surely_short));
    CHECK((double)s.lifetime_max_ns <= longest + 1e8, "none lived for %" PRIu64 " ns", s.lifetime_max_ns);
}

static void a_cold_site_is_exact(void) {
    for (int i = 0; i < COLD; i++) {
        block[i] = by_cold();
    }
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    for (int i = 0; i < COLD; i++) {
        free(block[i]);
    }
    const mod_alloc_call_site s = site_of(by_cold);
    CHECK_EQ(s.lifetime_count, COLD, "cold");
    CHECK_EQ(s.short_lived_count, 0, "cold");
    CHECK(s.lifetime_sum_ns >= s.lifetime_min_ns * COLD && s.lifetime_sum_ns <= s.lifetime_max_ns * COLD,
          "the sum of %d lives is %" PRIu64, COLD, s.lifetime_sum_ns);
}

int main(int argc, char **argv) {
    whole_begin();
    all_are_timed = argc > 1 && strcmp(argv[1], "all") == 0;
    a_hot_site_is_estimated();
    a_cold_site_is_exact();
    return whole_end();
}
