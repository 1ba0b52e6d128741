/* SPDX-License-Identifier: MIT
 *
 * fuzz_random.h - the fixed series of changes that fuzz_main.c and fuzz_text.c make: the same in each run.
 */
#ifndef FUZZ_RANDOM_H
#define FUZZ_RANDOM_H

#include <stdint.h>

static uint64_t state = 88172645463325252u;
static uint64_t next_random(void) { /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

#endif
