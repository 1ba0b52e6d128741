/* SPDX-License-Identifier: MIT
 *
 * unbiased.c - a thousand runs of one program, each with a seed of its own: what sampling estimates of each of its
 * call sites is right on average, and spreads as theory says.
 *
 * One site for each size, 8 bytes to 8 MiB, by each way to allocate; realloc from one site to another, too, from blocks
 * that are tracked to others that are not and back. `unbiased` runs `unbiased once` for each
 * seed, with MOD_ALLOC_SAMPLE=64K, and reads its estimates from a pipe.
 *
 * Odds: a block of s bytes is sampled with p = 1 - exp(-s / R) and then stands for 1 / p, so that a site of n blocks is
 * estimated with the variance n (1 - p) / p. The mean of 1,000 runs lies within 3 standard errors of the truth with a
 * probability of 0.9973, at all 11 sites with 0.97. The spread must be theory's to 15 % (6.7 of its own standard
 * errors) where there is enough of it to measure. Samples hang on the seed alone, so that the test always passes or
 * always fails, as long as no start code allocates otherwise.
 */
#include "mod_alloc.h"

#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SITES = 11, SEEDS = 1000, TURNS = 4000, HELD = 32 };
#define MEAN 65536.0

extern char **environ;
static volatile size_t zero; /* keeps the compiler from knowing a size */
static double size_of[SITES];

/* The size of a block is what was counted; malloc_usable_size is less for one that lies inside a larger one. */
#define SITE(number, call)                                                                                   \
    static __attribute__((noinline)) void *site_##number(void) {                                             \
        mod_alloc_stats before, after;                                                                       \
        mod_alloc_thread_snapshot(&before);                                                                  \
        void *p = call;                                                                                      \
        mod_alloc_thread_snapshot(&after);                                                                   \
        size_of[number] = (double)(after.total_bytes - before.total_bytes);                                  \
        __asm__ volatile("" : "+r"(p) : : "memory");                                                         \
        return p;                                                                                            \
    }
SITE(0, malloc(8 + zero))
SITE(1, malloc(48 + zero))
SITE(2, calloc(1, 400 + zero))
SITE(3, aligned_alloc(256, 4096 + zero))
SITE(4, malloc(65536 + zero))
SITE(5, realloc(NULL, 524288 + zero))
SITE(6, aligned_alloc(4096, 1048576 + zero))
SITE(7, calloc(8388608 + zero, 1))
SITE(8, malloc(3000 + zero))
SITE(9, realloc(site_8(), 20000 + zero))  /* moves */
SITE(10, realloc(site_9(), 19000 + zero)) /* stays, tracked or not as it was */

typedef void *site(void);
static site *const sites[SITES] = {site_0, site_1, site_2, site_3, site_4, site_5,
                                   site_6, site_7, site_8, site_9, site_10};
static const int blocks_of[SITES] = {4000, 2000, 1000, 500, 100, 20, 10, 3, 400, 400, 400};

typedef struct estimates {
    double blocks[SITES]; /* bytes, by the size of one */
    double size[SITES];
    double freed[SITES];
} estimates;

/* The site whose function holds an address: the one that begins last before it. */
static int site_of(uintptr_t address) {
    int found = -1;
    uintptr_t nearest = 256;
    for (int i = 0; i < SITES; i++) {
        const uintptr_t behind = address - (uintptr_t)sites[i];
        if (behind < nearest) {
            nearest = behind;
            found = i;
        }
    }
    return found;
}

static int add_site(const mod_alloc_call_site *seen, void *context) {
    estimates *e = context;
    const int i = seen->frame_count != 0 ? site_of(seen->frames[0]) : -1;
    if (i >= 0) {
        e->blocks[i] += (double)seen->alloc_bytes / e->size[i];
        e->freed[i] += (double)seen->free_bytes / e->size[i];
    }
    return 0;
}

/* All sites in turn, as often as each has blocks; some dozens of blocks are alive at a time. */
static int run_once(void) {
    static estimates e;
    static void *held[HELD];
    unsigned next = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < SITES; i++) {
            if (turn < blocks_of[i] && i != 8 && i != 9) { /* those two are called by the last one */
                void **const place = &held[next++ % HELD];
                free(*place);
                *place = sites[i]();
                if (*place == NULL) {
                    return 2;
                }
            }
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        free(held[i]);
    }
    memcpy(e.size, size_of, sizeof e.size);
    mod_alloc_call_sites(add_site, &e);
    return write(STDOUT_FILENO, &e, sizeof e) == (ssize_t)sizeof e ? 0 : 3;
}

static int read_once(const char *self, int seed, estimates *e) {
    char number[32];
    snprintf(number, sizeof number, "%d", seed);
    setenv("MOD_ALLOC_SEED", number, 1);
    char name[4096];
    snprintf(name, sizeof name, "%s", self);
    char once[] = "once";
    char *const words[] = {name, once, NULL};
    int ends[2], status = -1;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe(ends) != 0) {
        return 0;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const int is_begun = posix_spawn(&pid, name, &actions, NULL, words, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    const int is_read = is_begun && read(ends[0], e, sizeof *e) == (ssize_t)sizeof *e;
    close(ends[0]);
    return is_begun && waitpid(pid, &status, 0) == pid && status == 0 && is_read;
}

static int failures;

static void check(int is_so, int i, const char *what, double found, double expected, double bound) {
    if (!is_so) {
        printf("not so: site %d, %s: %.6f, expected %.6f, bound %.6f\n", i, what, found, expected, bound);
        failures++;
    }
}

static void check_site(int i, double size, double sum, double squares) {
    const double n = blocks_of[i], p = -expm1(-size / MEAN);
    const double variance = n * (1 - p) / p;
    const double error = sqrt(variance / SEEDS) + 1e-5; /* a weight is a multiple of 1/65536 */
    const double average = sum / SEEDS, seen = squares / SEEDS - average * average;
    check(fabs(average - n) <= 3 * error, i, "mean", average, n, 3 * error);
    if (p * n > 10 && (1 - p) * n > 10) {
        check(fabs(seen - variance) <= 0.15 * variance, i, "spread", seen, variance, 0.15 * variance);
    }
    printf("%8.0f bytes, %4.0f blocks: %.4f on average, %+.2f standard errors; variance %.4g, theory %.4g\n",
           size, n, average, (average - n) / error, seen, variance);
}

int main(int count, char **word) {
    if (count > 1) {
        return run_once();
    }
    setenv("MOD_ALLOC_SAMPLE", "64K", 1);
    unsetenv("MOD_ALLOC_PROFILE");
    double sum[SITES] = {0}, squares[SITES] = {0}, size[SITES] = {0};
    for (int seed = 1; seed <= SEEDS; seed++) {
        estimates e;
        if (!read_once(word[0], seed, &e)) {
            printf("the run with seed %d failed\n", seed);
            return 1;
        }
        for (int i = 0; i < SITES; i++) {
            size[i] = e.size[i];
            sum[i] += e.blocks[i];
            squares[i] += e.blocks[i] * e.blocks[i];
            check(e.freed[i] == e.blocks[i], i, "freed, as it was allocated", e.freed[i], e.blocks[i], 0);
        }
    }
    for (int i = 0; i < SITES; i++) {
        check_site(i, size[i], sum[i], squares[i]);
    }
    return failures != 0;
}
