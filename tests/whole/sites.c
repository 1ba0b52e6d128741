/* SPDX-License-Identifier: MIT
 *
 * sites.c - what a call site says of its blocks, in a program that is known in advance, every allocation recorded: each
 * function of the family is a site that begins at the program's own call; live, freed, requested, lifetimes, frees on
 * another thread, the process's peak; and a block that realloc takes to another site.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <time.h>

#include "whole.h"

enum { SIZE = 1000, PEAK_SIZE = 8 << 20, SHORT_NS = 1000000 };

static volatile int two = 2, three = 3; /* loops that are not unrolled */

/* Each allocates in a function of its own, whose address names the site. */
#define WAY(name, call)                                                                                      \
    static __attribute__((noinline)) void *by_##name(void) {                                                 \
        void *p = NULL;                                                                                      \
        call;                                                                                                \
        __asm__ volatile("" : "+r"(p) : : "memory");                                                         \
        return p;                                                                                            \
    }
WAY(malloc, p = malloc(SIZE))
WAY(calloc, p = calloc(10, SIZE / 10))
WAY(realloc, p = realloc(NULL, SIZE))
WAY(reallocarray, p = reallocarray(NULL, 10, SIZE / 10))
WAY(aligned_alloc, p = aligned_alloc(64, SIZE))
WAY(memalign, p = memalign(512, SIZE))
WAY(posix_memalign, if (posix_memalign(&p, 128, SIZE) != 0) p = NULL)
WAY(valloc, p = valloc(SIZE))
WAY(large, p = malloc(PEAK_SIZE))
WAY(before_moving, p = malloc(SIZE))

static __attribute__((noinline)) void *by_moving(void *p) {
    p = realloc(p, (size_t)100 * SIZE);
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static const uintptr_t way[] = {
    (uintptr_t)by_malloc,         (uintptr_t)by_calloc,        (uintptr_t)by_realloc,
    (uintptr_t)by_reallocarray,   (uintptr_t)by_aligned_alloc, (uintptr_t)by_memalign,
    (uintptr_t)by_posix_memalign, (uintptr_t)by_valloc,        (uintptr_t)by_large,
    (uintptr_t)by_before_moving,  (uintptr_t)by_moving,
};
enum { WAYS = sizeof way / sizeof way[0] };

/* Debian's gcc leaves the index of unwind tables away in a program without shared libraries. */
#ifdef WHOLE_PREINIT
static const bool has_no_tables = false;
#else
static const bool has_no_tables = true;
#endif

typedef struct search {
    uintptr_t function;
    uintptr_t library; /* 0 where it is no object of its own */
    unsigned found;
    mod_alloc_call_site site;
} search;

/* The way whose code holds an address: the one that begins last before it. */
static uintptr_t way_of(uintptr_t address) {
    uintptr_t found = 0;
    for (size_t i = 0; i < WAYS; i++) {
        found = address > way[i] && address - way[i] < 256 && way[i] > found ? way[i] : found;
    }
    return found;
}

static int look_at(const mod_alloc_call_site *site, void *context) {
    search *s = context;
    for (size_t i = 0; s->library != 0 && i < site->frame_count; i++) {
        Dl_info info;
        CHECK(dladdr((void *)(site->frames[i] - 1), &info) == 0 || (uintptr_t)info.dli_fbase != s->library,
              "frame %zu of %zu is in %s", i, site->frame_count, info.dli_fname);
    }
    if (site->frame_count != 0 && way_of(site->frames[0]) == s->function) {
        s->found++;
        s->site = *site;
    }
    return 0;
}

static mod_alloc_call_site site_of(void *function) {
    search s = {.function = (uintptr_t)function};
#if defined(WHOLE_PRELOADED) || defined(WHOLE_LINKED)
    Dl_info ours;
    NEED(dladdr((void *)(uintptr_t)&mod_alloc_snapshot, &ours) != 0, "the library has no name");
    s.library = (uintptr_t)ours.dli_fbase;
#endif
    mod_alloc_call_sites(look_at, &s);
    NEED(s.found == 1, "%u sites begin there", s.found);
    return s.site;
}

static void *free_it(void *p) {
    free(p);
    return NULL;
}

static void check_way(const char *name, void *(*allocate)(void), size_t asked) {
    void *p[3];
    for (int i = 0; i < three; i++) { /* one site: one call, in one loop */
        p[i] = allocate();
        NEED(p[i] != NULL, "%s gives no block", name);
        memset(p[i], i, asked);
    }
    const uint64_t usable = malloc_usable_size(p[0]);
    mod_alloc_call_site s = site_of((void *)(uintptr_t)allocate);
    CHECK_EQ(s.alloc_count, 3, name);
    CHECK_EQ(s.live_count, 3, name);
    CHECK_EQ(s.live_bytes, 3 * usable, name);
    CHECK_EQ(s.alloc_requested_bytes, 3 * asked, name);
    CHECK_EQ(s.peak_count, 3, name);
    CHECK(has_no_tables || s.walk_end == MOD_ALLOC_WALK_COMPLETE, "%s: the walk ended by %d", name,
          (int)s.walk_end);
    nanosleep(&(struct timespec){.tv_nsec = 2 * SHORT_NS}, NULL);
    free(p[0]);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, free_it, p[1]) == 0, "no thread");
    pthread_join(thread, NULL);
    s = site_of((void *)(uintptr_t)allocate);
    CHECK_EQ(s.free_count, 2, name);
    CHECK_EQ(s.free_bytes, 2 * usable, name);
    CHECK_EQ(s.live_requested_bytes, asked, name);
    CHECK_EQ(s.remote_free_count, 1, name);
    CHECK_EQ(s.lifetime_count, 2, name);
    CHECK(s.lifetime_min_ns >= 2 * SHORT_NS, "%s: lived %" PRIu64 " ns, but a nap of 2 ms lay between", name,
          s.lifetime_min_ns);
    CHECK_EQ(s.short_lived_count, 0, name);
    /* of two lives the sum is that of the shortest and the longest, but for rounding */
    CHECK(s.lifetime_sum_ns + 4 >= s.lifetime_min_ns + s.lifetime_max_ns
              && s.lifetime_sum_ns <= s.lifetime_min_ns + s.lifetime_max_ns + 4,
          "%s: lives sum up to %" PRIu64 ", from %" PRIu64 " to %" PRIu64, name, s.lifetime_sum_ns,
          s.lifetime_min_ns, s.lifetime_max_ns);
    free(p[2]);
}

