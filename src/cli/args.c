/* SPDX-License-Identifier: MIT
 *
 * args.c - options by getopt_long, from the tables; help and messages.
 *
 * Called by main.c and by each command, once. Ends the process where arguments are wrong: one line that
 * says what, one that says where to look, status 2.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* What getopt_long returns for a long option: above every letter. */
enum { LONG = 256, HELP = LONG + MODA_CLI_OPTIONS };
enum { OPTION_MAX = 64, LINE_WIDTH = 80, HELP_COLUMN = 26 };

/* ---- messages ---- */

static const char *name_of(const moda_cli_args *args) {
    return moda_cli_command_table[args->command].name;
}

enum { MESSAGE = 4096 }; /* a longer one is cut */

static void print_line(const moda_cli_args *args, const char *text) {
    fflush(stdout);
    fprintf(stderr, "mod-alloc%s%s: %s\n", args != NULL ? " " : "", args != NULL ? name_of(args) : "", text);
}

void moda_cli_say(const moda_cli_args *args, const char *format, ...) {
    char text[MESSAGE];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    print_line(args, text);
}

void moda_cli_fail(const moda_cli_args *args, int status, const char *format, ...) {
    char text[MESSAGE];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    print_line(args, text);
    exit(status);
}

void moda_cli_misuse(const moda_cli_args *args, const char *format, ...) {
    char text[MESSAGE];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    print_line(args, text);
    fprintf(stderr, "Try 'mod-alloc %s%s--help'.\n", args != NULL ? name_of(args) : "",
            args != NULL ? " " : "");
    exit(MODA_CLI_MISUSE);
}

int moda_cli_finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "mod-alloc: standard output: cannot be written: %s\n", strerror(errno));
        return status == MODA_CLI_DONE ? MODA_CLI_MISUSE : status;
    }
    return status;
}

/* ---- parsing ---- */

moda_cli_args moda_cli_args_begin(moda_cli_command_id command, int argc, char **argv) {
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    return (moda_cli_args){.command = command, .argc = argc, .argv = argv};
}

static bool is_option_of(moda_cli_command_id command, int id, moda_cli_option_row *row) {
    *row = moda_cli_option((moda_cli_option_id)id);
    return row->command == command && row->name != NULL;
}

static int option_of_letter(moda_cli_command_id command, int letter) {
    for (int id = 0; id < MODA_CLI_OPTIONS; id++) {
        moda_cli_option_row row;
        if (is_option_of(command, id, &row) && row.letter == letter) {
            return LONG + id;
        }
    }
    return letter;
}

static int next_option(const moda_cli_args *args) {
    struct option options[OPTION_MAX] = {{.name = "help", .val = HELP}};
    size_t count = 1, length = 0;
    char letters[2 * OPTION_MAX + 4];
    /* Options end at the program's name: what follows is the program's. Elsewhere they may stand anywhere. */
    if (moda_cli_command_table[args->command].operands == MODA_CLI_program) {
        letters[length++] = '+';
    }
    letters[length++] = ':';
    letters[length++] = 'h';
    for (int id = 0; id < MODA_CLI_OPTIONS && count + 1 < OPTION_MAX; id++) {
        moda_cli_option_row row;
        if (!is_option_of(args->command, id, &row)) {
            continue;
        }
        options[count++] = (struct option){
            .name = row.name, .has_arg = row.argument ? required_argument : no_argument, .val = LONG + id};
        if (row.letter != 0) {
            letters[length++] = row.letter;
            if (row.argument != NULL) {
                letters[length++] = ':';
            }
        }
    }
    letters[length] = '\0';
    return getopt_long(args->argc, args->argv, letters, options, NULL);
}

MODA_NORETURN static void misuse_of_option(const moda_cli_args *args, bool value_is_missing) {
    const char *const text = args->argv[optind > 0 ? optind - 1 : 0];
    const int id = optopt < LONG ? option_of_letter(args->command, optopt) : optopt;
    if (value_is_missing && id >= LONG && id < HELP) {
        const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)(id - LONG));
        moda_cli_misuse(args, "--%s needs a value: %s", row.name, row.argument);
    }
    if (optopt >= LONG) {
        moda_cli_misuse(args, "'%s': this option takes no value", text);
    }
    if (optopt != 0) {
        moda_cli_misuse(args, "there is no option -%c", optopt);
    }
    moda_cli_misuse(args, "'%s': there is no such option, or it stands for several", text);
}

int moda_cli_args_next(moda_cli_args *args) {
    int result = next_option(args);
    if (result == ':' || result == '?') {
        misuse_of_option(args, result == ':');
    }
    if (result == 'h' || result == HELP) {
        moda_cli_print_help(stdout, args->command);
        exit(moda_cli_finish(MODA_CLI_DONE));
    }
    if (result < 0) {
        args->operand = args->argv + optind;
        args->operand_count = args->argc - optind;
        return -1;
    }
    if (result < LONG) {
        result = option_of_letter(args->command, result);
    }
    args->value = optarg;
    return result - LONG;
}

