/* SPDX-License-Identifier: MIT
 *
 * exit.h - the counters, written out: at exit if MOD_ALLOC_STATS says so, and for malloc_stats.
 */
#ifndef MODA_ENTRY_EXIT_H
#define MODA_ENTRY_EXIT_H

/* At load, where counters are asked for: a descriptor of our own for stderr. */
void moda_exit_keep_stderr(void);

/* Where MOD_ALLOC_STATS says, if anywhere; nothing where malloc is another's. */
void moda_exit_report(void);

/* The table, on a file descriptor. */
void moda_exit_print_table(int fd);

/* One line on stderr, where counters or a profile were asked for: the library is here, but malloc is another's. */
void moda_exit_say_not_active(void);

#endif
