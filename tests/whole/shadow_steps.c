/* SPDX-License-Identifier: MIT
 *
 * shadow_steps.c - one thread, random operations of the whole family; after each step all eight counters
 * must equal a model's, the peaks too: with one thread they are exact.
 */
#define _GNU_SOURCE
#include "whole.h"

#define SLOTS 400
#define STEPS 60000

typedef struct {
    uint64_t alloc_count, free_count, total, current, live, requested, peak;
    uint64_t peak_live_low, peak_live_high; /* live_count at the moments when current was the peak */
} model;

static struct {
    unsigned char *p;
    size_t asked;
    uint64_t block;
} slot[SLOTS];

static model m;

static void look_for_a_peak(void) {
    if (m.current > m.peak) {
        m.peak = m.current;
        m.peak_live_low = m.peak_live_high = m.live;
    } else if (m.current == m.peak) {
        m.peak_live_low = m.live < m.peak_live_low ? m.live : m.peak_live_low;
        m.peak_live_high = m.live > m.peak_live_high ? m.live : m.peak_live_high;
    }
}

static void begin_the_model_anew(void) {
    m = (model){0};
    const mod_alloc_stats now = whole_now();
    m.current = now.current_bytes;
    m.live = now.live_count;
    look_for_a_peak();
}

static size_t random_size(uint64_t *state) {
    const uint64_t r = whole_random(state);
    const uint64_t kind = r % 100;
    const size_t x = (size_t)(r >> 20);
    if (kind < 60) {
        return x % 300;
    }
    if (kind < 80) {
        return x % 1100;
    }
    if (kind < 92) {
        return x % 20000;
    }
    if (kind < 98) {
        return x % 300000;
    }
    return kind < 99 ? x % (3u << 20) : x % (20u << 20);
}

static void allocate(size_t i, uint64_t *state) {
    const size_t size = random_size(state);
    unsigned char *p = NULL;
    bool over_aligned = false;
    const mod_alloc_stats before = whole_now();
    switch (whole_random(state) % 8) {
    case 0: p = calloc(1, size); break;
    case 1: p = realloc(NULL, size); break;
    case 2: {
        const size_t alignment = (size_t)16 << whole_random(state) % 9;
        over_aligned = alignment > 16;
        p = aligned_alloc(alignment, size);
        NEED((uintptr_t)p % alignment == 0, "aligned_alloc(%zu, %zu) gives %p", alignment, size, (void *)p);
        break;
    }
    default: p = malloc(size);
    }
    NEED(p != NULL, "no block of %zu bytes", size);
    slot[i].p = p;
    slot[i].asked = size;
    slot[i].block = over_aligned ? whole_now().total_bytes - before.total_bytes : malloc_usable_size(p);
    m.alloc_count++;
    m.live++;
    m.total += slot[i].block;
    m.current += slot[i].block;
    m.requested += size;
    look_for_a_peak();
    if (size > 0) {
        p[0] = p[size - 1] = (unsigned char)i;
    }
}

static void reallocate(size_t i, uint64_t *state) {
    const size_t size = random_size(state) + 1;
    const mod_alloc_stats before = whole_now();
    unsigned char *p = realloc(slot[i].p, size);
    NEED(p != NULL, "no block of %zu bytes", size);
    CHECK(slot[i].asked == 0 || p[0] == (unsigned char)i, "realloc from %zu to %zu lost the contents",
          slot[i].asked, size);
    /* A block that stays where it is may still be an over-aligned one. */
    const bool stays = p == slot[i].p;
    const mod_alloc_stats after = whole_now();
    const uint64_t block =
        stays ? slot[i].block + after.current_bytes - before.current_bytes : malloc_usable_size(p);
    m.alloc_count++;
    m.requested += size;
    m.total += block > slot[i].block ? block - slot[i].block : 0;
    m.current += block - slot[i].block;
    look_for_a_peak();
    slot[i].p = p;
    slot[i].asked = size;
    slot[i].block = block;
    p[0] = p[size - 1] = (unsigned char)i;
}

static void release(size_t i) {
    CHECK(slot[i].asked == 0 || slot[i].p[slot[i].asked - 1] == (unsigned char)i, "contents are lost");
    free(slot[i].p);
    m.free_count++;
    m.live--;
    m.current -= slot[i].block;
    slot[i].p = NULL;
}

static bool compare(int step) {
    const mod_alloc_stats now = whole_now();
    const int failures = whole_failures;
    char where[32];
    snprintf(where, sizeof where, "step %d", step);
    CHECK_EQ(now.alloc_count, m.alloc_count, where);
    CHECK_EQ(now.free_count, m.free_count, where);
    CHECK_EQ(now.total_bytes, m.total, where);
    CHECK_EQ(now.current_bytes, m.current, where);
    CHECK_EQ(now.live_count, m.live, where);
    CHECK_EQ(now.requested_bytes, m.requested, where);
    CHECK_EQ(now.peak_bytes, m.peak, where);
    CHECK(now.peak_live_count >= m.peak_live_low && now.peak_live_count <= m.peak_live_high,
          "%s: peak_live_count is %" PRIu64 ", expected %" PRIu64 " to %" PRIu64, where, now.peak_live_count,
          m.peak_live_low, m.peak_live_high);
    return whole_failures == failures;
}

int main(void) {
    whole_begin();
    uint64_t state = 42;
    mod_alloc_reset();
    begin_the_model_anew();
    for (int step = 0; step < STEPS; step++) {
        const size_t i = whole_random(&state) % SLOTS;
        const uint64_t what = whole_random(&state) % 4;
        if (slot[i].p == NULL) {
            allocate(i, &state);
        } else if (what == 0) {
            reallocate(i, &state);
        } else {
            release(i);
        }
        if (step % 10007 == 10006) {
            mod_alloc_reset();
            begin_the_model_anew();
        }
        if (!compare(step) && whole_failures > 8) {
            break;
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (slot[i].p != NULL) {
            release(i);
        }
    }
    compare(STEPS);
    return whole_end();
}
