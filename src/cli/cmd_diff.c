/* SPDX-License-Identifier: MIT
 *
 * cmd_diff.c - `mod-alloc diff`: what changed between two profiles.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/view.h"

static const char *name_of_change(moda_change change) {
    switch (change) {
    case MODA_NEW: return "new";
    case MODA_GONE: return "gone";
    case MODA_GROWN: return "grown";
    case MODA_SHRUNK: return "shrunk";
    case MODA_SAME: return "same";
    }
    return "?";
}

/* RFC 4180: quotes doubled. */
static void print_quoted(moda_out *out, const char *text) {
    moda_out_char(out, '"');
    for (const char *quote; (quote = strchr(text, '"')) != NULL; text = quote + 1) {
        moda_out_bytes(out, text, (size_t)(quote - text) + 1);
        moda_out_char(out, '"');
    }
    moda_out_utf8(out, text);
    moda_out_char(out, '"');
}

static void print_csv(const moda_diff *diff, const moda_write_options *options, moda_out *out) {
    const char *const key = moda_value_infos[diff->value].key;
    moda_out_format(out, "%s,change,%s_before,%s_after,delta,standard_error\n", moda_by_name(diff->by), key,
                    key);
    for (size_t i = 0; i < diff->row_count && (options->top == 0 || i < options->top); i++) {
        const moda_diff_row *const row = &diff->rows[i];
        print_quoted(out, row->name);
        moda_out_format(out, ",%s,%" PRId64 ",%" PRId64 ",%" PRId64 ",%.0f\n", name_of_change(row->change),
                        row->before.of[diff->value], row->after.of[diff->value], row->delta,
                        row->standard_error);
    }
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
    if (view.format != NULL && strcmp(view.format, "csv") == 0) {
        print_csv(diff, &view.write, &out);
    } else {
        moda_text_diff(diff, &view.write, &out);
    }
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
