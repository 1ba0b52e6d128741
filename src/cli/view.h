/* SPDX-License-Identifier: MIT
 *
 * view.h - what report, diff and merge have in common: which rows, which stacks, which names, where to; and
 * the way from a profile to a report and out through a writer, for run, too.
 */
#ifndef MODA_CLI_VIEW_H
#define MODA_CLI_VIEW_H

#include "cli/cli.h"
#include "report/report.h"

enum { MODA_CLI_EXPRESSIONS = 32 };

typedef struct moda_cli_view {
    moda_report_options report;
    const char *keep[MODA_CLI_EXPRESSIONS], *drop[MODA_CLI_EXPRESSIONS], *hide[MODA_CLI_EXPRESSIONS];
    moda_symbolizer_options names;
    moda_write_options write;
    bool has_value;     /* write.value was asked for */
    bool has_names;     /* some option of names was given */
    const char *format; /* NULL = by the output's suffix */
    const char *output; /* NULL = standard output */
    const char *color;
    bool has_width;
    bool is_quiet;
} moda_cli_view;

/* As the options have it before any is given. */
void moda_cli_view_begin(moda_cli_view *view);

/* Takes one of the CLI_VIEW_* options of options.def; false if it is none of them. */
bool moda_cli_view_take(moda_cli_view *view, const moda_cli_args *args, int option);

/* The writer: as asked for, else what the output's suffix says, else `otherwise`. */
const moda_writer *moda_cli_view_writer(const moda_cli_view *view, const moda_cli_args *args,
                                        const char *otherwise);

/* The format's name: as asked for, else what the output's suffix says, else `otherwise`. */
const char *moda_cli_view_format(const moda_cli_view *view, const char *otherwise);

/* The format that a file's suffix stands for; NULL where it stands for none, or path is NULL. */
const char *moda_cli_format_of_suffix(const char *path);

/* Ends the process where a report would replace a profile that it is made from. */
void moda_cli_spare_profiles(const moda_cli_args *args, const moda_cli_view *view);

/* Reads the operands, adds them up if there are several. Ends the process where one cannot be read. */
moda_profile *moda_cli_read_profiles(const moda_cli_args *args, char **names, size_t count);

/* Where the files of a running process are, if not where ours are: it runs in a container. NULL = they are the same. */
const char *moda_cli_root_of(const moda_profile *profile, char *root, size_t size);

/* Names the addresses, with a progress bar on a terminal. NULL and a message where that fails. */
moda_report *moda_cli_build_report(moda_cli_view *view, const moda_profile *profile, moda_error *error);

/* Writes the report to view->output. */
bool moda_cli_write_report(const moda_cli_view *view, const moda_report *report, const moda_writer *writer,
                           moda_error *error);

/* Writes the profile itself to a file, "-" = standard output. */
bool moda_cli_write_profile(const char *path, const moda_profile *profile, moda_error *error);

/* Opens view->output and sets width and color of view->write by what it is. */
bool moda_cli_open_output(moda_cli_view *view, moda_out *out, moda_error *error);
/* The same for what is said on stderr. */
void moda_cli_open_stderr(moda_cli_view *view, moda_out *out);

#endif
