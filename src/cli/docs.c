/* SPDX-License-Identifier: MIT
 *
 * docs.c - a program of the build: writes man pages and shell completions from the tables that --help is
 * printed from, and the API's man page from the public header.
 *
 *   docs man TEMPLATE       lines @...@ of the template filled in
 *   docs api NAME HEADER    comments as text, declarations as code
 *   docs bash | docs zsh    completions
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "mod_alloc.h"

#define TEXT(x) #x
#define VALUE(x) TEXT(x)
static const char version[] =
    VALUE(MOD_ALLOC_VERSION_MAJOR) "." VALUE(MOD_ALLOC_VERSION_MINOR) "." VALUE(MOD_ALLOC_VERSION_PATCH);

MODA_NORETURN static void give_up(const char *what) {
    fprintf(stderr, "docs: %s: %s\n", what, strerror(errno));
    exit(MODA_CLI_MISUSE);
}

static FILE *open_file(const char *path) {
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        give_up(path);
    }
    return file;
}

/* ---- roff ---- */

/* man(7): a backslash, a dash that is to be copied, and a line's first dot are written otherwise. */
static void put_roff(const char *text) {
    if (*text == '.' || *text == '\'') {
        fputs("\\&", stdout);
    }
    for (; *text != '\0'; text++) {
        if (*text == '\\') {
            fputs("\\e", stdout);
        } else if (*text == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*text);
        }
    }
}

static void put_line(const char *text) {
    put_roff(text);
    putchar('\n');
}

static void man_synopsis(void) {
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        if (i > 0) {
            puts(".br");
        }
        printf(".B mod\\-alloc %s\n", moda_cli_command_table[i].name);
        put_line(moda_cli_command_table[i].synopsis);
    }
}

static void put_capital(const char *text) {
    putchar(toupper((unsigned char)text[0]));
    put_roff(text + 1);
    puts(".");
}

static void man_commands(void) {
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        printf(".TP\n.B %s\n", moda_cli_command_table[i].name);
        put_capital(moda_cli_command_table[i].summary);
    }
}

static void man_option(const moda_cli_option_row *row) {
    char help[1024];
    moda_cli_option_help(row, help, sizeof help);
    fputs(".TP\n\\fB", stdout);
    if (row->letter != 0) {
        printf("\\-%c\\fR, \\fB", row->letter);
    }
    fputs("\\-\\-", stdout);
    put_roff(row->name);
    fputs("\\fR", stdout);
    if (row->argument != NULL) {
        fputs(" \\fI", stdout);
        put_roff(moda_cli_option_argument(row));
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put_capital(help);
}

static void man_options(void) {
    for (int command = 0; command < MODA_CLI_COMMANDS; command++) {
        printf(".SS Options of %s\n", moda_cli_command_table[command].name);
        for (int id = 0; id < MODA_CLI_OPTIONS; id++) {
            const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)id);
            if (row.command != (moda_cli_command_id)command) {
                continue;
            }
            if (row.name == NULL) {
                printf(".PP\n.I ");
                put_line(row.help);
            } else {
                man_option(&row);
            }
        }
    }
}

static void man_environment(void) {
    for (size_t i = 0; i < moda_cli_variable_count; i++) {
        const moda_cli_variable *const variable = &moda_cli_variable_table[i];
        printf(".TP\n\\fB%s\\fR=\\fI", variable->name);
        put_roff(variable->argument);
        puts("\\fR");
        put_capital(variable->help);
    }
}

static void print_man(const char *template) {
    static const struct {
        const char *mark;
        void (*print)(void);
    } marks[] = {{"@SYNOPSIS@\n", man_synopsis},
                 {"@COMMANDS@\n", man_commands},
                 {"@OPTIONS@\n", man_options},
                 {"@ENVIRONMENT@\n", man_environment}};
    FILE *const file = open_file(template);
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) >= 0) {
        bool is_mark = false;
        for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
            if (strcmp(line, marks[i].mark) == 0) {
                marks[i].print();
                is_mark = true;
            }
        }
        char *const at = strstr(line, "@VERSION@");
        if (at != NULL) {
            printf("%.*s%s%s", (int)(at - line), line, version, at + strlen("@VERSION@"));
        } else if (!is_mark) {
            fputs(line, stdout);
        }
    }
    free(line);
    fclose(file);
}

/* ---- the API's page ---- */

typedef enum part { NO_PART, TEXT_PART, LABEL_PART, TABLE_PART, CODE_PART } part;

