/* SPDX-License-Identifier: MIT
 *
 * signal_at_each_instruction.c - a short run is interrupted after its first instruction, then after its second,
 * and so on to its last. A tracing parent single-steps the child. Each time the handler allocates, reallocates and frees,
 * blocks of earlier handlers too, and reads all that is called signal-safe; the contents must be whole and the counters
 * exact. Two kinds:
 *   small medium large calloc realloc aligned  calls of the malloc family
 *   snapshot window thread_window reset        mod_alloc's own calls
 *   left                                       malloc and free, which the handler leaves by siglongjmp: what follows must
 *                                              be served as before, by the thread's own heap
 *
 * The first argument names the run, the second says how many instructions at most.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "whole.h"

static unsigned char *kept[8];
static int turn_of_handler;
static int64_t allocs_of_handler, frees_of_handler, reallocs_of_handler;

static bool is_family;
static sigjmp_buf outside;
static volatile sig_atomic_t leaves;
static uint64_t count_at_start;

static void read_all(void) {
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    NEED(stats.alloc_count - count_at_start <= 4, "a handler sees %" PRIu64 " allocations of a run of 4",
         stats.alloc_count - count_at_start);
    NEED(stats.current_bytes < 1 << 24 && stats.live_count < 1000 && stats.peak_bytes < 1 << 24,
         "a handler sees %" PRIu64 " bytes live, %" PRIu64 " blocks, a peak of %" PRIu64, stats.current_bytes,
         stats.live_count, stats.peak_bytes);
    mod_alloc_thread_snapshot(&stats);
    NEED(stats.alloc_count < 1 << 24 && stats.current_bytes < 1 << 24,
         "a handler sees %" PRIu64 " allocations", stats.alloc_count);
    mod_alloc_sampling_stats sampling;
    mod_alloc_sampling(&sampling);
    NEED(mod_alloc_is_active() == 1, "not active");
}

static void handler(int signal_number) {
    (void)signal_number;
    if (is_family) {
        read_all();
    }
    if (leaves) {
        free(malloc(64));
        siglongjmp(outside, 1);
    }
    unsigned char *p = malloc(64);
    unsigned char *const q = malloc(64);
    NEED(p != NULL && q != NULL && p != q, "a handler gets %p and %p", (void *)p, (void *)q);
    memset(p, 0xB1, 64);
    memset(q, 0xB2, 64);
    unsigned char *const r = aligned_alloc(64, 300), *const s = calloc(1, 4000);
    NEED(r != NULL && s != NULL && ((uintptr_t)r & 63) == 0, "a handler gets %p and %p", (void *)r,
         (void *)s);
    for (int i = 0; i < 4000; i++) {
        NEED(s[i] == 0, "a handler's calloc has %#x at %d", s[i], i);
    }
    memset(r, 0xB3, 300);
    memset(s, 0xB4, 4000);
    p = realloc(p, 64 + (size_t)(turn_of_handler % 3) * 40);
    NEED(p != NULL, "no block in a handler");
    const int slot = turn_of_handler++ % 8;
    if (kept[slot] != NULL) {
        for (int i = 0; i < 64; i++) {
            NEED(kept[slot][i] == 0xB1, "a handler's block has %#x at %d", kept[slot][i], i);
        }
        if (turn_of_handler % 5 == 0) { /* one that may lie where an earlier handler had it */
            kept[slot] = realloc(kept[slot], 500);
            allocs_of_handler++;
            reallocs_of_handler++;
        }
        free(kept[slot]);
        frees_of_handler++;
    }
    kept[slot] = p;
    free(q);
    free(r);
    free(s);
    allocs_of_handler += 5;
    reallocs_of_handler++;
    frees_of_handler += 3;
}

/* First, middle and last byte: a loop over all would be most of the run's instructions. */
static void check_fill(const unsigned char *p, size_t size, int value) {
    NEED(p[0] == value && p[size / 2] == value && p[size - 1] == value,
         "a block of %zu bytes has %#x, %#x, %#x, expected %#x", size, p[0], p[size / 2], p[size - 1], value);
}

