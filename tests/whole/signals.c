/* SPDX-License-Identifier: MIT
 *
 * signals.c - malloc, realloc and free in signal handlers: raised between two calls of malloc, and in a storm
 * of a timer, which interrupts malloc itself, too. No block is given out twice, no content is lost, and the counters are
 * exact. `storm`: two timers, whose handlers interrupt each other; `storm_on_stack`: one of them on a stack of its own.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "whole.h"

#define HANDLER_BLOCKS 16

/* What the handler did; only the handler writes, main reads with signals blocked. */
static volatile int64_t handled, handler_allocs, handler_frees, handler_reallocs;
static unsigned char *handler_block[HANDLER_BLOCKS];
static size_t handler_size[HANDLER_BLOCKS];
static uint64_t handler_state = 99;
static volatile sig_atomic_t is_in_malloc; /* set around main's own calls */
static volatile int64_t handled_in_malloc;

static void handler(int signal_number) {
    (void)signal_number;
    const int kept_errno = errno;
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    CHECK(stats.alloc_count < UINT64_C(1) << 40 && stats.current_bytes < UINT64_C(1) << 40,
          "a handler reads %" PRIu64 " allocations, %" PRIu64 " bytes", stats.alloc_count,
          stats.current_bytes);
    mod_alloc_thread_snapshot(&stats);
    if (is_in_malloc) {
        handled_in_malloc++;
    }
    if (handled % 8 == 0) {
        raise(SIGVTALRM); /* beside those of the timer, which come by the clock's tick, if at all */
    }
    for (int i = 0; i < 3; i++) {
        const size_t slot = whole_random(&handler_state) % HANDLER_BLOCKS;
        unsigned char *p = handler_block[slot];
        if (p == NULL) {
            const size_t size = 1 + whole_random(&handler_state) % (i == 2 ? 3000 : 200);
            p = malloc(size);
            NEED(p != NULL, "no block in a handler");
            handler_allocs++;
            memset(p, (int)(slot + 100), size);
            handler_size[slot] = size;
            handler_block[slot] = p;
        } else if (whole_random(&handler_state) % 4 == 0) {
            const size_t size = handler_size[slot] + 100;
            p = realloc(p, size);
            NEED(p != NULL, "no block in a handler");
            handler_reallocs++;
            memset(p, (int)(slot + 100), size);
            handler_size[slot] = size;
            handler_block[slot] = p;
        } else {
            for (size_t k = 0; k < handler_size[slot]; k++) {
                NEED(p[k] == slot + 100, "a handler's block of %zu bytes has %d at %zu, expected %zu",
                     handler_size[slot], p[k], k, slot + 100);
            }
            handler_block[slot] = NULL;
            free(p);
            handler_frees++;
        }
    }
    handled++;
    errno = kept_errno;
}

/* Comes in the middle of the other handler, too. */
static volatile int64_t nested, nested_pairs;

static void second_handler(int signal_number) {
    (void)signal_number;
    const int kept_errno = errno;
    unsigned char *block[3];
    for (int i = 0; i < 3; i++) {
        block[i] = malloc(40 + (size_t)i * 700);
        NEED(block[i] != NULL, "no block in a handler");
        memset(block[i], 0xC0 + i, 40 + (size_t)i * 700);
    }
    for (int i = 0; i < 3; i++) {
        NEED(block[i][0] == 0xC0 + i && block[i][39 + i * 700] == 0xC0 + i,
             "a handler's block is another's, too");
        free(block[i]);
    }
    nested_pairs += 3;
    nested++;
    errno = kept_errno;
}

static void block_signals(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGVTALRM);
    pthread_sigmask(how, &set, NULL);
}

