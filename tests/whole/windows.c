/* SPDX-License-Identifier: MIT
 *
 * windows.c - process windows and thread windows: alone, nested, overlapping, on several threads, more
 * than have room, stopped on another thread, across a reset.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "whole.h"

static void *take(size_t size, uint64_t *block) {
    void *p = malloc(size);
    NEED(p != NULL, "malloc(%zu) gives NULL", size);
    *block = malloc_usable_size(p);
    return p;
}

static void one_window(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    uint64_t a, b, c;
    void *before = take(1000, &a);
    const mod_alloc_stats at_start = whole_now();
    mod_alloc_profiler_start(&window);
    void *p = take(5000, &b);
    void *q = take(70000, &c);
    free(q);
    free(before);
    mod_alloc_profiler_stop(&window, &stats);
    CHECK_EQ(stats.alloc_count, 2, "two blocks");
    CHECK_EQ(stats.free_count, 2, "two frees");
    CHECK_EQ(stats.total_bytes, b + c, "bytes of the two");
    CHECK_EQ(stats.requested_bytes, 75000, "what was asked for");
    CHECK_EQ(stats.peak_bytes, at_start.current_bytes + b + c, "peak: absolute, inside the window");
    CHECK_EQ(stats.peak_live_count, at_start.live_count + 2, "blocks at the peak");
    CHECK_EQ(window.net_bytes, (int64_t)b - (int64_t)a, "signed growth");
    CHECK_EQ(window.net_count, 0, "one came, one went");
    CHECK_EQ(stats.current_bytes, b - a, "growth");
    CHECK_EQ(stats.live_count, 0, "growth in blocks");
    free(p);
}

static void a_window_in_which_memory_falls(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    uint64_t a, b;
    void *p = take(3000, &a);
    void *q = take(200, &b);
    const mod_alloc_stats at_start = whole_now();
    mod_alloc_profiler_start(&window);
    free(p);
    free(q);
    mod_alloc_profiler_stop(&window, &stats);
    CHECK_EQ(window.net_bytes, -(int64_t)(a + b), "signed growth");
    CHECK_EQ(window.net_count, -2, "signed growth");
    CHECK_EQ(stats.current_bytes, 0, "growth, 0 if it fell");
    CHECK_EQ(stats.live_count, 0, "growth, 0 if it fell");
    CHECK_EQ(stats.peak_bytes, at_start.current_bytes, "the peak is where the window began");
    CHECK_EQ(stats.peak_live_count, at_start.live_count, "the peak is where the window began");
    CHECK_EQ(stats.total_bytes, 0, "nothing was allocated");
}

static void an_empty_window(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    mod_alloc_profiler_start(&window);
    mod_alloc_profiler_stop(&window, &stats);
    CHECK_EQ(stats.alloc_count + stats.free_count + stats.total_bytes + stats.requested_bytes, 0, "empty");
    CHECK_EQ(window.net_bytes, 0, "empty");
    CHECK_EQ(stats.peak_bytes, whole_now().current_bytes, "peak of an empty window");
    mod_alloc_profiler_start(&window);
    mod_alloc_profiler_stop(&window, NULL);
}

/* The outer window's peak comes before the inner one opens; the inner has its own, lower one. */
static void nested(void) {
    mod_alloc_profiler outer, inner;
    mod_alloc_stats of_outer, of_inner;
    uint64_t a, b, c;
    const mod_alloc_stats at_start = whole_now();
    mod_alloc_profiler_start(&outer);
    void *p = take(300000, &a);
    free(p);
    mod_alloc_profiler_start(&inner);
    void *q = take(10000, &b);
    free(q);
    mod_alloc_profiler_stop(&inner, &of_inner);
    p = take(100000, &c);
    free(p);
    mod_alloc_profiler_stop(&outer, &of_outer);
    CHECK_EQ(of_inner.peak_bytes, at_start.current_bytes + b, "inner peak");
    CHECK_EQ(of_outer.peak_bytes, at_start.current_bytes + a, "outer peak");
    CHECK_EQ(of_inner.alloc_count, 1, "inner");
    CHECK_EQ(of_outer.alloc_count, 3, "outer");
    CHECK_EQ(of_outer.free_count, 3, "outer");
    CHECK_EQ(of_outer.total_bytes, a + b + c, "outer");
}

