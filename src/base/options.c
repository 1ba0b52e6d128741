/* SPDX-License-Identifier: MIT
 *
 * options.c - see options.h. Each row of options.def becomes a field, a row of the list, and a case here.
 */
#include "base/options.h"

#include "base/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PREFIX "MOD_ALLOC_"
#define PREFIX_BYTES (sizeof PREFIX - 1)
#define PATH_BYTES 4096
#define NAME_BYTES 64
#define NEARLY 2       /* letters between a name and the one that was meant */
#define SHOWN_BYTES 80 /* of a bad value */

struct moda_options moda_options;

const moda_option moda_option_list[] = {
#define OPTION(field_, name_, kind_, initial_, minimum_, maximum_, argument_, help_)                         \
    {.name = (name_),                                                                                        \
     .kind = MODA_OPTION_##kind_,                                                                            \
     .initial = (initial_),                                                                                  \
     .minimum = (minimum_),                                                                                  \
     .maximum = (maximum_),                                                                                  \
     .argument = (argument_),                                                                                \
     .help = (help_)},
#include "base/options.def"
#undef OPTION
};
const size_t moda_option_list_length = sizeof moda_option_list / sizeof *moda_option_list;

enum {
#define OPTION(field, name, kind, initial, minimum, maximum, argument, help) INDEX_##field,
#include "base/options.def"
#undef OPTION
    OPTION_COUNT
};

/* Each option's value: written once, by whoever starts the process. */
static union {
    uint64_t number;
    const char *path; /* NULL = not set */
} values[OPTION_COUNT];
_Static_assert(sizeof(uint64_t) == sizeof(char *), "an initial value of 0 is no path");

/* What a path is copied to. Touched only where one is set: untouched memory costs nothing. */
static char paths[OPTION_COUNT][PATH_BYTES];

/* ---- parsers ---- */

static bool parse_digits(const char **text, uint64_t *value) {
    const char *at = *text;
    uint64_t sum = 0;
    if (*at < '0' || *at > '9') {
        return false;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(sum, 10, &sum)
            || __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum)) {
            return false;
        }
    }
    *text = at;
    *value = sum;
    return true;
}

bool moda_parse_count(const char *text, uint64_t *count) {
    return parse_digits(&text, count) && *text == '\0';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool moda_parse_bytes(const char *text, uint64_t *bytes) {
    static const char units[] = "kmgt";
    if (!parse_digits(&text, bytes)) {
        return false;
    }
    const char letter = lower(*text);
    const char *const unit = letter == '\0' ? NULL : strchr(units, letter);
    if (unit != NULL) {
        const unsigned shift = 10u * (unsigned)(unit - units + 1);
        if (*bytes > UINT64_MAX >> shift) {
            return false;
        }
        *bytes <<= shift;
        text++;
        if (lower(text[0]) == 'i' && lower(text[1]) == 'b') {
            text++;
        }
    }
    if (lower(*text) == 'b') {
        text++;
    }
    return *text == '\0';
}

bool moda_parse_time(const char *text, uint64_t *ns) {
    static const struct {
        const char *suffix;
        uint64_t ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    uint64_t number;
    if (!parse_digits(&text, &number)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text, units[i].suffix) == 0) {
            return !__builtin_mul_overflow(number, units[i].ns, ns);
        }
    }
    return false;
}

bool moda_parse_choice(const char *words, const char *text, uint64_t *index) {
    const size_t length = strlen(text);
    *index = 0;
    while (length > 0) {
        const char *const end = strchr(words, '|');
        const size_t word_length = end == NULL ? strlen(words) : (size_t)(end - words);
        if (word_length == length && memcmp(words, text, length) == 0) {
            return true;
        }
        if (end == NULL) {
            break;
        }
        words = end + 1;
        ++*index;
    }
    return false;
}

static bool parse_any(const moda_option *option, const char *text, uint64_t *value) {
    switch (option->kind) {
    case MODA_OPTION_bytes: return moda_parse_bytes(text, value);
    case MODA_OPTION_count: return moda_parse_count(text, value);
    case MODA_OPTION_time: return moda_parse_time(text, value);
    case MODA_OPTION_choice: return moda_parse_choice(option->argument, text, value);
    case MODA_OPTION_path: break;
    }
    return false;
}

