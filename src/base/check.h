/* SPDX-License-Identifier: MIT
 *
 * check.h - laws that the code states about itself, at three prices.
 *
 *   moda_check(law)        in every build: cheap, and what follows would damage the program's memory
 *   MODA_ASSERT(law)       -DMOD_ALLOC_ASSERTS=on and full: cheap laws, a compare or two
 *   MODA_ASSERT_SLOW(law)  -DMOD_ALLOC_ASSERTS=full: whole structures are walked
 *
 * A law that is not built is still compiled, so that it does not rot. One that fails ends the process
 * through fatal.c. No memory, any thread, also inside malloc.
 */
#ifndef MODA_BASE_CHECK_H
#define MODA_BASE_CHECK_H

#include "base/compiler.h"
#include "base/fatal.h"

#ifndef MODA_ASSERT_LEVEL
#define MODA_ASSERT_LEVEL 0
#endif

#define MODA_CHECK_IF(is_built, law)                                                                         \
    do {                                                                                                     \
        if ((is_built) && moda_unlikely(!(law))) {                                                           \
            moda_fatal_check_failed(#law, __FILE__, __LINE__);                                               \
        }                                                                                                    \
    } while (0)

#define moda_check(law) MODA_CHECK_IF(true, law)
#define MODA_ASSERT(law) MODA_CHECK_IF(MODA_ASSERT_LEVEL >= 1, law)
#define MODA_ASSERT_SLOW(law) MODA_CHECK_IF(MODA_ASSERT_LEVEL >= 2, law)

#endif