/* A window may or may not see what the handler does in the middle of start or stop; but never more. */
static void own_calls(const char *name) {
    mod_alloc_stats stats = {0};
    mod_alloc_profiler window;
    if (strcmp(name, "snapshot") == 0) {
        mod_alloc_snapshot(&stats);
        NEED(stats.alloc_count < 1 << 24 && stats.current_bytes < 1 << 24, "a snapshot has wrapped");
        mod_alloc_thread_snapshot(&stats);
    } else if (strcmp(name, "window") == 0) {
        mod_alloc_profiler_start(&window);
        mod_alloc_profiler_stop(&window, &stats);
        NEED(stats.alloc_count <= 6 && stats.free_count <= 4,
             "a window saw %" PRIu64 " allocations of 6 or none", stats.alloc_count);
    } else if (strcmp(name, "thread_window") == 0) {
        mod_alloc_thread_profiler_start(&window);
        mod_alloc_thread_profiler_stop(&window, &stats);
        NEED(stats.alloc_count <= 6 && stats.free_count <= 4,
             "a window saw %" PRIu64 " allocations of 6 or none", stats.alloc_count);
    } else {
        NEED(strcmp(name, "reset") == 0, "no run is called '%s'", name);
        mod_alloc_reset();
    }
    NEED(stats.current_bytes < 1 << 24 && stats.total_bytes < (uint64_t)1 << 32, "a figure has wrapped");
}

#define SEGMENT(p) ((uintptr_t)(p) >> 25) /* mimalloc's: a thread's first hundred blocks lie in one */

static void leave(void) {
    enum { blocks = 100 };
    void *block[blocks];
    void *volatile first = malloc(64);
    void *volatile p = NULL;
    if (sigsetjmp(outside, 1) == 0) {
        leaves = 1;
        p = malloc(64);
        free(p);
        leaves = 0;
    }
    leaves = 0;
    for (int i = 0; i < blocks; i++) {
        block[i] = malloc(64);
        NEED(block[i] != NULL && SEGMENT(block[i]) == SEGMENT(first), "left: a block at %p, the first at %p",
             block[i], (void *)first);
        memset(block[i], i, 64);
    }
    for (int i = 0; i < blocks; i++) {
        NEED(*(unsigned char *)block[i] == i, "left: block %d is another's, too", i);
        free(block[i]);
    }
    free(first);
}

/* Returns the allocations and frees it made. */
static void short_run(const char *name, int64_t *allocs, int64_t *frees) {
    unsigned char *p = NULL, *q = NULL;
    *allocs = *frees = 2;
    if (strcmp(name, "left") == 0) {
        leave();
        return;
    }
    if (strcmp(name, "small") == 0) {
        p = malloc(64);
        q = malloc(64);
        memset(p, 0x11, 64);
        memset(q, 0x22, 64);
        check_fill(p, 64, 0x11);
        check_fill(q, 64, 0x22);
    } else if (strcmp(name, "medium") == 0) {
        p = malloc(3000);
        q = malloc(64);
        memset(p, 0x11, 3000);
        memset(q, 0x22, 64);
        check_fill(p, 3000, 0x11);
    } else if (strcmp(name, "large") == 0) {
        p = malloc(300000);
        q = malloc(20000);
        memset(p, 0x11, 300000);
        check_fill(p, 300000, 0x11);
    } else if (strcmp(name, "aligned") == 0) {
        p = aligned_alloc(256, 300);
        q = aligned_alloc(4096, 100);
        NEED(p != NULL && q != NULL && ((uintptr_t)p & 255) == 0 && ((uintptr_t)q & 4095) == 0,
             "not aligned");
        memset(p, 0x11, 300);
        check_fill(p, 300, 0x11);
    } else if (strcmp(name, "calloc") == 0) {
        p = calloc(1, 64);
        check_fill(p, 64, 0);
        q = calloc(8, 200);
        check_fill(q, 1600, 0);
    } else if (strcmp(name, "realloc") == 0) {
        p = malloc(64);
        memset(p, 0x11, 64);
        q = malloc(64);
        memset(q, 0x22, 64);
        p = realloc(p, 70);
        q = realloc(q, 900);
        check_fill(p, 64, 0x11);
        check_fill(q, 64, 0x22);
        *allocs = 4;
    } else {
        own_calls(name);
        *allocs = *frees = 0;
        return;
    }
    NEED(p != q, "the same block twice: %p", (void *)p);
    free(p);
    free(q);
}

