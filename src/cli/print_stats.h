/* SPDX-License-Identifier: MIT
 *
 * print_stats.h - the counters of a process as a table for people and as JSON for machines.
 *
 * For cmd_run.c and cmd_stat.c. The allocator prints the same two at exit (MOD_ALLOC_STATS).
 */
#ifndef MODA_CLI_PRINT_STATS_H
#define MODA_CLI_PRINT_STATS_H

#include "mod_alloc.h"
#include "report/report.h"

typedef struct moda_cli_stats {
    const char *program; /* name or path */
    const char *mod_alloc_version, *mimalloc_version;
    long pid;
    size_t processes; /* > 1: summed over that many */
    uint32_t threads; /* ever */
    mod_alloc_stats totals;
    uint64_t freed_bytes; /* by all threads */

    enum { MODA_CLI_RUNNING, MODA_CLI_EXITED, MODA_CLI_KILLED, MODA_CLI_UNREAD, MODA_CLI_ENDED } end;
    int exit_status; /* EXITED */
    int signal;      /* KILLED; UNREAD: SIGPIPE, with the reader of its output; ENDED: it is not known how */

    bool has_usage; /* the rest is known */
    uint64_t elapsed_ns, user_ns, system_ns, max_resident_bytes;
} moda_cli_stats;

/* Of a profile; how the program ended as far as the profile knows. */
moda_cli_stats moda_cli_stats_of(const moda_profile *profile);

void moda_cli_print_stats(moda_out *out, const moda_cli_stats *stats);
void moda_cli_print_stats_json(moda_out *out, const moda_cli_stats *stats);
/* To a file, or "-". */
bool moda_cli_write_stats_json(const char *path, const moda_cli_stats *stats, moda_error *error);

#endif
