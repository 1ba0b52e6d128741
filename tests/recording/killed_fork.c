/* SPDX-License-Identifier: MIT
 *
 * killed_fork.c LIBRARY STOPS - runs itself with LIBRARY preloaded; that process makes blocks at many sites and forks. Its
 * child is killed where it begins or ends its STOPS-th system call, or exits before that. Says on stdout: the parent's
 * pid, the child's, and "killed" or "ended". Exit status 77: no process may be traced here.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile kept;

#define SITE(n)                                                                                              \
    static __attribute__((noinline)) void site_##n(int depth) {                                              \
        if (depth > 0) {                                                                                     \
            site_##n(depth - 1);                                                                             \
        } else {                                                                                             \
            kept = malloc(100 + n);                                                                          \
        }                                                                                                    \
        __asm__ volatile("");                                                                                \
    }
SITE(1)
SITE(2)
SITE(3)

static int allocate_and_fork(void) {
    for (int depth = 0; depth < 60; depth++) {
        site_1(depth);
        site_2(depth);
        site_3(depth);
    }
    const pid_t child = fork();
    if (child == 0) {
        kept = malloc(200);
        _exit(0);
    }
    return waitpid(child, NULL, 0) == child ? 0 : 1;
}

/* Waits until `pid` stops, and lets it go on until it forks; its child. */
static pid_t run_until_fork(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8)) {
            unsigned long child = 0;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &child);
            return (pid_t)child;
        }
        ptrace(PTRACE_CONT, pid, 0, 0);
    }
    return -1;
}

/* True if the child was still there to be killed. */
static int kill_at(pid_t child, int stops) {
    int status;
    for (int i = 0; waitpid(child, &status, __WALL) == child && WIFSTOPPED(status); i++) {
        if (i == stops) {
            kill(child, SIGKILL);
            waitpid(child, &status, __WALL);
            return 1;
        }
        ptrace(PTRACE_SYSCALL, child, 0, 0);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2) {
        return allocate_and_fork();
    }
    if (argc != 3) {
        return 2;
    }
    const pid_t parent = fork();
    if (parent == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) {
            _exit(77);
        }
        raise(SIGSTOP);
        setenv("LD_PRELOAD", argv[1], 1);
        execl("/proc/self/exe", argv[0], "fork", NULL);
        _exit(1);
    }
    int status;
    if (waitpid(parent, &status, 0) != parent || !WIFSTOPPED(status)
        || ptrace(PTRACE_SETOPTIONS, parent, 0, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL) != 0) {
        kill(parent, SIGKILL);
        return 77;
    }
    ptrace(PTRACE_CONT, parent, 0, 0);
    const pid_t child = run_until_fork(parent);
    if (child < 0) {
        return 1;
    }
    ptrace(PTRACE_DETACH, parent, 0, 0);
    const int was_killed = kill_at(child, atoi(argv[2]));
    printf("%d %d %s\n", (int)parent, (int)child, was_killed ? "killed" : "ended");
    return waitpid(parent, &status, 0) == parent && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