/* Main's own work: blocks with contents; returns what it did. */
static void work(int turns, bool raises, whole_change *done) {
    enum { blocks = 200 };
    static unsigned char *block[blocks];
    static size_t size[blocks];
    uint64_t state = 5;
    for (int i = 0; i < turns; i++) {
        const size_t slot = whole_random(&state) % blocks;
        if (block[slot] == NULL) {
            size[slot] = 1 + whole_random(&state) % (i % 20 == 0 ? 5000 : 250);
            is_in_malloc = 1;
            block[slot] = i % 3 == 0 ? calloc(1, size[slot]) : malloc(size[slot]);
            is_in_malloc = 0;
            NEED(block[slot] != NULL, "no block");
            memset(block[slot], (int)slot, size[slot]);
            done->alloc_count++;
            done->live_count++;
        } else {
            for (size_t k = 0; k < size[slot]; k++) {
                NEED(block[slot][k] == slot, "main's block of %zu bytes has %d at %zu, expected %zu",
                     size[slot], block[slot][k], k, slot);
            }
            is_in_malloc = 1;
            free(block[slot]);
            is_in_malloc = 0;
            block[slot] = NULL;
            done->free_count++;
            done->live_count--;
        }
        if (!raises && i % 4 == 0) { /* what the storm may meet beside malloc */
            mod_alloc_profiler process, thread;
            mod_alloc_stats stats;
            mod_alloc_profiler_start(&process);
            mod_alloc_thread_profiler_start(&thread);
            mod_alloc_snapshot(&stats);
            mod_alloc_thread_profiler_stop(&thread, &stats);
            mod_alloc_profiler_stop(&process, &stats);
        }
        if (raises && i % 5 == 0) {
            raise(SIGUSR1);
        }
    }
    for (size_t i = 0; i < blocks; i++) {
        if (block[i] != NULL) {
            is_in_malloc = 1;
            free(block[i]);
            is_in_malloc = 0;
            block[i] = NULL;
            done->free_count++;
            done->live_count--;
        }
    }
}

static void check_counts(const char *what, const mod_alloc_stats *before, const whole_change *done) {
    const mod_alloc_stats after = whole_now();
    const whole_change found = whole_changed(before, &after);
    CHECK_EQ(found.alloc_count, done->alloc_count + handler_allocs + handler_reallocs + nested_pairs, what);
    CHECK_EQ(found.free_count, done->free_count + handler_frees + nested_pairs, what);
    CHECK_EQ(found.live_count, done->live_count + handler_allocs - handler_frees, what);
    int64_t bytes = 0;
    for (size_t i = 0; i < HANDLER_BLOCKS; i++) {
        bytes += (int64_t)malloc_usable_size(handler_block[i]);
    }
    CHECK_EQ(found.current_bytes, bytes, what);
}

static void free_the_handlers_blocks(void) {
    for (size_t i = 0; i < HANDLER_BLOCKS; i++) {
        free(handler_block[i]);
        handler_block[i] = NULL;
    }
    handled = handler_allocs = handler_frees = handler_reallocs = 0;
}

int main(int count, char **argument) {
    whole_begin();
    const bool storm = count > 1 && strncmp(argument[1], "storm", 5) == 0;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    if (count > 1 && strcmp(argument[1], "storm_on_stack") == 0) {
        static char space[64 * 1024];
        const stack_t stack = {.ss_sp = space, .ss_size = sizeof space};
        NEED(sigaltstack(&stack, NULL) == 0, "sigaltstack");
        action.sa_flags |= SA_ONSTACK;
    }
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    action.sa_handler = second_handler;
    action.sa_flags = SA_RESTART; /* on the main stack, where the other is on its own */
    sigaction(SIGVTALRM, &action, NULL);
    mod_alloc_stats before = whole_now();
    whole_change done = {0};
    if (!storm) {
        work(20000, true, &done);
        CHECK(handled >= 4000, "only %" PRId64 " signals", handled);
        check_counts("signals raised between calls", &before, &done);
        free_the_handlers_blocks();
    } else {
        const struct itimerval every = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
        setitimer(ITIMER_REAL, &every, NULL);
        setitimer(ITIMER_VIRTUAL, &every, NULL);
        for (int i = 0; i < 100 && (handled < 3000 || handled_in_malloc < 1000); i++) {
            work(100000, false, &done);
        }
        const struct itimerval never = {0};
        setitimer(ITIMER_REAL, &never, NULL);
        setitimer(ITIMER_VIRTUAL, &never, NULL);
        block_signals(SIG_BLOCK);
        CHECK(handled > 200, "only %" PRId64 " signals outside malloc", handled);
        CHECK(nested > 50, "only %" PRId64 " signals of the other kind", nested);
        CHECK(handled_in_malloc > 200, "only %" PRId64 " signals in malloc", handled_in_malloc);
        check_counts("a storm of signals", &before, &done);
        free_the_handlers_blocks();
    }
    return whole_end();
}
