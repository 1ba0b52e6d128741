/* SPDX-License-Identifier: MIT
 *
 * start.h - what start.c and its library call of each other.
 */
#ifndef TESTS_UNWIND_START_H
#define TESTS_UNWIND_START_H

/* The program's: the walker, then walks from the caller. */
void start_choose(const char *name);
void start_walk(const char *where);

void start_library(void); /* so that the library is needed */

#endif
