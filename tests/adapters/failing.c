/* SPDX-License-Identifier: MIT
 *
 * failing.c CASE - assertions of mod_alloc_assert.h that do not hold; messages.py reads what they say.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#ifdef WITH_REPORT
#include "mod_alloc_report.h"
#endif
#include "mod_alloc_assert.h"

static void *volatile sink;

__attribute__((noinline)) void make_a_list(void) {
    /* volatile: one call in the text stays one in the code, where clang would unroll it into four sites */
    for (volatile int left = 4; left > 0; left--) {
        sink = malloc(100);
    }
}

__attribute__((noinline)) void make_one_more(void) {
    sink = malloc(1000);
    __asm__ volatile(""); /* no tail call: this function stays on the stack */
}

static int leave_early(void) {
    MOD_ALLOC_ASSERT_NO_ALLOCS {
        make_one_more();
        return 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    make_a_list(); /* before the block: must not be shown */
    switch (argc > 1 ? argv[1][0] : '0') {
    case '1':
        MOD_ALLOC_ASSERT_ALLOCS(==, 3) {
            make_a_list();
            make_one_more();
        }
        break;
    case '2': MOD_ALLOC_ASSERT_NO_GROWTH { make_one_more();
        }
        break;
    case '3': MOD_ALLOC_ASSERT_PEAK_BYTES(<, 100) { make_one_more();
        }
        break;
    case '4': return leave_early();
    case '5':
        for (int i = 0; i < 1100; i++) {
            MOD_ALLOC_ASSERT_ALLOCS(==, i == 1050) {
                sink = NULL;
                if (i == 1050) {
                    make_one_more();
                }
            }
        }
        MOD_ALLOC_ASSERT_NO_ALLOCS {
            make_one_more();
        }
        break;
    default: return 2;
    }
    return 0; /* the assertion passed: it should not have */
}