/* The inner window holds the highest peak: the outer one must see it too. */
static void nested_with_the_peak_inside(void) {
    mod_alloc_profiler outer, inner;
    mod_alloc_stats of_outer, of_inner;
    uint64_t a, b;
    const mod_alloc_stats at_start = whole_now();
    mod_alloc_profiler_start(&outer);
    void *p = take(2000, &a);
    mod_alloc_profiler_start(&inner);
    void *q = take(500000, &b);
    free(q);
    mod_alloc_profiler_stop(&inner, &of_inner);
    free(p);
    mod_alloc_profiler_stop(&outer, &of_outer);
    CHECK_EQ(of_inner.peak_bytes, at_start.current_bytes + a + b, "inner peak");
    CHECK_EQ(of_outer.peak_bytes, at_start.current_bytes + a + b, "outer peak");
    CHECK_EQ(of_outer.peak_live_count, at_start.live_count + 2, "outer peak, blocks");
}

static void overlapping(void) {
    mod_alloc_profiler first, second;
    mod_alloc_stats of_first, of_second;
    uint64_t a, b, c;
    const mod_alloc_stats at_start = whole_now();
    mod_alloc_profiler_start(&first);
    void *p = take(50000, &a);
    mod_alloc_profiler_start(&second);
    free(p);
    p = take(20000, &b);
    mod_alloc_profiler_stop(&first, &of_first);
    void *q = take(90000, &c);
    free(q);
    free(p);
    mod_alloc_profiler_stop(&second, &of_second);
    CHECK_EQ(of_first.peak_bytes, at_start.current_bytes + a, "first peak");
    CHECK_EQ(of_second.peak_bytes, at_start.current_bytes + b + c, "second peak");
    CHECK_EQ(of_first.alloc_count, 2, "first");
    CHECK_EQ(of_second.alloc_count, 2, "second");
    CHECK_EQ(of_first.free_count, 1, "first");
    CHECK_EQ(of_second.free_count, 3, "second");
    CHECK_EQ(first.net_bytes, b, "first");
    CHECK_EQ(second.net_bytes, -(int64_t)a, "second");
}

static void a_full_house(void) {
    enum { windows = MOD_ALLOC_WINDOWS_MAX + 6 };
    static mod_alloc_profiler window[windows];
    mod_alloc_stats stats;
    uint64_t block[windows], sum = 0;
    void *p[windows];
    const mod_alloc_stats at_start = whole_now();
    for (int i = 0; i < windows; i++) {
        mod_alloc_profiler_start(&window[i]);
        p[i] = take(100 + 50 * (size_t)i, &block[i]);
        sum += block[i];
    }
    for (int i = 0; i < windows; i++) {
        free(p[i]);
    }
    uint64_t before = 0;
    for (int i = 0; i < windows; i++) {
        mod_alloc_profiler_stop(&window[i], &stats);
        CHECK_EQ(stats.alloc_count, windows - i, "allocations since the i-th start");
        CHECK_EQ(stats.total_bytes, sum - before, "bytes since the i-th start");
        if (i < MOD_ALLOC_WINDOWS_MAX) {
            CHECK_EQ(stats.peak_bytes, at_start.current_bytes + sum, "all windows saw the one peak");
        } else {
            CHECK(stats.peak_bytes >= at_start.current_bytes + sum,
                  "the peak of a window without a slot: %" PRIu64 ", at least %" PRIu64, stats.peak_bytes,
                  at_start.current_bytes + sum);
        }
        before += block[i];
    }
    /* Those slots are free again. */
    nested();
}