static void enter(part *now, part next) {
    if (*now == next) {
        return;
    }
    if (*now == TABLE_PART || *now == CODE_PART) {
        puts(".EE\n.RE");
    }
    if (next == TABLE_PART || next == CODE_PART) {
        puts(".PP\n.RS\n.EX");
    } else if (next == TEXT_PART) {
        puts(".PP");
    }
    *now = next;
}

/* "Threads      every function ...": the length of the label, or 0. */
static size_t label_length(const char *line) {
    const char *const gap = strstr(line, "   ");
    return gap != NULL && gap > line && gap - line < 16 ? (size_t)(gap - line) : 0;
}

static void api_heading(part *now, const char *line) {
    const size_t title = strcspn(line, ":.");
    enter(now, NO_PART);
    printf(".SH \"%.*s\"\n", (int)title, line);
    line += title + (line[title] != '\0');
    line += strspn(line, " ");
    if (*line != '\0') {
        enter(now, TEXT_PART);
        putchar(toupper((unsigned char)*line));
        put_line(line + 1);
    }
}

/* One line of a comment, without its frame: prose, a label with its text, or what is laid out by hand. */
static void api_comment(part *now, char *line, bool *is_heading) {
    char *const end = strstr(line, "*/");
    if (end != NULL) {
        *end = '\0';
    }
    line += strspn(line, line[0] == '/' ? "/*" : " ");
    line += *line == '*';
    line += *line == ' ';
    for (size_t n = strlen(line); n > 0 && line[n - 1] == ' '; n--) {
        line[n - 1] = '\0';
    }
    const size_t indent = strspn(line, " "), label = indent == 0 ? label_length(line) : 0;
    if (line[0] == '-' && line[strspn(line, "-")] == '\0') {
        *is_heading = true;
    } else if (line[0] == '\0') {
        enter(now, NO_PART);
    } else if (*is_heading) {
        *is_heading = false;
        api_heading(now, line);
    } else if (label > 0) {
        enter(now, LABEL_PART);
        printf(".TP 14\n%.*s\n", (int)label, line);
        put_line(line + label + strspn(line + label, " "));
    } else if (*now == LABEL_PART && indent >= 6) {
        put_line(line + indent);
    } else {
        enter(now, indent > 0 ? TABLE_PART : TEXT_PART);
        put_line(line);
    }
}

