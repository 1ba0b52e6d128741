/* SPDX-License-Identifier: MIT
 *
 * tables.c - the lists of commands.def, options.def and base/options.def as arrays.
 *
 * Read by args.c (getopt and --help) and by docs.c, which writes the man page and the completions.
 */
#include "cli/cli.h"

const moda_cli_command_row moda_cli_command_table[MODA_CLI_COMMANDS] = {
#define CLI_COMMAND(name, synopsis, operands, summary)                                                       \
    [MODA_CLI_COMMAND_##name] = {#name, synopsis, MODA_CLI_##operands, summary},
#include "cli/commands.def"
#undef CLI_COMMAND
};

enum {
#define OPTION(field, name, kind, initial, minimum, maximum, argument, help) VARIABLE_##field,
#include "base/options.def"
#undef OPTION
    VARIABLES
};

const moda_cli_variable moda_cli_variable_table[] = {
#define OPTION(field, name, kind, initial, minimum, maximum, argument, help)                                 \
    [VARIABLE_##field] = {name, MODA_CLI_VARIABLE_##kind, initial, minimum, maximum, argument, help},
#include "base/options.def"
#undef OPTION
};
const size_t moda_cli_variable_count = VARIABLES;

static const moda_cli_option_row option_table[MODA_CLI_OPTIONS] = {
#define CLI_SECTION(command_, id_, title_)                                                                   \
    [MODA_CLI_OPTION_##command_##_##id_] = {.command = MODA_CLI_COMMAND_##command_, .help = title_},
#define CLI_OPTION(command_, id_, name_, letter_, argument_, complete_, help_)                               \
    [MODA_CLI_OPTION_##command_##_##id_] = {.command = MODA_CLI_COMMAND_##command_,                          \
                                            .name = name_,                                                   \
                                            .letter = letter_,                                               \
                                            .argument = argument_,                                           \
                                            .complete = MODA_CLI_##complete_,                                \
                                            .help = help_},
#define CLI_VARIABLE(command_, field_, name_, letter_)                                                       \
    [MODA_CLI_OPTION_##command_##_##field_] = {.command = MODA_CLI_COMMAND_##command_,                       \
                                               .name = name_,                                                \
                                               .letter = letter_,                                            \
                                               .variable = &moda_cli_variable_table[VARIABLE_##field_]},
#include "cli/options.def"
#undef CLI_SECTION
#undef CLI_OPTION
#undef CLI_VARIABLE
};

moda_cli_option_row moda_cli_option(moda_cli_option_id id) {
    moda_cli_option_row row = option_table[id];
    if (row.variable == NULL) {
        return row;
    }
    row.argument = row.variable->argument;
    row.help = row.variable->help;
    switch (row.variable->kind) {
    case MODA_CLI_VARIABLE_bytes: row.complete = MODA_CLI_bytes; break;
    case MODA_CLI_VARIABLE_count: row.complete = MODA_CLI_number; break;
    case MODA_CLI_VARIABLE_choice: row.complete = MODA_CLI_choice; break;
    case MODA_CLI_VARIABLE_path: row.complete = MODA_CLI_file; break;
    case MODA_CLI_VARIABLE_time: row.complete = MODA_CLI_text; break;
    }
    return row;
}
