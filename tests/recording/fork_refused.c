/* SPDX-License-Identifier: MIT
 *
 * fork_refused.c WHERE ROOM - a child where address space is limited leaves its parent's profile alone and counts by itself.
 * With a little room (ROOM = "some") it has a file of its own, and nothing is said; where the limit lies below what the
 * process has already ("none") nothing can be mapped, and it counts in memory and says so in one line, in the file WHERE.
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

static void limit_address_space(bool has_room) {
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    need(statm != NULL && fscanf(statm, "%lu", &pages) == 1, "statm");
    fclose(statm);
    const rlim_t now = pages * (rlim_t)sysconf(_SC_PAGESIZE);
    const rlim_t most = has_room ? now + ROOM : now / 4;
    need(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) == 0, "setrlimit");
    if (mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
        _exit(77); /* an emulator, or a sanitizer: the limit is none */
    }
}

/* A sum over all that the file holds. */
static uint64_t sum_of(const char *path) {
    static uint64_t words[8192];
    uint64_t sum = 0;
    ssize_t size;
    const int fd = open(path, O_RDONLY);
    need(fd >= 0, path);
    while ((size = read(fd, words, sizeof words)) > 0) {
        for (size_t i = 0; i < (size_t)size / sizeof *words; i++) {
            sum = (sum ^ words[i]) * UINT64_C(0x9E3779B97F4A7C15);
        }
    }
    close(fd);
    return sum;
}

static uint64_t sampling(void) {
    mod_alloc_sampling_stats stats;
    mod_alloc_sampling(&stats);
    return stats.sample_bytes;
}

static void be_child(void) {
    mod_alloc_stats before, after;
    mod_alloc_snapshot(&before);
    churn();
    mod_alloc_snapshot(&after);
    need(after.alloc_count == before.alloc_count + BLOCKS, "the child's own count");
    need(before.alloc_count < BLOCKS, "the child began with what its parent had counted");
    need(sampling() == strtoull(getenv("MOD_ALLOC_SAMPLE"), NULL, 10),
         "the child samples as its parent does");
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

/* Each child's file is removed: the next run is to find none. */
static bool had_file(pid_t child) {
    char path[4200];
    snprintf(path, sizeof path, "%s.%d", getenv("MOD_ALLOC_PROFILE"), (int)child);
    return unlink(path) == 0;
}

int main(int argc, char **argv) {
    need(argc > 2, "a file for what is said, and how much room there is");
    if (argc == 3) { /* anew, with that file for standard error from the beginning */
        const int said = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
        need(said >= 0 && dup2(said, 2) == 2, argv[1]);
        execv("/proc/self/exe", (char *[]){argv[0], argv[1], argv[2], "inner", NULL});
        need(false, "exec");
    }
    const bool has_room = strcmp(argv[2], "some") == 0;
    churn();
    limit_address_space(has_room);
    int begun[2], go[2];
    char byte;
    need(pipe(begun) == 0 && pipe(go) == 0, "pipe");
    const pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        need(write(begun[1], "", 1) == 1 && read(go[0], &byte, 1) == 1, "pipe");
        be_child();
    }
    need(read(begun[0], &byte, 1) == 1, "the child has begun");
    const uint64_t sum = sum_of(getenv("MOD_ALLOC_PROFILE"));
    int status = 0;
    need(write(go[1], "", 1) == 1, "write");
    need(waitpid(child, &status, 0) == child && status == 0, "the child");
    need(sum_of(getenv("MOD_ALLOC_PROFILE")) == sum, "the parent's file has been written to");
    need(had_file(child) == has_room, "a file of the child's own");
    need(lines_in(argv[1]) == (has_room ? 0 : 1), "what is said");
    return 0;
}
