/* SPDX-License-Identifier: MIT
 *
 * instructions.c - how many instructions do malloc and free of one block take?
 *
 * Run by instructions.py under callgrind, with the malloc to be looked at preloaded. Each question runs
 * its loop twice, for two numbers of blocks, and dumps callgrind's counter after each: the difference
 * divided by the difference of the numbers is what one more block costs, loop and PLT included (the
 * question "loop" is that share alone). The result is the same each time, to the last digit.
 *
 *   pair     malloc and free of one size, again and again: the page is empty after each free
 *   batch    1000 mallocs, then their frees in an order shuffled once: free lists as programs have them
 *   calloc   pair, with calloc
 *   grow     malloc(16), realloc to the size in 8 doublings at most, free
 *
 * Without callgrind the loops just run: the client requests are no-ops.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

enum { BATCH = 1000, FEW = 5 * BATCH, MANY = 15 * BATCH };

static void *volatile sink; /* keeps the compiler from removing the pairs */
static unsigned short order[BATCH];

/* The same permutation on every machine: Fisher-Yates over a linear congruential generator. */
static void shuffle(void) {
    unsigned long long state = 42;
    for (unsigned i = 0; i < BATCH; i++) {
        order[i] = (unsigned short)i;
    }
    for (unsigned i = BATCH - 1; i > 0; i--) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        const unsigned j = (unsigned)((state >> 33) % (i + 1));
        const unsigned short other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
}

__attribute__((noinline)) static void run_loop(size_t size, unsigned blocks) {
    for (unsigned i = 0; i < blocks; i++) {
        sink = (void *)size;
    }
}

__attribute__((noinline)) static void run_pair(size_t size, unsigned blocks) {
    for (unsigned i = 0; i < blocks; i++) {
        void *block = malloc(size);
        sink = block;
        free(block);
    }
}

__attribute__((noinline)) static void run_batch(size_t size, unsigned blocks) {
    static void *live[BATCH];
    for (unsigned done = 0; done < blocks; done += BATCH) {
        for (unsigned i = 0; i < BATCH; i++) {
            live[i] = malloc(size);
        }
        for (unsigned i = 0; i < BATCH; i++) {
            free(live[order[i]]);
        }
    }
}

__attribute__((noinline)) static void run_calloc(size_t size, unsigned blocks) {
    for (unsigned i = 0; i < blocks; i++) {
        void *block = calloc(1, size);
        sink = block;
        free(block);
    }
}

__attribute__((noinline)) static void run_grow(size_t size, unsigned blocks) {
    for (unsigned i = 0; i < blocks; i++) {
        void *block = malloc(16);
        for (size_t now = size >> 8 < 32 ? 32 : size >> 8; now <= size; now *= 2) {
            block = realloc(block, now);
        }
        sink = block;
        free(block);
    }
}

typedef struct question {
    const char *name;
    void (*run)(size_t size, unsigned blocks);
} question;

static const question questions[] = {
    {.name = "loop", .run = run_loop},   {.name = "pair", .run = run_pair},
    {.name = "batch", .run = run_batch}, {.name = "calloc", .run = run_calloc},
    {.name = "grow", .run = run_grow},
};

/* The dump's name is `question size blocks`, which is all that instructions.py needs to know. */
static void ask(const question *q, size_t size, unsigned blocks) {
    char name[64];
    snprintf(name, sizeof name, "%s %zu %u", q->name, size, blocks);
    q->run(size, FEW); /* warm: pages are there, free lists have their shape */
    CALLGRIND_ZERO_STATS;
    q->run(size, blocks);
    CALLGRIND_DUMP_STATS_AT(name);
}

int main(int argc, char **argv) {
    static const size_t default_sizes[] = {16, 64, 256, 1000, 4096, 40000};
    const char *wanted = argc > 1 ? argv[1] : "pair,batch";
    shuffle();
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        const question *q = &questions[i];
        if (strstr(wanted, q->name) == NULL) {
            continue;
        }
        const int given = argc > 2 ? argc - 2 : (int)(sizeof default_sizes / sizeof default_sizes[0]);
        for (int k = 0; k < given; k++) {
            const size_t size = argc > 2 ? strtoul(argv[k + 2], NULL, 10) : default_sizes[k];
            ask(q, size, FEW);
            ask(q, size, MANY);
        }
    }
    return 0;
}
