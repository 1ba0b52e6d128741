/* SPDX-License-Identifier: MIT
 *
 * signal_at_each_instruction.c - a short run of malloc, calloc, realloc and free is interrupted after its
 * first instruction, then after its second, and so on to its last, by a handler that itself allocates and
 * frees. A tracing parent single-steps the child. Each time the contents must be whole and the counters exact.
 *
 * The argument names the run: small, medium, realloc, calloc; the second one how many instructions at most.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "whole.h"

static unsigned char *kept[8];
static int turn_of_handler;
static int64_t allocs_of_handler, frees_of_handler;

static void handler(int signal_number) {
    (void)signal_number;
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

static void check_fill(const unsigned char *p, size_t size, int value) {
    for (size_t i = 0; i < size; i++) {
        NEED(p[i] == value, "a block of %zu bytes has %#x at %zu, expected %#x", size, p[i], i, value);
    }
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
    } else {
        p = malloc(64);
        memset(p, 0x11, 64);
        q = malloc(64);
        memset(q, 0x22, 64);
        p = realloc(p, 70);
        q = realloc(q, 900);
        check_fill(p, 64, 0x11);
        check_fill(q, 64, 0x22);
        *allocs = 4;
    }
    NEED(p != q, "the same block twice: %p", (void *)p);
    free(p);
    free(q);
}

static int traced(const char *name) {
    whole_begin();
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    int64_t allocs, frees;
    short_run(name, &allocs, &frees); /* the first time takes the slow paths; then it is always the same */
    short_run(name, &allocs, &frees);
    for (;;) {
        const mod_alloc_stats before = whole_now();
        allocs_of_handler = frees_of_handler = 0;
        __asm__ volatile("" : : : "memory");
        kill(getpid(), SIGSTOP); /* the tracer takes its steps from here */
        short_run(name, &allocs, &frees);
        kill(getpid(), SIGSTOP); /* and looks at the result here */
        const mod_alloc_stats after = whole_now();
        const whole_change change = whole_changed(&before, &after);
        CHECK_EQ(change.alloc_count, allocs + allocs_of_handler, "alloc_count");
        CHECK_EQ(change.free_count, frees + frees_of_handler, "free_count");
        const int64_t realloc_calls = allocs == 4 ? 2 : 0;
        CHECK_EQ(change.live_count, allocs + allocs_of_handler - realloc_calls - frees - frees_of_handler, "live");
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
             stop == -1 ? "has ended" : stop == SIGSEGV ? "crashed" : stop == SIGABRT ? "aborted" : "stopped");
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