static void realloc_takes_it_along(void) {
    void *p = by_before_moving();
    nanosleep(&(struct timespec){.tv_nsec = 2 * SHORT_NS}, NULL);
    p = by_moving(p);
    NEED(p != NULL, "no block of %d bytes", 100 * SIZE);
    const mod_alloc_call_site from = site_of((void *)(uintptr_t)by_before_moving);
    CHECK_EQ(from.live_count, 0, "left behind");
    CHECK_EQ(from.free_count, 1, "left behind");
    CHECK_EQ(from.lifetime_count, 0, "no life has ended");
    const mod_alloc_call_site to = site_of((void *)(uintptr_t)by_moving);
    CHECK_EQ(to.live_count, 1, "taken along");
    CHECK_EQ(to.live_bytes, malloc_usable_size(p), "taken along");
    CHECK_EQ(to.live_requested_bytes, 100 * SIZE, "taken along");
    free(p);
    const mod_alloc_call_site end = site_of((void *)(uintptr_t)by_moving);
    CHECK_EQ(end.lifetime_count, 1, "its life ends here");
    CHECK(end.lifetime_min_ns >= 2 * SHORT_NS, "but it was born before the nap: %" PRIu64 " ns",
          end.lifetime_min_ns);
}

/* The eight counters and the sites agree on the process's peak. */
static void the_peak_is_known_by_site(void) {
    void *p[2];
    for (int i = 0; i < two; i++) { /* one site: one call, in one loop */
        p[i] = by_large();
    }
    const uint64_t usable = malloc_usable_size(p[0]);
    free(p[0]);
    free(p[1]);
    const mod_alloc_call_site s = site_of((void *)(uintptr_t)by_large);
    CHECK_EQ(s.at_peak_count, 2, "at the peak");
    CHECK_EQ(s.at_peak_bytes, 2 * usable, "at the peak");
    CHECK_EQ(s.at_peak_requested_bytes, 2 * PEAK_SIZE, "at the peak");
    CHECK_EQ(s.peak_count, 2, "its own peak");
    CHECK_EQ(s.live_count, 0, "at the end");
}

int main(void) {
    whole_begin();
    check_way("malloc", by_malloc, SIZE);
    check_way("calloc", by_calloc, SIZE);
    check_way("realloc", by_realloc, SIZE);
    check_way("reallocarray", by_reallocarray, SIZE);
    check_way("aligned_alloc", by_aligned_alloc, SIZE);
    check_way("memalign", by_memalign, SIZE);
    check_way("posix_memalign", by_posix_memalign, SIZE);
    check_way("valloc", by_valloc, SIZE);
    realloc_takes_it_along();
    the_peak_is_known_by_site();
    return whole_end();
}
