/* SPDX-License-Identifier: MIT
 *
 * options.h - the environment variables of options.def, read once, before the first sample.
 *
 * Read by entry/process.c, perhaps in the middle of the program's first malloc: no libc allocation. Paths
 * are copied, since a program may write over its own environment. The parsers also serve the command line.
 */
#ifndef MODA_BASE_OPTIONS_H
#define MODA_BASE_OPTIONS_H

#include "base/compiler.h"

typedef uint64_t moda_option_bytes;
typedef uint64_t moda_option_count;
typedef uint64_t moda_option_choice;  /* index into the words of the argument */
typedef uint64_t moda_option_time;    /* nanoseconds */
typedef const char *moda_option_path; /* NULL = not given */

struct moda_options {
#define OPTION(field, name, kind, initial, minimum, maximum, argument, help) moda_option_##kind field;
#include "base/options.def"
#undef OPTION
};

/* const after moda_options_read. */
extern MODA_HIDDEN struct moda_options moda_options;

/* Sets moda_options: defaults, then what the variables say. `environment` NULL: the process's own. A bad value
 * is told in one line on stderr, with what is used instead; so is a name that begins as ours do, is not in the list, and is
 * within two letters of one that is, or differs from it in case alone: it is ignored. In a set-user-ID program (AT_SECURE)
 * variables that name files are ignored. Keeps errno. */
void moda_options_read(char **environment);

typedef enum moda_option_kind {
    MODA_OPTION_bytes,
    MODA_OPTION_count,
    MODA_OPTION_choice,
    MODA_OPTION_time,
    MODA_OPTION_path
} moda_option_kind;

/* The list itself: for help texts, and for what passes options on as variables. */
typedef struct moda_option {
    const char *name; /* of the variable */
    moda_option_kind kind;
    uint64_t initial, minimum, maximum;
    const char *argument;
    const char *help;
} moda_option;

extern MODA_HIDDEN const moda_option moda_option_list[];
extern MODA_HIDDEN const size_t moda_option_list_length;

/* Parses a value as the option would; false if it has no meaning or is out of the option's range. Not for
 * paths. */
bool moda_option_parse(const moda_option *option, const char *text, uint64_t *value);

/* "4096", "512K", "64M", "1G", "2T"; also "512KiB", "512kb": always 1024-based. */
bool moda_parse_bytes(const char *text, uint64_t *bytes);
bool moda_parse_count(const char *text, uint64_t *count);
/* "250ns", "100us", "5ms", "2s"; a plain number is microseconds. */
bool moda_parse_time(const char *text, uint64_t *ns);
/* Index of `text` in "one|two|three". */
bool moda_parse_choice(const char *words, const char *text, uint64_t *index);

#endif
