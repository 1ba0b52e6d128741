/* SPDX-License-Identifier: MIT
 *
 * fatal.h - every message that ends the process, one named function each.
 *
 * Called where metadata is damaged, or the program has handed over a pointer that can't be a block of
 * ours: going on would damage its memory in silence. Each writes one line to stderr and aborts. No memory,
 * no stdio, any thread, also inside malloc.
 */
#ifndef MODA_BASE_FATAL_H
#define MODA_BASE_FATAL_H

#include "base/compiler.h"

/* `function` is the call of the program that found it: "free", "realloc" ... */
MODA_COLD MODA_NORETURN void moda_fatal_invalid_pointer(const char *function, const void *pointer);
MODA_COLD MODA_NORETURN void moda_fatal_double_free(const char *function, const void *pointer);
MODA_COLD MODA_NORETURN void moda_fatal_corrupted_header(const char *function, const void *pointer);

/* There is no memory for what malloc itself cannot do without. */
MODA_COLD MODA_NORETURN void moda_fatal_no_memory(const char *purpose, size_t bytes);

/* operator new in a program that has no exceptions to throw with (no C++ library is loaded). */
MODA_COLD MODA_NORETURN void moda_fatal_new_failed(size_t bytes);

/* For check.h and lock.h. */
MODA_COLD MODA_NORETURN void moda_fatal_check_failed(const char *law, const char *file, int line);
MODA_COLD MODA_NORETURN void moda_fatal_lock_order(unsigned wanted, unsigned held);

#endif
