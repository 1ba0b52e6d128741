/* SPDX-License-Identifier: MIT
 *
 * cli.h - what the commands of mod-alloc share: the tables of commands and options, the parsing of
 * arguments, messages, and the exit status.
 *
 * Everything here is outside: ordinary C of a single-threaded tool that uses stdio and malloc.
 *
 * A command looks like this:
 *
 *   int moda_cli_stat(int argc, char **argv) {
 *       moda_cli_args args = moda_cli_args_begin(MODA_CLI_COMMAND_stat, argc, argv);
 *       for (int option; (option = moda_cli_args_next(&args)) >= 0;)
 *           switch (option) {
 *           case MODA_CLI_OPTION_stat_json: json_path = args.value; break;
 *           }
 *       // args.operand[0 .. args.operand_count)
 *
 * --help, unknown options and missing values end the process inside moda_cli_args_next.
 */
#ifndef MODA_CLI_CLI_H
#define MODA_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"
#include "cli/words.h"

enum {
    MODA_CLI_DONE = 0,
    MODA_CLI_TROUBLE = 1,          /* a gate tripped: a leak, a difference over the limit */
    MODA_CLI_MISUSE = 2,           /* wrong arguments, or a file that cannot be read */
    MODA_CLI_NOT_EXECUTABLE = 126, /* as env and the shells have it */
    MODA_CLI_NOT_FOUND = 127,
};

/* ---- the tables ---- */

typedef enum moda_cli_command_id {
#define CLI_COMMAND(name, synopsis, operands, summary) MODA_CLI_COMMAND_##name,
#include "cli/commands.def"
#undef CLI_COMMAND
    MODA_CLI_COMMANDS
} moda_cli_command_id;

typedef enum moda_cli_complete {
    MODA_CLI_none,
    MODA_CLI_file,
    MODA_CLI_directory,
    MODA_CLI_choice, /* `argument` is the words, separated by | */
    MODA_CLI_number,
    MODA_CLI_bytes,
    MODA_CLI_text,
    MODA_CLI_program,
    MODA_CLI_files,
    MODA_CLI_pid,
    MODA_CLI_files_or_pid,
} moda_cli_complete;

typedef struct moda_cli_command_row {
    const char *name;
    const char *synopsis;
    moda_cli_complete operands;
    const char *summary;
} moda_cli_command_row;

extern const moda_cli_command_row moda_cli_command_table[MODA_CLI_COMMANDS];

typedef enum moda_cli_option_id {
#define CLI_SECTION(command, id, title) MODA_CLI_OPTION_##command##_##id,
#define CLI_OPTION(command, id, name, letter, argument, complete, help) MODA_CLI_OPTION_##command##_##id,
#define CLI_VARIABLE(command, field, name, letter) MODA_CLI_OPTION_##command##_##field,
#include "cli/options.def"
#undef CLI_SECTION
#undef CLI_OPTION
#undef CLI_VARIABLE
    MODA_CLI_OPTIONS
} moda_cli_option_id;

/* An environment variable of the allocator: a row of base/options.def. */
typedef enum moda_cli_variable_kind {
    MODA_CLI_VARIABLE_bytes,
    MODA_CLI_VARIABLE_count,
    MODA_CLI_VARIABLE_choice,
    MODA_CLI_VARIABLE_path,
    MODA_CLI_VARIABLE_time,
} moda_cli_variable_kind;

typedef struct moda_cli_variable {
    const char *name; /* MOD_ALLOC_... */
    moda_cli_variable_kind kind;
    uint64_t initial, minimum, maximum;
    const char *argument;
    const char *help;
} moda_cli_variable;

extern const moda_cli_variable moda_cli_variable_table[];
extern const size_t moda_cli_variable_count;

typedef struct moda_cli_option_row {
    const char *name;     /* NULL: `help` is the title of the section that begins here */
    const char *argument; /* NULL = takes none */
    const char *help;
    const moda_cli_variable *variable; /* the option sets this variable for the program; or NULL */
    moda_cli_command_id command;
    moda_cli_complete complete;
    char letter; /* 0 = none */
} moda_cli_option_row;

/* Row of an option; one that stands for a variable has the variable's argument and help. */
moda_cli_option_row moda_cli_option(moda_cli_option_id id);

/* ---- arguments ---- */

typedef struct moda_cli_args {
    moda_cli_command_id command;
    int argc;
    char **argv;
    const char *value; /* of the option last returned; NULL if it takes none */
    char **operand;    /* after the last option: what is not an option */
    int operand_count;
} moda_cli_args;

moda_cli_args moda_cli_args_begin(moda_cli_command_id command, int argc, char **argv);

/* The next option's id (MODA_CLI_OPTION_command_id), or -1 after the last. */
int moda_cli_args_next(moda_cli_args *args);

/* Values of options. Each ends the process with MODA_CLI_MISUSE and says why where the text is wrong.
 * `option` is the id that moda_cli_args_next returned. */
uint64_t moda_cli_args_number(const moda_cli_args *args, int option, uint64_t minimum, uint64_t maximum);
uint64_t moda_cli_args_bytes(const moda_cli_args *args, int option); /* suffixes K M G T, 1024-based */
size_t moda_cli_args_choice(const moda_cli_args *args, int option);  /* index into the row's words */
/* Checks the value against the row's variable and sets it in the environment. */
void moda_cli_args_set_variable(const moda_cli_args *args, int option);

bool moda_cli_parse_bytes(const char *text, uint64_t *bytes);
bool moda_cli_parse_number(const char *text, uint64_t *number);

/* ---- messages: one line on stderr, "mod-alloc COMMAND: ..." ---- */

/* The last of what is on standard output goes out; where it cannot, that is said, and a status of 0 becomes MODA_CLI_MISUSE. */
int moda_cli_finish(int status);
/* Ends with MODA_CLI_MISUSE, after a second line that points to --help. */
MODA_NORETURN void moda_cli_misuse(const moda_cli_args *args, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Ends with `status`. */
MODA_NORETURN void moda_cli_fail(const moda_cli_args *args, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void moda_cli_say(const moda_cli_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- help ---- */

void moda_cli_print_help(FILE *out, moda_cli_command_id command);
void moda_cli_print_commands(FILE *out);
/* An option's help, with the default and the variable where it stands for one, and with the words to choose
 * from where they are too many for the place beside its name; there its argument is "WORD". */
void moda_cli_option_help(const moda_cli_option_row *row, char *text, size_t size);
const char *moda_cli_option_argument(const moda_cli_option_row *row);
/* Words wrapped at `width` columns, each line but the first indented. */
void moda_cli_print_wrapped(FILE *out, const char *text, int indent, int width);

#endif