/* ---- values ---- */

bool moda_cli_parse_number(const char *text, uint64_t *number) {
    char *end;
    if (!isdigit((unsigned char)text[0])) {
        return false; /* strtoull would take blanks and a minus sign */
    }
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 0);
    *number = value;
    return errno == 0 && *end == '\0';
}

/* What a suffix multiplies by; 0 = it is none. */
static uint64_t bytes_factor(const char *suffix) {
    static const struct {
        const char *suffix;
        unsigned shift;
    } table[] = {{"", 0}, {"B", 0}, {"K", 10}, {"M", 20}, {"G", 30}, {"T", 40}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const size_t length = strlen(table[i].suffix);
        if (strncasecmp(suffix, table[i].suffix, length) != 0) {
            continue;
        }
        const char *const rest = suffix + length;
        if (*rest == '\0'
            || (table[i].shift != 0 && (strcasecmp(rest, "B") == 0 || strcasecmp(rest, "iB") == 0))) {
            return (uint64_t)1 << table[i].shift;
        }
    }
    return 0;
}

bool moda_cli_parse_bytes(const char *text, uint64_t *bytes) {
    const size_t digits = strspn(text, "0123456789");
    char number[24];
    uint64_t value;
    if (digits == 0 || digits >= sizeof number) {
        return false;
    }
    memcpy(number, text, digits);
    number[digits] = '\0';
    errno = 0;
    value = strtoull(number, NULL, 10);
    const uint64_t factor = bytes_factor(text + digits);
    return errno == 0 && factor != 0 && !__builtin_mul_overflow(value, factor, bytes);
}

static bool parse_time(const char *text, uint64_t *nanoseconds) {
    static const struct {
        const char *suffix;
        uint64_t factor;
    } table[] = {{"ns", 1}, {"us", 1000}, {"", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 19) {
        return false;
    }
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(text + digits, table[i].suffix) == 0) {
            return !__builtin_mul_overflow(strtoull(text, NULL, 10), table[i].factor, nanoseconds);
        }
    }
    return false;
}

uint64_t moda_cli_args_number(const moda_cli_args *args, int option, uint64_t minimum, uint64_t maximum) {
    const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)option);
    uint64_t number;
    if (!moda_cli_parse_number(args->value, &number) || number < minimum || number > maximum) {
        if (maximum == UINT64_MAX) {
            moda_cli_misuse(args, "--%s: '%s' is not a number from %" PRIu64 " up", row.name, args->value,
                            minimum);
        }
        moda_cli_misuse(args, "--%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, row.name,
                        args->value, minimum, maximum);
    }
    return number;
}

uint64_t moda_cli_args_bytes(const moda_cli_args *args, int option) {
    const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)option);
    uint64_t bytes;
    if (!moda_cli_parse_bytes(args->value, &bytes)) {
        moda_cli_misuse(args, "--%s: '%s' is not a number of bytes, such as 4096, 512K or 2M", row.name,
                        args->value);
    }
    return bytes;
}

static bool find_word(const char *words, const char *word, size_t *index) {
    const size_t length = strlen(word);
    for (*index = 0;; ++*index) {
        const size_t end = strcspn(words, "|");
        if (end == length && memcmp(words, word, length) == 0) {
            return true;
        }
        if (words[end] == '\0') {
            return false;
        }
        words += end + 1;
    }
}

size_t moda_cli_args_choice(const moda_cli_args *args, int option) {
    const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)option);
    size_t index;
    if (!find_word(row.argument, args->value, &index)) {
        moda_cli_misuse(args, "--%s: '%s' is none of %s", row.name, args->value, row.argument);
    }
    return index;
}

void moda_cli_args_set_variable(const moda_cli_args *args, int option) {
    const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)option);
    const moda_cli_variable *const variable = row.variable;
    uint64_t value = variable->minimum;
    switch (variable->kind) {
    case MODA_CLI_VARIABLE_bytes: value = moda_cli_args_bytes(args, option); break;
    case MODA_CLI_VARIABLE_count:
        value = moda_cli_args_number(args, option, variable->minimum, variable->maximum);
        break;
    case MODA_CLI_VARIABLE_choice: value = moda_cli_args_choice(args, option); break;
    case MODA_CLI_VARIABLE_time:
        if (!parse_time(args->value, &value)) {
            moda_cli_misuse(args, "--%s: '%s' is not a time, such as 500, 500us, 10ms or 2s", row.name,
                            args->value);
        }
        break;
    case MODA_CLI_VARIABLE_path: break;
    }
    const bool is_text = variable->kind == MODA_CLI_VARIABLE_path;
    if (!is_text && (value < variable->minimum || value > variable->maximum)) {
        moda_cli_misuse(args, "--%s: '%s' is outside %" PRIu64 " to %" PRIu64, row.name, args->value,
                        variable->minimum, variable->maximum);
    }
    if (setenv(variable->name, args->value, 1) != 0) {
        moda_cli_fail(args, MODA_CLI_MISUSE, "%s: %s", variable->name, strerror(errno));
    }
}