static void print_api(const char *name, const char *path) {
    FILE *const file = open_file(path);
    char *line = NULL;
    size_t size = 0;
    bool in_comment = false, is_heading = false, is_head = true;
    part now = NO_PART;
    printf(".TH %s 3 \"\" \"mod\\-alloc %s\" \"Library Functions\"\n.SH NAME\n%s \\- ", name, version, name);
    while (getline(&line, &size, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        if (is_head) { /* " * name.h - what it is." */
            char *const dash = strstr(line, " - ");
            if (dash != NULL) {
                dash[3 + strcspn(dash + 3, ".")] = '\0';
                put_line(dash + 3);
                printf(".SH SYNOPSIS\n.B #include <%s.h>\n.SH DESCRIPTION\n", name);
                is_head = false;
                in_comment = true;
            }
            continue;
        }
        if (!in_comment && strncmp(line, "/*", 2) == 0) {
            enter(&now, NO_PART);
            in_comment = true;
        }
        if (in_comment) {
            in_comment = strstr(line, "*/") == NULL;
            api_comment(&now, line, &is_heading);
            continue;
        }
        static const char exported[] = "MOD_ALLOC_EXPORT ";
        const char *code = line;
        if (line[0] == '#' || strncmp(line, "extern \"C\"", 10) == 0 || strcmp(line, "}") == 0) {
            enter(&now, NO_PART);
            continue;
        }
        if (strncmp(code, exported, sizeof exported - 1) == 0) {
            code += sizeof exported - 1;
        }
        if (code[0] != '\0') {
            enter(&now, CODE_PART);
            put_line(code);
        }
    }
    enter(&now, NO_PART);
    puts(".SH SEE ALSO\n.BR mod\\-alloc (1),\n.BR malloc (3)");
    free(line);
    fclose(file);
}

/* ---- bash ---- */

static const char bash_head[] =
    "# bash completion for mod-alloc, made from its tables of commands and options.\n\n";

/* The last piece: the same for every table. */
static const char bash_tail[] =
    "_mod_alloc_pids() {\n"
    "    local map pids=\n"
    "    for map in /proc/[0-9]*/maps; do\n"
    "        grep -q libmod_alloc \"$map\" 2>/dev/null && pids+=\" ${map//[!0-9]/}\"\n"
    "    done\n"
    "    echo \"$pids\"\n"
    "}\n\n"
    "_mod_alloc_complete() { # by kind\n"
    "    case $1 in\n"
    "    words*) mapfile -t COMPREPLY < <(compgen -W \"${1#words}\" -- \"$2\") ;;\n"
    "    directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$2\") ;;\n"
    "    file | files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$2\") ;;\n"
    "    pid) mapfile -t COMPREPLY < <(compgen -W \"$(_mod_alloc_pids)\" -- \"$2\") ;;\n"
    "    files_or_pid)\n"
    "        compopt -o filenames\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$2\"; compgen -W \"$(_mod_alloc_pids)\" -- \"$2\") ;;\n"
    "    esac\n"
    "}\n\n"
    "_mod_alloc_program() { # the program's own completion, from word $1 on\n"
    "    if declare -F _command_offset >/dev/null; then\n"
    "        _command_offset \"$1\"\n"
    "    elif ((COMP_CWORD == $1)); then\n"
    "        mapfile -t COMPREPLY < <(compgen -c -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
    "    else\n"
    "        _mod_alloc_complete files \"${COMP_WORDS[COMP_CWORD]}\"\n"
    "    fi\n"
    "}\n\n"
    "_mod_alloc() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} kind i\n"
    "    COMPREPLY=()\n"
    "    if ((COMP_CWORD == 1)); then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$_mod_alloc_commands help --help --version\" -- \"$cur\")\n"
    "        return\n"
    "    fi\n"
    "    if [[ $(_mod_alloc_operands \"$command\") == program ]]; then\n"
    "        for ((i = 2; i <= COMP_CWORD; i++)); do\n"
    "            if ((i < COMP_CWORD)) && [[ ${COMP_WORDS[i]} == -- ]]; then\n"
    "                _mod_alloc_program $((i + 1))\n"
    "                return\n"
    "            elif [[ ${COMP_WORDS[i]} != -* ]]; then\n"
    "                _mod_alloc_program $i\n"
    "                return\n"
    "            elif [[ $(_mod_alloc_value \"$command\" \"${COMP_WORDS[i]}\") ]]; then\n"
    "                ((i++))\n"
    "            fi\n"
    "        done\n"
    "    fi\n"
    "    kind=$(_mod_alloc_value \"$command\" \"$prev\")\n"
    "    if [[ $kind ]]; then\n"
    "        _mod_alloc_complete \"$kind\" \"$cur\"\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$(_mod_alloc_options \"$command\") --help\" -- \"$cur\")\n"
    "    else\n"
    "        _mod_alloc_complete \"$(_mod_alloc_operands \"$command\")\" \"$cur\"\n"
    "    fi\n"
    "}\n\n"
    "complete -F _mod_alloc mod-alloc\n";

static const char *const kind_names[] = {
    [MODA_CLI_none] = "none",
    [MODA_CLI_file] = "file",
    [MODA_CLI_directory] = "directory",
    [MODA_CLI_choice] = "words",
    [MODA_CLI_number] = "nothing",
    [MODA_CLI_bytes] = "nothing",
    [MODA_CLI_text] = "nothing",
    [MODA_CLI_program] = "program",
    [MODA_CLI_files] = "files",
    [MODA_CLI_pid] = "pid",
    [MODA_CLI_files_or_pid] = "files_or_pid",
};

static void put_words(const char *words) {
    for (; *words != '\0'; words++) {
        putchar(*words == '|' ? ' ' : *words);
    }
}

static void bash_options(void) {
    puts("_mod_alloc_options() { # of command $1\n    case $1 in");
    for (int command = 0; command < MODA_CLI_COMMANDS; command++) {
        printf("    %s) echo '", moda_cli_command_table[command].name);
        for (int id = 0; id < MODA_CLI_OPTIONS; id++) {
            const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)id);
            if (row.command == (moda_cli_command_id)command && row.name != NULL) {
                printf("--%s ", row.name);
            }
        }
        puts("' ;;");
    }
    puts("    esac\n}\n");
}

static void bash_values(void) {
    puts(
        "_mod_alloc_value() { # what option $2 of command $1 takes; nothing is printed for one without value\n"
        "    case \"$1 $2\" in");
    for (int id = 0; id < MODA_CLI_OPTIONS; id++) {
        const moda_cli_option_row row = moda_cli_option((moda_cli_option_id)id);
        if (row.name == NULL || row.argument == NULL) {
            continue;
        }
        const char *const command = moda_cli_command_table[row.command].name;
        printf("    '%s --%s'", command, row.name);
        if (row.letter != 0) {
            printf(" | '%s -%c'", command, row.letter);
        }
        printf(") echo '%s", kind_names[row.complete]);
        if (row.complete == MODA_CLI_choice) {
            putchar(' ');
            put_words(row.argument);
        }
        puts("' ;;");
    }
    puts("    esac\n}\n");
}