static void a_reset_does_not_disturb_it(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    uint64_t a, b;
    const mod_alloc_stats at_start = whole_now();
    mod_alloc_profiler_start(&window);
    void *p = take(40000, &a);
    free(p);
    mod_alloc_reset();
    p = take(3000, &b);
    mod_alloc_profiler_stop(&window, &stats);
    CHECK_EQ(stats.alloc_count, 2, "window across a reset");
    CHECK_EQ(stats.free_count, 1, "window across a reset");
    CHECK_EQ(stats.total_bytes, a + b, "window across a reset");
    CHECK_EQ(stats.requested_bytes, 43000, "window across a reset");
    CHECK_EQ(stats.peak_bytes, at_start.current_bytes + a, "window across a reset");
    CHECK_EQ(window.net_bytes, b, "window across a reset");
    free(p);
}

static void windows_do_not_disturb_the_process_peak(void) {
    mod_alloc_reset();
    uint64_t a, b;
    const mod_alloc_stats at_start = whole_now();
    void *p = take(600000, &a);
    free(p);
    mod_alloc_profiler window;
    mod_alloc_profiler_start(&window);
    p = take(100, &b);
    free(p);
    mod_alloc_profiler_stop(&window, NULL);
    CHECK_EQ(whole_now().peak_bytes, at_start.current_bytes + a, "the process's peak");
}

/* ---- thread windows ---- */

static void thread_window(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    uint64_t a, b, c;
    void *before = take(777, &a);
    mod_alloc_thread_profiler_start(&window);
    void *p = take(5000, &b);
    void *q = take(70000, &c);
    free(q);
    free(before);
    mod_alloc_thread_profiler_stop(&window, &stats);
    CHECK_EQ(stats.alloc_count, 2, "two blocks");
    CHECK_EQ(stats.free_count, 2, "two frees");
    CHECK_EQ(stats.total_bytes, b + c, "bytes of the two");
    CHECK_EQ(stats.requested_bytes, 75000, "what was asked for");
    CHECK_EQ(stats.peak_bytes, b + c, "peak: growth above the start");
    CHECK_EQ(stats.peak_live_count, 2, "peak: growth in blocks");
    CHECK_EQ(window.net_bytes, (int64_t)b - (int64_t)a, "signed growth");
    CHECK_EQ(window.net_count, 0, "one came, one went");
    free(p);
}

static void thread_windows_nested(void) {
    mod_alloc_profiler outer, middle, inner;
    mod_alloc_stats of_outer, of_middle, of_inner;
    uint64_t a, b, c, d;
    mod_alloc_thread_profiler_start(&outer);
    void *p = take(300000, &a);
    free(p);
    mod_alloc_thread_profiler_start(&middle);
    p = take(200, &d);
    mod_alloc_thread_profiler_start(&inner);
    void *q = take(10000, &b);
    free(q);
    mod_alloc_thread_profiler_stop(&inner, &of_inner);
    free(p);
    mod_alloc_thread_profiler_stop(&middle, &of_middle);
    p = take(100000, &c);
    free(p);
    mod_alloc_thread_profiler_stop(&outer, &of_outer);
    CHECK_EQ(of_inner.peak_bytes, b, "inner peak");
    CHECK_EQ(of_middle.peak_bytes, d + b, "middle peak");
    CHECK_EQ(of_middle.peak_live_count, 2, "middle peak");
    CHECK_EQ(of_outer.peak_bytes, a, "outer peak");
    CHECK_EQ(of_outer.total_bytes, a + b + c + d, "outer");
}

static void thread_windows_overlapping(void) {
    mod_alloc_profiler first, second;
    mod_alloc_stats of_first, of_second;
    uint64_t a, b, c;
    mod_alloc_thread_profiler_start(&first);
    void *p = take(50000, &a);
    mod_alloc_thread_profiler_start(&second);
    free(p);
    p = take(20000, &b);
    mod_alloc_thread_profiler_stop(&first, &of_first);
    void *q = take(90000, &c);
    free(q);
    free(p);
    mod_alloc_thread_profiler_stop(&second, &of_second);
    CHECK_EQ(of_first.peak_bytes, a, "first peak");
    const uint64_t growth = b + c > a ? b + c - a : 0;
    CHECK_EQ(of_second.peak_bytes, growth, "second peak: above where it began");
}

