/* SPDX-License-Identifier: MIT
 *
 * deterministic.c - allocates the same in each run and prints counters and usable sizes: modes_agree.sh runs
 * it with MOD_ALLOC_SAMPLE at 0, 512K, 4K and 1 and compares. Sizes are allowed to differ from another
 * allocator's, never from one mode to another, over-aligned blocks' too. The
 * peak is exact as long as there is one thread; after that it is not compared. With an argument it prints the samples,
 * site by site, too: seeded.sh compares them by MOD_ALLOC_SEED.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "whole.h"

#define SLOTS 3000

static unsigned char *block[SLOTS];
static size_t asked[SLOTS];
static bool has_threads;
static uint64_t digest = 1469598103934665603u;

static void digest_add(uint64_t value) {
    digest = (digest ^ value) * 1099511628211u;
}

static void print_counters(const char *where) {
    mod_alloc_stats s = whole_now();
    if (has_threads) {
        s.peak_bytes = s.peak_live_count = 0;
    }
    printf("%s: alloc %" PRIu64 " free %" PRIu64 " total %" PRIu64 " current %" PRIu64 " peak %" PRIu64
           " live %" PRIu64 " peak_live %" PRIu64 " requested %" PRIu64 " digest %016" PRIx64 "\n",
           where, s.alloc_count, s.free_count, s.total_bytes, s.current_bytes, s.peak_bytes, s.live_count,
           s.peak_live_count, s.requested_bytes, digest);
}

static size_t size_for(uint64_t *state) {
    const uint64_t r = whole_random(state);
    const size_t x = (size_t)(r >> 16);
    switch (r % 50) {
    case 0: return x % (2u << 20);
    case 1:
    case 2: return x % 200000;
    case 3:
    case 4:
    case 5: return x % 20000;
    default: return x % 1200;
    }
}

static void step(uint64_t *state) {
    const size_t i = whole_random(state) % SLOTS;
    const uint64_t way = whole_random(state) % 10;
    const size_t size = size_for(state);
    const size_t alignment = (size_t)32
                             << whole_random(state) % (size < 100000 ? 12 : 17); /* to 64 KiB, 2 MiB */
    if (block[i] != NULL && way < 5) {
        NEED(asked[i] == 0 || block[i][asked[i] - 1] == (unsigned char)i, "contents");
        free(block[i]);
        block[i] = NULL;
        return;
    }
    if (block[i] != NULL) {
        block[i] = realloc(block[i], size + 1);
        asked[i] = size + 1;
    } else {
        asked[i] = size;
        block[i] = way == 0   ? calloc(1, size)
                   : way == 1 ? aligned_alloc(alignment, size)
                   : way == 2 ? realloc(NULL, size)
                   : way == 3 ? memalign(512, size)
                              : malloc(size);
    }
    NEED(block[i] != NULL, "no block of %zu bytes", asked[i]);
    const size_t usable = malloc_usable_size(block[i]);
    NEED(usable >= asked[i], "%zu bytes of %zu are usable", usable, asked[i]);
    digest_add(usable);
    if (usable > 0) {
        block[i][usable - 1] = (unsigned char)~i;
    }
    const mod_alloc_stats now = whole_now();
    digest_add(now.current_bytes);
    digest_add(now.total_bytes);
    digest_add(has_threads ? 0 : now.peak_bytes);
    if (asked[i] > 0) {
        block[i][asked[i] - 1] = (unsigned char)i;
    }
}

static void *steps_in_a_thread(void *argument) {
    uint64_t state = (uint64_t)(uintptr_t)argument;
    for (int i = 0; i < 5000; i++) {
        step(&state);
    }
    return NULL;
}

static int print_site(const mod_alloc_call_site *site, void *unused) {
    (void)unused;
    printf("site %u: %" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " freed\n", site->id, site->alloc_samples,
           site->alloc_bytes, site->free_samples);
    return 0;
}

int main(int count, char **argument) {
    (void)argument;
    static char buffer[65536];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    whole_begin();
    for (size_t size = 0; size < 70000; size += size < 1100 ? 1 : size / 16) {
        void *p = malloc(size);
        printf("%zu:%zu ", size, malloc_usable_size(p));
        free(p);
    }
    printf("\n");
    mod_alloc_reset();
    print_counters("begin");
    uint64_t state = 2026;
    for (int i = 0; i < 40000; i++) {
        step(&state);
        if (i % 4000 == 0) {
            print_counters("step");
        }
    }
    print_counters("alone");
    /* One after the other: still the same in each run, now with blocks freed by other threads. */
    has_threads = true;
    for (uintptr_t i = 1; i <= 4; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, steps_in_a_thread, (void *)i);
        pthread_join(thread, NULL);
    }
    print_counters("threads");
    for (int i = 0; i < SLOTS; i++) {
        free(block[i]);
    }
    print_counters("end");
    if (count > 1) {
        mod_alloc_call_sites(print_site, NULL);
    }
    fflush(stdout);
    return whole_end();
}
