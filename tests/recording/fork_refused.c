/* SPDX-License-Identifier: MIT
 *
 * fork_refused.c - a child whose region can't be copied for want of address space leaves its parent's profile alone, counts
 * by itself, and says so in one line.
 *
 * Run with MOD_ALLOC_PROFILE naming a file.
 */
#define _GNU_SOURCE
#include "mod_alloc.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "need.h"

enum { BLOCKS = 20000, SIZE = 1000, ROOM = 8 << 20, REGION = 64 << 20 };

/* In turns of malloc and free: no more address space is asked for. */
static void churn(void) {
    for (int i = 0; i < BLOCKS; i++) {
        free(malloc(SIZE));
    }
}

static void leave_room(void) {
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    need(statm != NULL && fscanf(statm, "%lu", &pages) == 1, "statm");
    fclose(statm);
    const rlim_t most = pages * (rlim_t)sysconf(_SC_PAGESIZE) + ROOM;
    need(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) == 0, "setrlimit");
    if (mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
        _exit(77); /* an emulator, or a sanitizer: the limit is none */
    }
}

static void be_child(void) {
    mod_alloc_stats before, after;
    mod_alloc_snapshot(&before);
    churn();
    mod_alloc_snapshot(&after);
    need(after.alloc_count == before.alloc_count + BLOCKS, "the child's own count");
    need(before.alloc_count < BLOCKS, "the child began with what its parent had counted");
    _exit(0);
}

static int lines_in(const char *path) {
    char text[8192];
    const int fd = open(path, O_RDONLY);
    const ssize_t size = read(fd, text, sizeof text);
    int lines = 0;
    for (ssize_t i = 0; i < size; i++) {
        lines += text[i] == '\n';
    }
    printf("%.*s", (int)size, text);
    close(fd);
    return lines;
}

int main(int argc, char **argv) {
    need(argc > 1, "a file for what is said");
    if (argc == 2) { /* anew, with that file for standard error from the beginning */
        const int said = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
        need(said >= 0 && dup2(said, 2) == 2, argv[1]);
        execv("/proc/self/exe", (char *[]){argv[0], argv[1], "inner", NULL});
        need(false, "exec");
    }
    churn();
    leave_room();
    mod_alloc_stats before, after;
    mod_alloc_snapshot(&before);
    const pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        be_child();
    }
    int status = 0;
    need(waitpid(child, &status, 0) == child && status == 0, "the child");
    mod_alloc_snapshot(&after);
    need(after.alloc_count == before.alloc_count, "the parent's count");
    need(after.free_count == before.free_count, "the parent's frees");
    need(after.current_bytes == before.current_bytes, "the parent's bytes");
    need(lines_in(argv[1]) == 1, "one line");
    return 0;
}
