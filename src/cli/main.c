/* SPDX-License-Identifier: MIT
 *
 * main.c - the table of commands, and what mod-alloc does without one.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "mod_alloc.h"

typedef int command_function(int argc, char **argv);

#define CLI_COMMAND(name, synopsis, operands, summary) command_function moda_cli_##name;
#include "cli/commands.def"
#undef CLI_COMMAND

static command_function *const command_table[MODA_CLI_COMMANDS] = {
#define CLI_COMMAND(name, synopsis, operands, summary) [MODA_CLI_COMMAND_##name] = moda_cli_##name,
#include "cli/commands.def"
#undef CLI_COMMAND
};

#define TEXT(x) #x
#define VALUE(x) TEXT(x)
static const char version[] =
    VALUE(MOD_ALLOC_VERSION_MAJOR) "." VALUE(MOD_ALLOC_VERSION_MINOR) "." VALUE(MOD_ALLOC_VERSION_PATCH);

static int find_command(const char *name) {
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        if (strcmp(moda_cli_command_table[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static void print_usage(void) {
    puts("Usage: mod-alloc COMMAND [OPTION...] [ARGUMENT...]\n"
         "Which code allocates, how often, how much, and what is left.\n\nCommands:");
    moda_cli_print_commands(stdout);
    puts("\n  mod-alloc COMMAND --help   shows a command's options\n"
         "  mod-alloc --version        shows the version\n\n"
         "Example:\n"
         "  mod-alloc run -- python3 -c 'print(sum(range(1000)))'\n\n"
         "Exit status: 0 done; 1 trouble found (a leak gate tripped, a difference over the limit);\n"
         "2 wrong arguments or an unreadable file. `run` passes on the program's own status.");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        moda_cli_misuse(NULL, "which command?");
    }
    const char *const word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("mod-alloc %s\n", version);
        return moda_cli_finish(MODA_CLI_DONE);
    }
    const bool is_help = strcmp(word, "help") == 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (is_help && argc == 2)) {
        print_usage();
        return moda_cli_finish(MODA_CLI_DONE);
    }
    const char *const name = is_help ? argv[2] : word;
    const int command = find_command(name);
    if (command < 0) {
        moda_cli_misuse(NULL, "'%s': there is no such %s", name, name[0] == '-' ? "option" : "command");
    }
    if (is_help) {
        moda_cli_print_help(stdout, (moda_cli_command_id)command);
        return moda_cli_finish(MODA_CLI_DONE);
    }
    return moda_cli_finish(command_table[command](argc - 1, argv + 1));
}
