/* SPDX-License-Identifier: MIT
 *
 * cmd_diff.c - `mod-alloc diff`: what changed between two profiles.
 */
#include <string.h>

#include "cli/cli.h"
#include "cli/view.h"
#include "cli/words.h"

/* What flame graphs take has a stack a line, whatever --by says; as in `report`. */
static const char *choose_format(moda_cli_view *view, const moda_cli_args *args) {
    const char *const format = moda_cli_view_format(view, "text");
    if (!moda_diff_write(NULL, format, NULL, NULL)) {
        moda_cli_misuse(args, "a difference is written as one of %s, not as %s", MODA_CLI_DIFF_FORMATS,
                        format);
    }
    if (strcmp(format, "folded") == 0) {
        view->write.by = MODA_BY_SITE;
    }
    return format;
}

int moda_cli_diff(int argc, char **argv) {
    moda_cli_args args = moda_cli_args_begin(MODA_CLI_COMMAND_diff, argc, argv);
    moda_cli_view view;
    moda_cli_view_begin(&view);
    for (int option; (option = moda_cli_args_next(&args)) >= 0;) {
        moda_cli_view_take(&view, &args, option);
    }
    if (args.operand_count != 2) {
        moda_cli_misuse(&args, "which two profiles? BEFORE and AFTER");
    }
    if (!view.has_value) {
        view.write.value = MODA_VALUE_ALLOCATED_BYTES;
    }
    const char *const format = choose_format(&view, &args);
    moda_cli_spare_profiles(&args, &view);
    moda_error error = {.text = ""};
    moda_profile *profile[2];
    moda_report *report[2];
    for (int i = 0; i < 2; i++) {
        profile[i] = moda_cli_read_profiles(&args, &args.operand[i], 1);
        report[i] = moda_cli_build_report(&view, profile[i], &error);
        if (report[i] == NULL) {
            moda_cli_fail(&args, MODA_CLI_MISUSE, "%s: %s", args.operand[i], error.text);
        }
    }
    moda_out out;
    moda_diff *const diff =
        moda_diff_build(report[0], report[1], view.write.by, view.write.value, view.write.by_total, &error);
    if (diff == NULL || !moda_cli_open_output(&view, &out, &error)) {
        moda_cli_fail(&args, MODA_CLI_MISUSE, "%s", error.text);
    }
    moda_diff_write(diff, format, &view.write, &out);
    if (!moda_out_close(&out, &error)) {
        moda_cli_fail(&args, MODA_CLI_MISUSE, "%s", error.text);
    }
    moda_diff_free(diff);
    for (int i = 0; i < 2; i++) {
        moda_report_free(report[i]);
        moda_profile_free(profile[i]);
    }
    return MODA_CLI_DONE;
}
