/* SPDX-License-Identifier: MIT
 *
 * calls.c - what the calls of mod_alloc.h cost: nanoseconds each, as JSON on standard output.
 *
 *   snapshot         of the process, with THREADS threads that have allocated and wait
 *   thread_snapshot  of this thread
 *   thread_window    start and stop of a thread window, together, with one malloc and free inside
 *                    taken off again
 *   window           the same of a process window
 *
 * Each is timed in ROUNDS rounds, and the smallest and the median of them are printed: the smallest is what
 * the code takes where nothing disturbs it.
 */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "loop.h"
#include "mod_alloc.h"

enum { ROUNDS = 101, CALLS = 2000, THREADS_MAX = 64 };

LOOP_SINK;
static pthread_barrier_t all_have_allocated, all_may_end;

static void *be_thread(void *unused) {
    (void)unused;
    loop_sink = malloc(100);
    pthread_barrier_wait(&all_have_allocated);
    pthread_barrier_wait(&all_may_end);
    return NULL;
}

static void do_nothing(void) {
    loop_sink = NULL;
}

static void do_pair(void) {
    loop_sink = malloc(48);
    free(loop_sink);
}

static void do_snapshot(void) {
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    loop_sink = (void *)(uintptr_t)stats.alloc_count;
}

static void do_thread_snapshot(void) {
    mod_alloc_stats stats;
    mod_alloc_thread_snapshot(&stats);
    loop_sink = (void *)(uintptr_t)stats.alloc_count;
}

static void do_thread_window(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    mod_alloc_thread_profiler_start(&window);
    do_pair();
    mod_alloc_thread_profiler_stop(&window, &stats);
    loop_sink = (void *)(uintptr_t)stats.alloc_count;
}

static void do_window(void) {
    mod_alloc_profiler window;
    mod_alloc_stats stats;
    mod_alloc_profiler_start(&window);
    do_pair();
    mod_alloc_profiler_stop(&window, &stats);
    loop_sink = (void *)(uintptr_t)stats.alloc_count;
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct figures {
    double smallest, median;
} figures;

static figures measure(void (*call)(void)) {
    static double ns[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        const double start = now_ns();
        for (int i = 0; i < CALLS; i++) {
            call();
        }
        ns[round] = (now_ns() - start) / CALLS;
    }
    qsort(ns, ROUNDS, sizeof *ns, by_value);
    return (figures){.smallest = ns[0], .median = ns[ROUNDS / 2]};
}

static void print(const char *name, void (*call)(void), void (*base)(void), const char *end) {
    const figures with = measure(call), without = measure(base);
    printf("  \"%s\": {\"smallest_ns\": %.2f, \"median_ns\": %.2f}%s\n", name,
           with.smallest - without.smallest, with.median - without.median, end);
}

int main(int argc, char **argv) {
    pthread_t thread[THREADS_MAX];
    const size_t asked = loop_argument(argc, argv, 1, 8);
    const size_t others = asked > THREADS_MAX ? THREADS_MAX : asked > 0 ? asked - 1 : 0;
    if (!mod_alloc_is_active()) {
        fputs("calls: malloc is not mod-alloc's here\n", stderr);
        return 1;
    }
    pthread_barrier_init(&all_have_allocated, NULL, (unsigned)others + 1);
    pthread_barrier_init(&all_may_end, NULL, (unsigned)others + 1);
    for (size_t i = 0; i < others; i++) {
        if (pthread_create(&thread[i], NULL, be_thread, NULL) != 0) {
            return 1;
        }
    }
    pthread_barrier_wait(&all_have_allocated);
    printf("{\n  \"threads\": %zu,\n", others + 1);
    print("snapshot", do_snapshot, do_nothing, ",");
    print("thread_snapshot", do_thread_snapshot, do_nothing, ",");
    print("thread_window", do_thread_window, do_pair, ",");
    print("window", do_window, do_pair, "");
    puts("}");
    pthread_barrier_wait(&all_may_end);
    for (size_t i = 0; i < others; i++) {
        pthread_join(thread[i], NULL);
    }
    return 0;
}
