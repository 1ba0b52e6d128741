/* SPDX-License-Identifier: MIT
 *
 * race_test.c - threads that fill a cold row cache together, while it grows, when it is full, and while rows
 * are forgotten; built with ThreadSanitizer where the compiler has it. Exit status 0: every row was right.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mod_alloc.h"
#include "unwind/row_cache.h"
#include "unwind/unwind.h"

enum { THREADS = 4, ADDRESSES = 12000, ROUNDS = 2, FRAMES = 64 };

static moda_row expected[ADDRESSES];
static uintptr_t code;
static int tables_left;
static unsigned long wrong;

static void *some_memory(size_t bytes) {
    if (__atomic_sub_fetch(&tables_left, 1, __ATOMIC_RELAXED) < 0) {
        return NULL;
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static uintptr_t address_of(size_t i) {
    return code + i * 61; /* all over libc */
}

__attribute__((noinline)) static int walk_here(moda_unwind_thread *thread, uint64_t *frames) {
    const moda_unwind_start start = {
        .pc = (uintptr_t)__builtin_return_address(0),
        .sp = (uintptr_t)__builtin_dwarf_cfa(),
        .fp = *(const uintptr_t *)__builtin_frame_address(0),
    };
    return moda_unwind(&start, thread, frames).end;
}

static void *look_up_all(void *argument) {
    const size_t seed = (size_t)argument;
    uint64_t frames[FRAMES];
    moda_unwind_thread *thread = calloc(1, moda_unwind_thread_size(FRAMES));
    unsigned long mine = 0;
    for (size_t i = 0; i < ADDRESSES; i++) {
        const size_t k = (i * 7919 + seed * 3001) % ADDRESSES;
        const moda_row_view view = moda_row_view_now();
        const moda_row row = moda_row_lookup(&view, address_of(k));
        mine += (row & ~MODA_ROW_EPOCH_MASK) != expected[k];
        if (i % 64 == 0) {
            mine += walk_here(thread, frames) != MOD_ALLOC_WALK_COMPLETE;
        }
        if (i % 2048 == seed) {
            moda_unwind_forget();
        }
    }
    free(thread);
    __atomic_fetch_add(&wrong, mine, __ATOMIC_RELAXED);
    return NULL;
}

static void race(int tables) {
    pthread_t threads[THREADS];
    tables_left = tables;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, look_up_all, (void *)i);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(int argc, char **argv) {
    code = (uintptr_t)&qsort;
    moda_unwind_initialize(MODA_UNWIND_AUTO, FRAMES);
    for (size_t i = 0; i < ADDRESSES; i++) { /* no memory yet: computed each time */
        const moda_row_view view = moda_row_view_now();
        expected[i] = moda_row_lookup(&view, address_of(i)) & ~MODA_ROW_EPOCH_MASK;
    }
    moda_unwind_set_memory(some_memory);
    const int tables = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 4; /* 1: the table stays small, and full */
    for (int round = 0; round < ROUNDS; round++) {
        race(round == 0 ? tables : 0);
    }
    uint32_t bits;
    const uint32_t used = moda_row_cache_count(&bits);
    printf("%lu wrong; %u rows in a table of 2^%u\n", wrong, used, bits);
    return wrong == 0 && bits != 0 ? 0 : 1;
}