/* Each turn of a benchmark opens one: many in a row, each exact. */
static void thread_windows_in_a_row(void) {
    for (size_t i = 1; i < 3000; i++) {
        mod_alloc_profiler window;
        mod_alloc_stats stats;
        uint64_t a, b;
        mod_alloc_thread_profiler_start(&window);
        void *p = take(i, &a);
        void *q = take(i * 3, &b);
        free(p);
        free(q);
        mod_alloc_thread_profiler_stop(&window, &stats);
        CHECK_EQ(stats.alloc_count, 2, "in a row");
        CHECK_EQ(stats.peak_bytes, a + b, "in a row: peak");
        CHECK_EQ(stats.peak_live_count, 2, "in a row: blocks at the peak");
        CHECK_EQ(stats.requested_bytes, 4 * i, "in a row: asked");
        if (whole_failures > 0) {
            return;
        }
    }
}

static void thread_windows_never_stopped(void) {
    mod_alloc_profiler forgotten[MOD_ALLOC_WINDOWS_MAX + 10];
    for (int i = 0; i < MOD_ALLOC_WINDOWS_MAX + 10; i++) {
        mod_alloc_thread_profiler_start(&forgotten[i]);
    }
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    uint64_t a;
    mod_alloc_thread_profiler_start(&window);
    void *p = take(4321, &a);
    free(p);
    mod_alloc_thread_profiler_stop(&window, &stats);
    CHECK_EQ(stats.alloc_count, 1, "counts are right although there is no slot");
    CHECK_EQ(stats.total_bytes, a, "counts are right although there is no slot");
    for (int i = MOD_ALLOC_WINDOWS_MAX + 9; i >= 0; i--) {
        mod_alloc_thread_profiler_stop(&forgotten[i], &stats);
        CHECK_EQ(stats.alloc_count, 1, "counts are right although there is no slot");
    }
    thread_windows_nested();
}

/* Beyond the last entry: a peak that is too high may be, one that is too low not, however the mark was moved and whichever
 * windows were stopped before. */
static void thread_windows_beyond_the_last(bool oldest_first) {
    enum { full = MOD_ALLOC_WINDOWS_MAX };
    static mod_alloc_profiler window[full], beyond, later;
    mod_alloc_stats stats, of_beyond, of_later;
    uint64_t a, b;
    for (int i = 0; i < full; i++) {
        mod_alloc_thread_profiler_start(&window[i]);
    }
    mod_alloc_thread_profiler_start(&beyond);
    void *p = take(1000000, &a);
    free(p);
    mod_alloc_thread_profiler_start(&later);
    mod_alloc_thread_profiler_stop(&later, NULL);
    if (oldest_first) {
        for (int i = 0; i < full; i++) {
            mod_alloc_thread_profiler_stop(&window[i], &stats);
            CHECK_EQ(stats.peak_bytes, a, "a window with an entry");
        }
        mod_alloc_thread_profiler_start(&later);
        p = take(1000, &b);
        free(p);
        mod_alloc_thread_profiler_stop(&beyond, &of_beyond);
        mod_alloc_thread_profiler_stop(&later, &of_later);
        CHECK_EQ(of_later.peak_bytes, b, "a window with an entry again");
    } else {
        mod_alloc_thread_profiler_stop(&beyond, &of_beyond);
        for (int i = full - 1; i >= 0; i--) {
            mod_alloc_thread_profiler_stop(&window[i], &stats);
            CHECK_EQ(stats.peak_bytes, a, "a window with an entry");
        }
    }
    CHECK(of_beyond.peak_bytes >= a, "a window without an entry: %" PRIu64 ", at least %" PRIu64,
          of_beyond.peak_bytes, a);
    CHECK(of_beyond.peak_live_count >= 1, "a window without an entry: %" PRIu64 " blocks",
          of_beyond.peak_live_count);
}

/* ---- on several threads ---- */

