/* SPDX-License-Identifier: MIT
 *
 * failing_criterion.c - a Criterion test whose assertion does not hold: the test must fail, not crash.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "mod_alloc_assert.h"

Test(failing, says_why) {
    // NOLINTBEGIN(clang-analyzer-unix.Malloc): it does not know that the block runs once
    void *kept = NULL;
    MOD_ALLOC_ASSERT_NO_ALLOCS {
        kept = malloc(10);
    }
    free(kept);
    // NOLINTEND(clang-analyzer-unix.Malloc)
}

Test(failing, another_one_passes) {
    MOD_ALLOC_ASSERT_ALLOCS(==, 1) {
        free(malloc(10));
    }
}
