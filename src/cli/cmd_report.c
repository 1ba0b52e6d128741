/* SPDX-License-Identifier: MIT
 *
 * cmd_report.c - `mod-alloc report` and `mod-alloc merge`: a profile, or several added up, through a writer; or,
 * merged, a profile again.
 */
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/view.h"

static void complain_of_nothing(const moda_cli_args *args, const moda_profile *profile,
                                const moda_report *report) {
    if (profile->site_count == 0 && profile->sample_bytes == 0) {
        moda_cli_say(args, "no call sites: sampling was off (MOD_ALLOC_SAMPLE=0)");
    } else if (profile->site_count == 0) {
        moda_cli_say(args, "no call sites: nothing was sampled; every allocation is with MOD_ALLOC_SAMPLE=1");
    } else if (report->stack_count == 0 && report->is_filtered) {
        moda_cli_say(args, "no call site passes the filters");
    }
}

static int write_profiles(const moda_cli_args *args, moda_cli_view *view, const char *format) {
    moda_error error = {.text = ""};
    const moda_writer *const writer = moda_cli_view_writer(view, args, format);
    moda_cli_spare_profiles(args, view);
    moda_profile *const profile = moda_cli_read_profiles(args, args->operand, (size_t)args->operand_count);
    moda_report *const report = moda_cli_build_report(view, profile, &error);
    if (report == NULL || !moda_cli_write_report(view, report, writer, &error)) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s", error.text);
    }
    if (!view->is_quiet) {
        complain_of_nothing(args, profile, report);
    }
    moda_report_free(report);
    moda_profile_free(profile);
    return MODA_CLI_DONE;
}

int moda_cli_report(int argc, char **argv) {
    moda_cli_args args = moda_cli_args_begin(MODA_CLI_COMMAND_report, argc, argv);
    moda_cli_view view;
    moda_cli_view_begin(&view);
    for (int option; (option = moda_cli_args_next(&args)) >= 0;) {
        switch (option) {
        case MODA_CLI_OPTION_report_tree: view.write.has_tree = true; break;
        case MODA_CLI_OPTION_report_bottom_up:
            view.write.has_tree = true;
            view.write.is_bottom_up = true;
            break;
        case MODA_CLI_OPTION_report_summary: view.write.is_summary = true; break;
        default: moda_cli_view_take(&view, &args, option); break;
        }
    }
    if (args.operand_count == 0) {
        moda_cli_misuse(&args, "which profile? A file, or the pid of a running program");
    }
    if (view.write.by == MODA_BY_THREAD && !view.has_value) {
        view.write.value = MODA_VALUE_ALLOCATED_BYTES; /* what was live at the peak is known by site alone */
    }
    return write_profiles(&args, &view, "text");
}

/* A profile has addresses and all sites; names and filters are for whoever reads it. */
static int write_merged(const moda_cli_args *args, const moda_cli_view *view) {
    moda_error error = {.text = ""};
    const moda_report_options *const filters = &view->report;
    if (filters->keep_count + filters->drop_count + filters->hide_count > 0 || view->has_names) {
        moda_cli_misuse(
            args, "a profile keeps all sites, by address: filters and names are for `mod-alloc report`, or"
                  " for another --format");
    }
    if (strcmp(view->output, "-") == 0 && isatty(STDOUT_FILENO)) {
        moda_cli_misuse(args, "a profile is not for a terminal: name a file with --output");
    }
    moda_profile *const profile = moda_cli_read_profiles(args, args->operand, (size_t)args->operand_count);
    if (!moda_cli_write_profile(view->output, profile, &error)) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s", error.text);
    }
    moda_profile_free(profile);
    return MODA_CLI_DONE;
}

int moda_cli_merge(int argc, char **argv) {
    moda_cli_args args = moda_cli_args_begin(MODA_CLI_COMMAND_merge, argc, argv);
    moda_cli_view view;
    moda_cli_view_begin(&view);
    for (int option; (option = moda_cli_args_next(&args)) >= 0;) {
        moda_cli_view_take(&view, &args, option);
    }
    if (view.output == NULL) {
        moda_cli_misuse(&args, "where to? Name a file with --output");
    }
    if (args.operand_count == 0) {
        moda_cli_misuse(&args, "which profiles?");
    }
    const bool is_profile = strcmp(moda_cli_view_format(&view, "profile"), "profile") == 0;
    return is_profile ? write_merged(&args, &view) : write_profiles(&args, &view, NULL);
}
