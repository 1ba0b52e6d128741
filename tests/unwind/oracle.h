/* SPDX-License-Identifier: MIT
 *
 * oracle.h - the counts that the preloaded oracle keeps and oracle_run reads: a file mapped by every process of
 * the program under test, so that what a process that ends by _exit or a signal has counted stays.
 */
#ifndef TESTS_UNWIND_ORACLE_H
#define TESTS_UNWIND_ORACLE_H

#include <stdint.h>

#define ORACLE_COUNTS_VARIABLE "MODA_ORACLE_COUNTS"   /* path of the file */
#define ORACLE_MAX_VARIABLE "MODA_ORACLE_MAX"         /* stacks compared by one process, at most */
#define ORACLE_FRAMES_VARIABLE "MODA_ORACLE_FRAMES"   /* depth of walks */
#define ORACLE_MUTATE_VARIABLE "MODA_ORACLE_MUTATE"   /* spoil one row of so many, to see the oracle notice */
#define ORACLE_VERBOSE_VARIABLE "MODA_ORACLE_VERBOSE" /* print the first so many differences to stderr */

typedef struct oracle_counts {
    uint64_t stacks;
    uint64_t frames;
    uint64_t equal;   /* to libunwind's, frame by frame */
    uint64_t longer;  /* equal as far as libunwind came, which gave up earlier */
    uint64_t ends[6]; /* by mod_alloc_walk_end */
    uint64_t guessed; /* stacks with a guessed frame */
    uint64_t reused_frames;
    uint64_t incremental_wrong; /* incremental walk not equal to the plain one */
    uint64_t reuse_wrong;       /* frames said to be the last walk's that are not */
    uint64_t fp_equal;          /* stacks that frame pointers alone get right */
    uint64_t processes;
} oracle_counts;

#endif
