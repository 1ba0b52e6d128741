/* SPDX-License-Identifier: MIT
 *
 * assertions.c - mod_alloc_assert.h inside Criterion: what holds passes, what does not fails.
 *
 * Criterion runs each test in a process of its own and allocates there itself; only what the thread of a
 * block does inside the block may count.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>

#include "mod_alloc_assert.h"

static void *volatile sink;

static void allocate(int blocks, size_t size) {
    for (int i = 0; i < blocks; i++) {
        void *block = malloc(size);
        sink = block; /* the compiler may not do without it; other threads write there, too */
        free(block);
    }
}

Test(assertions, each_comparison_holds_where_it_should) {
    MOD_ALLOC_ASSERT_ALLOCS(==, 3) {
        allocate(3, 10);
    }
    MOD_ALLOC_ASSERT_ALLOCS(!=, 2) {
        allocate(3, 10);
    }
    MOD_ALLOC_ASSERT_ALLOCS(<, 4) {
        allocate(3, 10);
    }
    MOD_ALLOC_ASSERT_ALLOCS(<=, 3) {
        allocate(3, 10);
    }
    MOD_ALLOC_ASSERT_ALLOCS(>, 2) {
        allocate(3, 10);
    }
    MOD_ALLOC_ASSERT_ALLOCS(>=, 3) {
        allocate(3, 10);
    }
    MOD_ALLOC_ASSERT_NO_ALLOCS {
        sink = NULL;
    }
}

Test(assertions, bytes_peaks_and_growth_are_those_known_in_advance) {
    MOD_ALLOC_ASSERT_TOTAL_BYTES(==, 5 * 64) {
        allocate(5, 64);
    }
    MOD_ALLOC_ASSERT_PEAK_BYTES(==, 64) {
        allocate(5, 64);
    }
    MOD_ALLOC_ASSERT_FREES(==, 5) {
        allocate(5, 64);
    }
    MOD_ALLOC_ASSERT_NO_GROWTH {
        allocate(5, 64);
    }
    // NOLINTBEGIN(clang-analyzer-unix.Malloc): it does not know that the block runs once
    void *volatile kept = NULL;
    MOD_ALLOC_ASSERT_GROWTH(==, 256) {
        kept = malloc(256);
    }
    MOD_ALLOC_ASSERT_GROWTH(==, -256) {
        free(kept);
    }
    // NOLINTEND(clang-analyzer-unix.Malloc)
}

Test(assertions, blocks_nest) {
    MOD_ALLOC_ASSERT_ALLOCS(==, 3) {
        allocate(1, 10);
        MOD_ALLOC_ASSERT_ALLOCS(==, 2) {
            allocate(2, 10);
        }
    }
}

static int left_by_return(void) {
    MOD_ALLOC_ASSERT_ALLOCS(==, 1) {
        allocate(1, 10);
        return 7;
    }
    return 0;
}

Test(assertions, a_block_left_early_is_checked) {
    cr_expect_eq(left_by_return(), 7);
    MOD_ALLOC_ASSERT_ALLOCS(==, 1) {
        allocate(1, 10);
        break;
    }
}

static void *allocate_much(void *stop) {
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED)) {
        allocate(100, 32);
    }
    return NULL;
}

Test(assertions, other_threads_do_not_count) {
    pthread_t thread;
    int stop = 0;
    cr_assert_eq(pthread_create(&thread, NULL, allocate_much, &stop), 0);
    for (int i = 0; i < 1000; i++) {
        MOD_ALLOC_ASSERT_ALLOCS(==, 2) {
            allocate(2, 48);
        }
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
}
