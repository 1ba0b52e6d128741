/* SPDX-License-Identifier: MIT
 *
 * leak_gate.h - is more live at the end than is allowed?
 */
#ifndef MODA_CLI_LEAK_GATE_H
#define MODA_CLI_LEAK_GATE_H

#include "cli/cli.h"
#include "report/report.h"

/* Suppressions in LeakSanitizer's syntax: lines `leak:PATTERN`; blank lines and lines that begin with # are
 * skipped. PATTERN is looked for anywhere in a frame's function (as shown, and as in the symbol table),
 * source file or module; * stands for any text, ^ at the start and $ at the end for the ends. */
typedef struct moda_cli_suppression {
    char *pattern;
    int line;
    int64_t bytes, blocks; /* what it matched */
} moda_cli_suppression;

typedef struct moda_cli_suppressions {
    moda_cli_suppression *row;
    size_t count;
} moda_cli_suppressions;

/* False, with file and line, where it cannot be read or has a line of another kind. */
bool moda_cli_suppressions_read(moda_cli_suppressions *suppressions, const char *path, moda_error *error);
void moda_cli_suppressions_free(moda_cli_suppressions *suppressions);
bool moda_cli_suppression_matches(const char *pattern, const char *text);

typedef struct moda_cli_gate {
    uint64_t allowed_bytes;
    moda_cli_suppressions suppressions;
} moda_cli_gate;

/* True = nothing to complain of. Else, or where something was suppressed and not `is_quiet`, tells so on
 * `out`. `report` has the names; the largest `top` sites are shown. */
bool moda_cli_gate_passes(moda_cli_gate *gate, const moda_report *report, size_t top, bool is_quiet,
                          moda_out *out);

#endif
