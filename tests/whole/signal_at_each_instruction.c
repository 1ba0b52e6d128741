/* SPDX-License-Identifier: MIT
 *
 * signal_at_each_instruction.c - a short run is interrupted after its first instruction, then after its second,
 * and so on to its last. A tracing parent single-steps the child. Each time the contents must be whole and the
 * counters exact. Two kinds:
 *   small medium calloc realloc         calls of the malloc family; the handler reads counters and windows: all that
 *                                       is called signal-safe
 *   snapshot window thread_window reset mod_alloc's own calls; the handler allocates and frees
 *
 * The first argument names the run, the second says how many instructions at most.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "whole.h"

static unsigned char *kept[8];
static int turn_of_handler;
static int64_t allocs_of_handler, frees_of_handler;

static bool reads_only;
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
    if (reads_only) {
        read_all();
        return;
    }
    unsigned char *const p = malloc(64);
    unsigned char *const q = malloc(64);
    NEED(p != NULL && q != NULL && p != q, "a handler gets %p and %p", (void *)p, (void *)q);
    memset(p, 0xB1, 64);
    memset(q, 0xB2, 64);
    const int slot = turn_of_handler++ % 8;
    if (kept[slot] != NULL) {
        for (int i = 0; i < 64; i++) {
            NEED(kept[slot][i] == 0xB1, "a handler's block has %#x at %d", kept[slot][i], i);
        }
        free(kept[slot]);
        frees_of_handler++;
    }
    kept[slot] = p;
    free(q);
    allocs_of_handler += 2;
    frees_of_handler++;
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
        NEED(stats.alloc_count <= 2 && stats.free_count <= 2,
             "a window saw %" PRIu64 " allocations of 2 or none", stats.alloc_count);
    } else if (strcmp(name, "thread_window") == 0) {
        mod_alloc_thread_profiler_start(&window);
        mod_alloc_thread_profiler_stop(&window, &stats);
        NEED(stats.alloc_count <= 2 && stats.free_count <= 2,
             "a window saw %" PRIu64 " allocations of 2 or none", stats.alloc_count);
    } else {
        NEED(strcmp(name, "reset") == 0, "no run is called '%s'", name);
        mod_alloc_reset();
    }
    NEED(stats.current_bytes < 1 << 24 && stats.total_bytes < (uint64_t)1 << 32, "a figure has wrapped");
}

/* Returns the allocations and frees it made. */
static void short_run(const char *name, int64_t *allocs, int64_t *frees) {
    unsigned char *p = NULL, *q = NULL;
    *allocs = *frees = 2;
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
    reads_only = strcmp(name, "small") == 0 || strcmp(name, "medium") == 0 || strcmp(name, "calloc") == 0
                 || strcmp(name, "realloc") == 0;
    count_at_start = whole_now().alloc_count;
    short_run(name, &allocs, &frees); /* the first time takes the slow paths; then it is always the same */
    short_run(name, &allocs, &frees);
    for (;;) {
        const int64_t kept_before = kept_bytes();
        const mod_alloc_stats before = whole_now();
        allocs_of_handler = frees_of_handler = 0;
        count_at_start = before.alloc_count;
        __asm__ volatile("" : : : "memory");
        kill(getpid(), SIGSTOP); /* the tracer takes its steps from here */
        short_run(name, &allocs, &frees);
        kill(getpid(), SIGSTOP); /* and looks at the result here */
        const mod_alloc_stats after = whole_now();
        const whole_change change = whole_changed(&before, &after);
        CHECK_EQ(change.current_bytes, kept_bytes() - kept_before, "current_bytes");
        if (strcmp(name, "reset") != 0) { /* which sets these to 0 somewhere in the middle */
            CHECK_EQ(change.alloc_count, allocs + allocs_of_handler, "alloc_count");
            CHECK_EQ(change.free_count, frees + frees_of_handler, "free_count");
        }
        const int64_t realloc_calls = allocs == 4 ? 2 : 0;
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