bool moda_option_parse(const moda_option *option, const char *text, uint64_t *value) {
    return parse_any(option, text, value) && *value >= option->minimum && *value <= option->maximum;
}

/* ---- bad values and names ---- */

static void put_value(moda_sink *sink, const moda_option *option, uint64_t value) {
    if (option->kind == MODA_OPTION_choice) {
        const char *word = option->argument;
        for (; value > 0; value--) {
            word = strchr(word, '|') + 1;
        }
        moda_sink_bytes(sink, word, strcspn(word, "|"));
        return;
    }
    moda_sink_decimal(sink, value);
    if (option->kind == MODA_OPTION_time) {
        moda_sink_text(sink, "ns");
    }
}

/* A value may hold anything: what would upset a terminal is shown as '?'. */
static void put_foreign(moda_sink *sink, const char *text) {
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (i == SHOWN_BYTES) {
            moda_sink_text(sink, "...");
            break;
        }
        moda_sink_char(sink, text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
    }
}

static void begin_complaint(moda_sink *sink, const moda_option *option, const char *text) {
    moda_sink_text(sink, "mod-alloc: ");
    moda_sink_text(sink, option->name);
    moda_sink_char(sink, '=');
    put_foreign(sink, text);
}

MODA_COLD static void complain_of_number(const moda_option *option, const char *text, const char *why,
                                         uint64_t used) {
    char line[512];
    moda_sink sink;
    moda_sink_to_fd(&sink, STDERR_FILENO, line, sizeof line);
    begin_complaint(&sink, option, text);
    moda_sink_text(&sink, why);
    if (option->kind == MODA_OPTION_choice) {
        moda_sink_text(&sink, option->argument);
    }
    moda_sink_text(&sink, "; using ");
    put_value(&sink, option, used);
    moda_sink_char(&sink, '\n');
    moda_sink_flush(&sink);
}

MODA_COLD static void complain_of_path(const moda_option *option, const char *text) {
    char line[512];
    moda_sink sink;
    moda_sink_to_fd(&sink, STDERR_FILENO, line, sizeof line);
    begin_complaint(&sink, option, text);
    moda_sink_text(&sink, " is longer than a path can be; no file is used\n");
    moda_sink_flush(&sink);
}

MODA_COLD static void complain_of_name(const char *variable, const char *meant) {
    char line[512];
    moda_sink sink;
    moda_sink_to_fd(&sink, STDERR_FILENO, line, sizeof line);
    moda_sink_text(&sink, "mod-alloc: ");
    put_foreign(&sink, variable);
    moda_sink_text(&sink, " is unknown, did you mean ");
    moda_sink_text(&sink, meant);
    moda_sink_text(&sink, "; ignored\n");
    moda_sink_flush(&sink);
}

/* ---- reading ---- */

static void take_number(const moda_option *option, uint64_t *number, const char *text) {
    static const char *const not_a[] = {
        [MODA_OPTION_bytes] = " is not a number of bytes (such as 4096, 512K, 64M, 1G)",
        [MODA_OPTION_count] = " is not a number",
        [MODA_OPTION_time] = " is not a time (such as 250ns, 100us, 5ms, 2s)",
        [MODA_OPTION_choice] = " is not one of ",
    };
    uint64_t value;
    if (!parse_any(option, text, &value)) {
        complain_of_number(option, text, not_a[option->kind], option->initial);
    } else if (value < option->minimum) {
        *number = option->minimum;
        complain_of_number(option, text, " is too small", *number);
    } else if (value > option->maximum) {
        *number = option->maximum;
        complain_of_number(option, text, " is too large", *number);
    } else {
        *number = value;
    }
}

static void take(size_t index, const char *text, bool is_secure) {
    const moda_option *const option = &moda_option_list[index];
    if (option->kind != MODA_OPTION_path) {
        take_number(option, &values[index].number, text);
        return;
    }
    const size_t length = strlen(text);
    if (is_secure) {
        return;
    }
    if (length >= PATH_BYTES) {
        complain_of_path(option, text);
        return;
    }
    memcpy(paths[index], text, length + 1);
    values[index].path = paths[index];
}

