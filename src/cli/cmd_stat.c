/* SPDX-License-Identifier: MIT
 *
 * cmd_stat.c - `mod-alloc stat`: the counters of a profile, or of a running program.
 */
#include "cli/cli.h"
#include "cli/print_stats.h"
#include "cli/view.h"

int moda_cli_stat(int argc, char **argv) {
    moda_cli_args args = moda_cli_args_begin(MODA_CLI_COMMAND_stat, argc, argv);
    const char *json_path = NULL;
    for (int option; (option = moda_cli_args_next(&args)) >= 0;) {
        if (option == MODA_CLI_OPTION_stat_json) {
            json_path = args.value;
        }
    }
    if (args.operand_count == 0) {
        moda_cli_misuse(&args, "which profile? A file, or the pid of a running program");
    }
    moda_error error = {.text = ""};
    moda_profile *const profile = moda_cli_read_profiles(&args, args.operand, (size_t)args.operand_count);
    const moda_cli_stats stats = moda_cli_stats_of(profile);
    bool is_written;
    if (json_path != NULL) {
        is_written = moda_cli_write_stats_json(json_path, &stats, &error);
    } else {
        moda_out out;
        moda_out_to_fd(&out, 1, "standard output");
        moda_cli_print_stats(&out, &stats);
        is_written = moda_out_close(&out, &error);
    }
    if (!is_written) {
        moda_cli_fail(&args, MODA_CLI_MISUSE, "%s", error.text);
    }
    moda_profile_free(profile);
    return MODA_CLI_DONE;
}
