/* SPDX-License-Identifier: MIT
 *
 * oracle_run.c - runs a program under the preloaded oracle and judges its counts.
 *
 * Usage: oracle_run LIBRARY AT_LEAST ARRIVE EXPECT COMMAND [ARG...]
 *   AT_LEAST  stacks that must have been compared, so that a run that compared none cannot pass
 *   ARRIVE    percent of the walks that must have reached the outermost frame: both walkers may stop at the same place
 *   EXPECT    equal: all stacks are libunwind's, and no incremental walk differs
 *             guessed: 99.9 % are, where walks may arrive by way of code without tables, which is compiled as it runs
 *             differs: some are not libunwind's (rows were spoiled on purpose)
 *             stops: less than ARRIVE did (on purpose)
 * Exit status: 0 as expected, 1 not, 77 where COMMAND is not installed (ctest: skipped).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mod_alloc.h"
#include "oracle.h"

enum { SKIPPED = 77 };

static void run_child(const char *library, const char *counts_path, char **command) {
    setenv(ORACLE_COUNTS_VARIABLE, counts_path, 1);
    setenv("LD_PRELOAD", library, 1);
    setenv("PYTHONMALLOC", "malloc", 1);
    const int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    execvp(command[0], command);
    _exit(errno == ENOENT ? SKIPPED : 126);
}

static void print_counts(const oracle_counts *c) {
    const double stacks = c->stacks != 0 ? (double)c->stacks : 1;
    const double frames = c->frames != 0 ? (double)c->frames : 1;
    printf("processes %lu, stacks %lu, frames %lu (%.1f a stack)\n", c->processes, c->stacks, c->frames,
           (double)c->frames / stacks);
    printf("equal %lu (%.4f %%), libunwind stopped earlier %lu, other differences %lu\n", c->equal,
           100 * (double)c->equal / stacks, c->longer, c->stacks - c->equal - c->longer);
    printf("complete %lu, cut %lu, unknown %lu, guessed %lu, broken %lu; with guesses %lu\n", c->ends[0],
           c->ends[1], c->ends[2], c->ends[3], c->ends[4], c->guessed);
    printf("incremental: wrong %lu, reuse wrong %lu, frames reused %.1f %%; frame pointers right %.1f %%\n",
           c->incremental_wrong, c->reuse_wrong, 100 * (double)c->reused_frames / frames,
           100 * (double)c->fp_equal / stacks);
}

static bool is_as_expected(const oracle_counts *c, uint64_t at_least, uint64_t percent, const char *expect) {
    if (c->stacks < at_least) {
        fprintf(stderr, "oracle_run: %lu stacks compared, at least %lu wanted\n", c->stacks, at_least);
        return false;
    }
    const uint64_t wrong = c->stacks - c->equal - c->longer;
    const uint64_t arrived = c->ends[MOD_ALLOC_WALK_COMPLETE]
                             + (strcmp(expect, "guessed") == 0 ? c->ends[MOD_ALLOC_WALK_GUESSED] : 0);
    const bool do_arrive = arrived * 100 >= c->stacks * percent;
    if (strcmp(expect, "stops") == 0) {
        return !do_arrive;
    }
    if (!do_arrive) {
        fprintf(stderr, "oracle_run: %lu of %lu walks arrived, %lu %% wanted\n", arrived, c->stacks, percent);
        return false;
    }
    if (strcmp(expect, "differs") == 0) {
        return wrong * 1000 > c->stacks;
    }
    /* Through code without tables libunwind guesses, too, and may guess otherwise. */
    const bool is_equal =
        strcmp(expect, "guessed") == 0 ? c->equal * 1000 >= c->stacks * 999 : c->equal == c->stacks;
    return is_equal && c->incremental_wrong == 0 && c->reuse_wrong == 0;
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr,
                "usage: oracle_run LIBRARY AT_LEAST ARRIVE equal|guessed|differs|stops COMMAND [ARG...]\n");
        return 2;
    }
    char path[] = "/tmp/moda-oracle-XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0 || ftruncate(fd, sizeof(oracle_counts)) != 0) {
        return 2;
    }
    const oracle_counts *counts = mmap(NULL, sizeof *counts, PROT_READ, MAP_SHARED, fd, 0);
    const pid_t child = fork();
    if (child == 0) {
        run_child(argv[1], path, argv + 5);
    }
    int status = 0;
    waitpid(child, &status, 0);
    unlink(path);
    if (counts == MAP_FAILED) {
        return 2;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED && counts->processes == 0) {
        printf("skipped: %s is not installed\n", argv[5]);
        return SKIPPED;
    }
    print_counts(counts);
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "oracle_run: %s ended by signal %d\n", argv[5], WTERMSIG(status));
        return 1;
    }
    return is_as_expected(counts, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), argv[4]) ? 0 : 1;
}