/* How many letters changed, added or left out make one of the other; capitals and small ones are the same. More than
 * NEARLY is NEARLY + 1. */
static unsigned letters_between(const char *text, size_t length, const char *name) {
    unsigned char row[NAME_BYTES]; /* of the text so far, to each beginning of the name */
    const size_t name_length = strlen(name);
    if (name_length >= NAME_BYTES || length > name_length + NEARLY || name_length > length + NEARLY) {
        return NEARLY + 1;
    }
    for (size_t k = 0; k <= name_length; k++) {
        row[k] = (unsigned char)k;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char diagonal = row[0];
        row[0] = (unsigned char)(i + 1);
        for (size_t k = 0; k < name_length; k++) {
            unsigned char best = (unsigned char)(diagonal + (lower(text[i]) != lower(name[k])));
            best = row[k] < best ? (unsigned char)(row[k] + 1) : best;
            best = row[k + 1] < best ? (unsigned char)(row[k + 1] + 1) : best;
            diagonal = row[k + 1];
            row[k + 1] = best;
        }
    }
    return row[name_length] <= NEARLY ? row[name_length] : NEARLY + 1;
}

/* A name that is not in the list may be another's, of a build for one; but not where it is nearly one of ours. */
MODA_COLD static void consider_unknown(const char *variable, size_t length) {
    const char *meant = NULL;
    unsigned nearest = NEARLY + 1;
    for (size_t i = 0; i < moda_option_list_length; i++) {
        const char *const name = moda_option_list[i].name;
        const unsigned letters =
            letters_between(variable + PREFIX_BYTES, length - PREFIX_BYTES, name + PREFIX_BYTES);
        if (letters < nearest) {
            nearest = letters;
            meant = name;
        }
    }
    if (meant != NULL) {
        complain_of_name(variable, meant);
    }
}

/* One "NAME=VALUE" of the environment. */
static void take_variable(const char *variable, bool is_secure) {
    if (strncmp(variable, PREFIX, PREFIX_BYTES) != 0) {
        return;
    }
    const size_t length = strcspn(variable, "=");
    if (variable[length] == '\0' || variable[length + 1] == '\0') {
        return; /* an empty value: as if not set */
    }
    for (size_t i = 0; i < moda_option_list_length; i++) {
        const char *const name = moda_option_list[i].name;
        if (strlen(name) == length && memcmp(name, variable, length) == 0) {
            take(i, variable + length + 1, is_secure);
            return;
        }
    }
    consider_unknown(variable, length);
}

/* libc's own pointer to the environment is not set yet when an executable's preinit functions, or ld.so
 * itself, allocate: then the kernel's copy is read, a variable at a time; one that is too long to be
 * ours is cut, which complain_of_path then tells. */
static void take_from_kernel(bool is_secure) {
    char variable[NAME_BYTES + PATH_BYTES + 1];
    char block[1024];
    size_t used = 0;
    const long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    for (long got; (got = syscall(SYS_read, fd, block, sizeof block)) > 0;) {
        for (long i = 0; i < got; i++) {
            if (used < sizeof variable - 1) {
                variable[used++] = block[i];
            }
            if (block[i] == '\0') {
                variable[used] = '\0';
                take_variable(variable, is_secure);
                used = 0;
            }
        }
    }
    syscall(SYS_close, fd);
}

#define VALUE_bytes(index) values[index].number
#define VALUE_count(index) values[index].number
#define VALUE_choice(index) values[index].number
#define VALUE_time(index) values[index].number
#define VALUE_path(index) values[index].path

void moda_options_read(char **environment) {
    const int saved_errno = errno;
    const bool is_secure = getauxval(AT_SECURE) != 0;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        values[i].number = moda_option_list[i].initial; /* 0 for a path: none */
    }
    if (environment == NULL) {
        environment = environ;
    }
    if (environment == NULL) {
        take_from_kernel(is_secure);
    } else {
        for (; *environment != NULL; environment++) {
            take_variable(*environment, is_secure);
        }
    }
    moda_options = (struct moda_options){
#define OPTION(field, name, kind, initial, minimum, maximum, argument, help)                                 \
    .field = VALUE_##kind(INDEX_##field),
#include "base/options.def"
#undef OPTION
    };
    errno = saved_errno;
}
