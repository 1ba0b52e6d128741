/* SPDX-License-Identifier: MIT
 *
 * scratch.h - a private directory that the program's processes leave their profiles in.
 */
#ifndef MODA_CLI_SCRATCH_H
#define MODA_CLI_SCRATCH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "report/report.h"

typedef struct moda_cli_scratch {
    char path[PATH_MAX]; /* "" = none */
    int lock;            /* the directory, locked while we live */
} moda_cli_scratch;

/* Also removes those that a killed mod-alloc has left, when nobody records into them any more. */
bool moda_cli_scratch_make(moda_cli_scratch *scratch, moda_error *error);

/* Names (without directory) of the files in it that have `part` in them, sorted; free each, and the array. */
char **moda_cli_scratch_list(const moda_cli_scratch *scratch, const char *part, size_t *count);

/* Removes it with all that is in it. */
void moda_cli_scratch_remove(moda_cli_scratch *scratch);

/* What is recorded there is to become `output`: should we be killed, it is not removed before a day has passed. */
void moda_cli_scratch_is_for(const moda_cli_scratch *scratch, const char *output);

/* Gives it a name under which nobody removes it: its path changes. */
void moda_cli_scratch_keep(moda_cli_scratch *scratch);

/* Could a file be written under this name? Leaves what is there as it is. */
bool moda_cli_can_write(const char *path, moda_error *error);

/* Copies a file, holes as holes; `to` appears complete or not at all, where it is not a device or a pipe. */
bool moda_cli_copy_file(const char *from, const char *to, moda_error *error);

#endif
