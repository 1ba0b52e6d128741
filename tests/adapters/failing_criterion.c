/* SPDX-License-Identifier: MIT
 *
 * failing_criterion.c - a Criterion test whose assertion does not hold: the test must fail, not crash.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "mod_alloc_assert.h"

static void *volatile kept;

__attribute__((noinline)) void allocate_ten(void) {
    kept = malloc(10);
    __asm__ volatile(""); /* no tail call: this function stays on the stack */
}

Test(failing, says_why) {
    MOD_ALLOC_ASSERT_NO_ALLOCS {
        allocate_ten();
    }
    free(kept);
}

Test(failing, another_one_passes) {
    MOD_ALLOC_ASSERT_ALLOCS(==, 1) {
        free(malloc(10));
    }
}