/* ---- help ---- */

void moda_cli_print_wrapped(FILE *out, const char *text, int indent, int width) {
    int column = indent;
    const char *gap = "";
    while (*text != '\0') {
        const int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > width) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
            gap = "";
        }
        fprintf(out, "%s%.*s", gap, length, text);
        column += length + (int)strlen(gap);
        gap = " ";
        text += length;
        text += *text == ' ';
    }
    fputc('\n', out);
}

/* Many words to choose from are shown in the help text: the column is narrow. */
static bool has_long_words(const moda_cli_option_row *row) {
    return row->complete == MODA_CLI_choice && strlen(row->argument) > 14;
}

const char *moda_cli_option_argument(const moda_cli_option_row *row) {
    return row->argument == NULL ? NULL : has_long_words(row) ? "WORD" : row->argument;
}

static void print_option(FILE *out, const moda_cli_option_row *row, const char *help) {
    char shown[128];
    const char short_form[5] = {'-', row->letter, ',', ' ', '\0'};
    const char *const argument = moda_cli_option_argument(row);
    snprintf(shown, sizeof shown, "  %s--%s%s%s", row->letter ? short_form : "    ", row->name,
             argument ? " " : "", argument ? argument : "");
    fputs(shown, out);
    const int length = (int)strlen(shown);
    if (length + 2 > HELP_COLUMN) {
        fprintf(out, "\n%*s", HELP_COLUMN, "");
    } else {
        fprintf(out, "%*s", HELP_COLUMN - length, "");
    }
    moda_cli_print_wrapped(out, help, HELP_COLUMN, LINE_WIDTH);
}

static void print_initial(char *text, size_t size, const moda_cli_variable *variable) {
    const uint64_t value = variable->initial;
    if (variable->kind == MODA_CLI_VARIABLE_choice) {
        const char *word = variable->argument;
        for (uint64_t i = 0; i < value && strchr(word, '|') != NULL; i++) {
            word = strchr(word, '|') + 1;
        }
        snprintf(text, size, "%.*s", (int)strcspn(word, "|"), word);
    } else if (variable->kind == MODA_CLI_VARIABLE_bytes && value % 1048576 == 0 && value != 0) {
        snprintf(text, size, "%" PRIu64 "M", value / 1048576);
    } else if (variable->kind == MODA_CLI_VARIABLE_bytes && value % 1024 == 0 && value != 0) {
        snprintf(text, size, "%" PRIu64 "K", value / 1024);
    } else if (variable->kind == MODA_CLI_VARIABLE_time && value % 1000000 == 0) {
        snprintf(text, size, "%" PRIu64 "ms", value / 1000000);
    } else {
        snprintf(text, size, "%" PRIu64, value);
    }
}

void moda_cli_option_help(const moda_cli_option_row *row, char *text, size_t size) {
    int length = snprintf(text, size, "%s", row->help);
    if (row->variable != NULL) {
        char initial[64];
        print_initial(initial, sizeof initial, row->variable);
        length += snprintf(text + length, size - (size_t)length, "; default %s, or %s", initial,
                           row->variable->name);
    }
    if (has_long_words(row)) {
        length += snprintf(text + length, size - (size_t)length, "; WORD is ");
        for (const char *word = row->argument; *word != '\0' && length + 3 < (int)size; word++) {
            const char letter[2] = {*word, '\0'};
            length += snprintf(text + length, size - (size_t)length, "%s", *word == '|' ? ", " : letter);
        }
    }
}

void moda_cli_print_help(FILE *out, moda_cli_command_id command) {
    const moda_cli_command_row *const row = &moda_cli_command_table[command];
    fprintf(out, "Usage: mod-alloc %s %s\n", row->name, row->synopsis);
    fprintf(out, "%c%s.\n", toupper((unsigned char)row->summary[0]), row->summary + 1);
    for (int id = 0; id < MODA_CLI_OPTIONS; id++) {
        const moda_cli_option_row option = moda_cli_option((moda_cli_option_id)id);
        if (option.command != command) {
            continue;
        }
        if (option.name == NULL) {
            fprintf(out, "\n%s:\n", option.help);
            continue;
        }
        char help[1024];
        moda_cli_option_help(&option, help, sizeof help);
        print_option(out, &option, help);
    }
    fputc('\n', out);
    print_option(out, &(moda_cli_option_row){.name = "help", .letter = 'h'}, "show this text");
    fprintf(out, "\nMore in mod-alloc(1).\n");
}

void moda_cli_print_commands(FILE *out) {
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        fprintf(out, "  %-10s", moda_cli_command_table[i].name);
        moda_cli_print_wrapped(out, moda_cli_command_table[i].summary, 12, LINE_WIDTH);
    }
}
