/* SPDX-License-Identifier: MIT
 *
 * library.h - where is the libmod_alloc.so that belongs to this mod-alloc?
 */
#ifndef MODA_CLI_LIBRARY_H
#define MODA_CLI_LIBRARY_H

#include <limits.h>
#include <stdbool.h>

#include "cli/cli.h"

/* `named` (from --library; may be NULL), else the variable MOD_ALLOC_LIBRARY, else beside the executable: in
 * the installed layout, then in the build tree; else in the directory it was configured for. Absolute. Ends
 * the process where there is none, or what was named is none of ours. */
void moda_cli_find_library(const moda_cli_args *args, const char *named, char path[PATH_MAX]);

#endif