#define THREADS 4
static pthread_barrier_t barrier;
static mod_alloc_profiler handed_over;
static int round_of_threads;

static void *thread_body(void *argument) {
    const size_t id = (size_t)(uintptr_t)argument;
    const size_t size = 30000 * (id + 1);
    mod_alloc_profiler of_process, of_thread;
    mod_alloc_stats process, thread;
    pthread_barrier_wait(&barrier); /* all stand */
    const uint64_t process_before = whole_now().current_bytes;
    pthread_barrier_wait(&barrier);
    mod_alloc_profiler_start(&of_process);
    pthread_barrier_wait(&barrier); /* all have one open */
    mod_alloc_thread_profiler_start(&of_thread);
    void *p[100];
    uint64_t block = 0, sum = 0;
    for (int i = 0; i < 100; i++) {
        p[i] = take(size, &block);
        sum += block;
    }
    pthread_barrier_wait(&barrier); /* everything of every thread is live now: the peak */
    for (int i = 0; i < 100; i++) {
        free(p[i]);
    }
    mod_alloc_thread_profiler_stop(&of_thread, &thread);
    pthread_barrier_wait(&barrier);
    mod_alloc_profiler_stop(&of_process, &process);

    CHECK_EQ(thread.alloc_count, 100, "thread window: this thread alone");
    CHECK_EQ(thread.free_count, 100, "thread window: this thread alone");
    CHECK_EQ(thread.total_bytes, sum, "thread window: this thread alone");
    CHECK_EQ(thread.peak_bytes, sum, "thread window: its own peak");
    CHECK_EQ(thread.peak_live_count, 100, "thread window: its own peak");
    CHECK_EQ(process.alloc_count, 100 * THREADS, "process window: all threads");
    CHECK_EQ(process.free_count, 100 * THREADS, "process window: all threads");
    CHECK_EQ(of_process.net_bytes, 0, "process window: all freed");
    CHECK_EQ(process.requested_bytes, 100 * 30000 * (1 + 2 + 3 + 4), "process window: all threads");
    const uint64_t slack = THREADS * (uint64_t)MOD_ALLOC_PEAK_SLACK; /* main sleeps, and is one more */
    const uint64_t true_peak = process_before + process.total_bytes;
    CHECK(process.peak_bytes <= true_peak && process.peak_bytes + slack >= true_peak,
          "process window, peak: found %" PRIu64 ", true %" PRIu64 ", may be low by %" PRIu64,
          process.peak_bytes, true_peak, slack);

    /* A window may be stopped on another thread than it was started on. */
    pthread_barrier_wait(&barrier);
    if (id == 0) {
        mod_alloc_profiler_start(&handed_over);
        void *q = take(12345, &block);
        free(q);
    }
    pthread_barrier_wait(&barrier);
    if (id == 1) {
        mod_alloc_stats stats;
        mod_alloc_profiler_stop(&handed_over, &stats);
        CHECK_EQ(stats.alloc_count, 1, "stopped on another thread");
        CHECK_EQ(stats.requested_bytes, 12345, "stopped on another thread");
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void on_threads(void) {
    pthread_t thread[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (round_of_threads = 0; round_of_threads < 20; round_of_threads++) {
        for (size_t i = 0; i < THREADS; i++) {
            NEED(pthread_create(&thread[i], NULL, thread_body, (void *)(uintptr_t)i) == 0, "no thread");
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(thread[i], NULL);
        }
    }
}

int main(void) {
    whole_begin();
    one_window();
    a_window_in_which_memory_falls();
    an_empty_window();
    nested();
    nested_with_the_peak_inside();
    overlapping();
    a_full_house();
    a_reset_does_not_disturb_it();
    windows_do_not_disturb_the_process_peak();
    thread_window();
    thread_windows_nested();
    thread_windows_overlapping();
    thread_windows_in_a_row();
    thread_windows_never_stopped();
    thread_windows_beyond_the_last(false);
    thread_windows_beyond_the_last(true);
    on_threads();
    return whole_end();
}
