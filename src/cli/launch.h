/* SPDX-License-Identifier: MIT
 *
 * launch.h - runs a program to its end, with the signals that are meant for it.
 */
#ifndef MODA_CLI_LAUNCH_H
#define MODA_CLI_LAUNCH_H

#include <stdint.h>
#include <sys/types.h>

#include "cli/cli.h"

typedef struct moda_cli_setting {
    const char *name, *value;
} moda_cli_setting;

typedef struct moda_cli_end {
    int error_number; /* not 0: it could not be run, and the rest means nothing */
    pid_t pid;
    bool is_killed; /* by `signal`; else it exited with `exit_status` */
    int signal;
    int exit_status;
    uint64_t elapsed_ns;
    /* of the program and the children that it waited for; the resident size is that of the largest */
    uint64_t user_ns, system_ns, max_resident_bytes;
} moda_cli_end;

/* Runs argv[0], found through PATH, with `settings` (ended by a row whose value is NULL; one without a name is
 * skipped) added to its environment. Signals sent to us by a process are sent on to it; those of the
 * terminal reach it by themselves, and we live on. */
moda_cli_end moda_cli_launch(char *const argv[], const moda_cli_setting *settings);

/* Ends this process as the program ended: with the same status, or by the same signal. */
MODA_NORETURN void moda_cli_end_alike(const moda_cli_end *end);

#endif
