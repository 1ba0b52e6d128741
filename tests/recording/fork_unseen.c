/* SPDX-License-Identifier: MIT
 *
 * fork_unseen.c - children of a raw clone, which runs no handlers, allocate from many call stacks while their parent does.
 *
 * Run with MOD_ALLOC_PROFILE naming a file: a child has its copy from that as the parent writes to it, what the parent's
 * thread remembers of its walks included. A child that believed it crashed, in one of some two thousand.
 */
#define _GNU_SOURCE
#include "mod_alloc.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "need.h"

enum { FORKS = 200, FIRST = 3000, CHILDS = 300, MEANWHILE = 20 };

/* Each value of `path` is another call stack. */
static __attribute__((noinline)) void *allocate_at(unsigned path, unsigned depth) {
    if (depth == 0) {
        return malloc(4096);
    }
    void *volatile p = path & 1 ? allocate_at(path >> 1, depth - 1) : NULL;
    return p != NULL ? p : allocate_at(path >> 1, depth - 1);
}

static void allocate(int times, unsigned seed) {
    for (int i = 0; i < times; i++) {
        seed = seed * 1103515245 + 12345;
        free(allocate_at((seed >> 8) & 15, 3 + (seed >> 20) % 9));
    }
}

int main(void) {
    allocate(FIRST, 1);
    for (unsigned i = 0; i < FORKS; i++) {
        const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        need(child >= 0, "clone");
        if (child == 0) {
            allocate(CHILDS, i);
            exit(0);
        }
        int status = 0;
        while (waitpid(child, &status, WNOHANG) == 0) {
            allocate(MEANWHILE, 77 * i);
        }
        need(status == 0, "a child ended badly");
    }
    return 0;
}