static int64_t kept_bytes(void) {
    int64_t bytes = 0;
    for (int i = 0; i < 8; i++) {
        bytes += (int64_t)malloc_usable_size(kept[i]);
    }
    return bytes;
}

static int traced(const char *name) {
    whole_begin();
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    int64_t allocs, frees;
    is_family = strcmp(name, "small") == 0 || strcmp(name, "medium") == 0 || strcmp(name, "large") == 0
                || strcmp(name, "calloc") == 0 || strcmp(name, "realloc") == 0
                || strcmp(name, "aligned") == 0;
    count_at_start = whole_now().alloc_count;
    short_run(name, &allocs, &frees); /* the first time takes the slow paths; then it is always the same */
    short_run(name, &allocs, &frees);
    for (;;) {
        const int64_t kept_before = kept_bytes();
        const mod_alloc_stats before = whole_now();
        allocs_of_handler = frees_of_handler = reallocs_of_handler = 0;
        count_at_start = before.alloc_count;
        __asm__ volatile("" : : : "memory");
        kill(getpid(), SIGSTOP); /* the tracer takes its steps from here */
        short_run(name, &allocs, &frees);
        kill(getpid(), SIGSTOP); /* and looks at the result here */
        const mod_alloc_stats after = whole_now();
        const whole_change change = whole_changed(&before, &after);
        if (strcmp(name, "left") == 0) { /* a block that was taken and not yet returned is lost */
            continue;
        }
        CHECK_EQ(change.current_bytes, kept_bytes() - kept_before, "current_bytes");
        if (strcmp(name, "reset") != 0) { /* which sets these to 0 somewhere in the middle */
            CHECK_EQ(change.alloc_count, allocs + allocs_of_handler, "alloc_count");
            CHECK_EQ(change.free_count, frees + frees_of_handler, "free_count");
        }
        const int64_t realloc_calls = (allocs == 4 ? 2 : 0) + reallocs_of_handler;
        CHECK_EQ(change.live_count, allocs + allocs_of_handler - realloc_calls - frees - frees_of_handler,
                 "live");
        if (whole_failures > 0) {
            _exit(1);
        }
    }
}

/* Lets the child run until it stops; returns the signal that stopped it, or -1 when it has ended. */
static int resume(pid_t pid, int request, int signal_number) {
    int status = 0;
    NEED(ptrace((enum __ptrace_request)request, pid, NULL, (void *)(intptr_t)signal_number) == 0,
         "ptrace: errno %d", errno);
    NEED(waitpid(pid, &status, 0) == pid, "waitpid: errno %d", errno);
    if (!WIFSTOPPED(status)) {
        return -1;
    }
    return WSTOPSIG(status);
}

int main(int count, char **argument) {
    const char *name = count > 1 ? argument[1] : "small";
    const long most = count > 2 ? atol(argument[2]) : 3000;
    const pid_t pid = fork();
    NEED(pid >= 0, "fork");
    if (pid == 0) {
        _exit(traced(name));
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status)) {
        fprintf(stderr, "cannot be traced here, or ended: status %#x\n", (unsigned)status);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? WHOLE_SKIP : 1;
    }
    long steps;
    bool whole_run_stepped = false;
    for (steps = 0; steps < most && !whole_run_stepped; steps++) {
        int stop = SIGTRAP;
        for (long i = 0; i < steps && stop == SIGTRAP; i++) {
            stop = resume(pid, PTRACE_SINGLESTEP, 0);
        }
        if (stop == SIGTRAP) { /* in the middle of the run: now the signal */
            stop = resume(pid, PTRACE_CONT, SIGUSR1);
        } else {
            whole_run_stepped = true;
        }
        NEED(stop == SIGSTOP, "%s: a signal after %ld instructions: the child %s", name, steps,
             stop == -1        ? "has ended"
             : stop == SIGSEGV ? "crashed"
             : stop == SIGABRT ? "aborted"
                               : "stopped");
        stop = resume(pid, PTRACE_CONT, 0); /* to the next run's start, through the checks */
        NEED(stop == SIGSTOP, "%s: a signal after %ld instructions: the child %s", name, steps,
             stop == -1 ? "has found a difference" : "stopped");
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK(steps > 50, "%s: only %ld instructions", name, steps);
    printf("%s: a signal after each of %ld instructions%s\n", name, steps,
           whole_run_stepped ? "" : " (not to the end)");
    return whole_end();
}