static void print_bash(void) {
    fputs(bash_head, stdout);
    fputs("_mod_alloc_commands='", stdout);
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        printf("%s%s", i > 0 ? " " : "", moda_cli_command_table[i].name);
    }
    puts("'\n");
    bash_options();
    bash_values();
    puts("_mod_alloc_operands() { # of command $1\n    case $1 in");
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        printf("    %s) echo %s ;;\n", moda_cli_command_table[i].name,
               kind_names[moda_cli_command_table[i].operands]);
    }
    puts("    esac\n}\n");
    fputs(bash_tail, stdout);
}

/* ---- zsh ---- */

/* Inside '...[here]...' of _arguments. */
static void put_zsh(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
        } else {
            if (strchr("[]:\\", *text) != NULL) {
                putchar('\\');
            }
            putchar(*text);
        }
    }
}

static void zsh_value(const moda_cli_option_row *row) {
    putchar(':');
    put_zsh(row->complete == MODA_CLI_choice ? "word" : row->argument);
    putchar(':');
    switch (row->complete) {
    case MODA_CLI_choice:
        putchar('(');
        put_words(row->argument);
        putchar(')');
        break;
    case MODA_CLI_file: fputs("_files", stdout); break;
    case MODA_CLI_directory: fputs("_files -/", stdout); break;
    default: break;
    }
}

static void zsh_option(const moda_cli_option_row *row, bool is_letter) {
    fputs("            '*", stdout);
    if (is_letter) {
        printf("-%c", row->letter);
    } else {
        printf("--%s", row->name);
    }
    putchar('[');
    put_zsh(row->help);
    putchar(']');
    if (row->argument != NULL) {
        zsh_value(row);
    }
    puts("' \\");
}

static void print_zsh(void) {
    static const char *const operands[] = {
        [MODA_CLI_none] = "'*:argument:'",
        [MODA_CLI_program] = "'(-)1:program:_command_names -e' '*::argument:_normal'",
        [MODA_CLI_files] = "'*:profile:_files'",
        [MODA_CLI_pid] = "'1:process:_pids'",
        [MODA_CLI_files_or_pid] = "'*:profile or process:{_files; _pids}'",
    };
    puts(
        "#compdef mod-alloc\n# zsh completion for mod-alloc, made from its tables of commands and options.\n\n"
        "_mod_alloc() {\n    local context state line curcontext=\"$curcontext\"\n    typeset -A opt_args\n"
        "    _arguments -C '(- *)--help[show how to use it]' '(- *)--version[show the version]' \\\n"
        "        '1:command:->command' '*::argument:->argument' && return\n"
        "    case $state in\n    command)\n        local -a commands=(");
    for (int i = 0; i < MODA_CLI_COMMANDS; i++) {
        printf("            '%s:", moda_cli_command_table[i].name);
        put_zsh(moda_cli_command_table[i].summary);
        puts("'");
    }
    puts("            'help:show the options of a command')\n        _describe command commands ;;\n"
         "    argument)\n        case $words[1] in");
    for (int command = 0; command < MODA_CLI_COMMANDS; command++) {
        const moda_cli_command_row *const row = &moda_cli_command_table[command];
        printf("        %s) _arguments -S -s%s \\\n", row->name,
               row->operands == MODA_CLI_program ? " -A '-*'" : "");
        for (int id = 0; id < MODA_CLI_OPTIONS; id++) {
            const moda_cli_option_row option = moda_cli_option((moda_cli_option_id)id);
            if (option.command != (moda_cli_command_id)command || option.name == NULL) {
                continue;
            }
            zsh_option(&option, false);
            if (option.letter != 0) {
                zsh_option(&option, true);
            }
        }
        printf("            '(- *)'{-h,--help}'[show the options]' %s ;;\n", operands[row->operands]);
    }
    puts("        esac ;;\n    esac\n}\n\n_mod_alloc \"$@\"");
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "man") == 0) {
        print_man(argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "api") == 0) {
        print_api(argv[2], argv[3]);
    } else if (argc == 2 && strcmp(argv[1], "bash") == 0) {
        print_bash();
    } else if (argc == 2 && strcmp(argv[1], "zsh") == 0) {
        print_zsh();
    } else {
        fputs("usage: docs man TEMPLATE | api NAME HEADER | bash | zsh\n", stderr);
        return MODA_CLI_MISUSE;
    }
    return fflush(stdout) == 0 ? MODA_CLI_DONE : MODA_CLI_MISUSE;
}
