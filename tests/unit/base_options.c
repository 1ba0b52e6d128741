/* SPDX-License-Identifier: MIT
 *
 * Every row of options.def is parsed as its kind says; a bad value, and a name that is nearly one of ours, is told
 * in one line and never stops the program; a set-user-ID program lets no variable name a file.
 */
#include "base/options.h"
#include "captured.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

/* In front of libc's: what the kernel would say of a set-user-ID program. */
static unsigned long secure;
unsigned long getauxval(unsigned long type) {
    return type == AT_SECURE ? secure : 0;
}

static char *nothing[] = {NULL};

#define READ(...) moda_options_read((char *[]){__VA_ARGS__, NULL})

Test(base_options, defaults_are_those_of_the_list) {
    moda_options_read(nothing);
#define CHECK_number(field, initial) cr_expect_eq(moda_options.field, (uint64_t)(initial))
#define CHECK_path(field, initial) cr_expect_null(moda_options.field)
#define CHECK_bytes CHECK_number
#define CHECK_count CHECK_number
#define CHECK_choice CHECK_number
#define CHECK_time CHECK_number
#define OPTION(field, name, kind, initial, minimum, maximum, argument, help) CHECK_##kind(field, initial);
#include "base/options.def"
#undef OPTION
    cr_expect_eq(moda_options.sample, 524288);
    cr_expect_eq(moda_options.frames, 64);
}

Test(base_options, the_list_is_sound) {
    for (size_t i = 0; i < moda_option_list_length; i++) {
        const moda_option *const option = &moda_option_list[i];
        cr_expect_eq(strncmp(option->name, "MOD_ALLOC_", 10), 0);
        cr_expect(strlen(option->help) > 10 && strlen(option->argument) > 0);
        if (option->kind != MODA_OPTION_path) {
            cr_expect(option->minimum <= option->initial && option->initial <= option->maximum, "%s",
                      option->name);
        }
    }
}

Test(base_options, values_are_read) {
    READ("PATH=/bin", "MOD_ALLOC_SAMPLE=4K", "MOD_ALLOC_SEED=18446744073709551615", "MOD_ALLOC_FRAMES=16",
         "MOD_ALLOC_BUCKETS=65536", "MOD_ALLOC_MEMORY=2G", "MOD_ALLOC_UNWIND=tables",
         "MOD_ALLOC_SHORT_LIVED=5ms", "MOD_ALLOC_PROFILE=/tmp/a=b.prof", "MOD_ALLOC_STATS=stderr");
    cr_expect_eq(moda_options.sample, 4096);
    cr_expect_eq(moda_options.seed, UINT64_MAX);
    cr_expect_eq(moda_options.frames, 16);
    cr_expect_eq(moda_options.buckets, 65536);
    cr_expect_eq(moda_options.memory, 2147483648u);
    cr_expect_eq(moda_options.unwind, 2);
    cr_expect_eq(moda_options.short_lived, 5000000);
    cr_expect_str_eq(moda_options.profile, "/tmp/a=b.prof");
    cr_expect_str_eq(moda_options.stats, "stderr");
}

Test(base_options, paths_are_copies) {
    char variable[] = "MOD_ALLOC_PROFILE=first";
    READ(variable);
    memset(variable, 'x', sizeof variable - 1); /* as setproctitle does */
    cr_expect_str_eq(moda_options.profile, "first");
}

Test(base_options, an_empty_value_is_no_value) {
    READ("MOD_ALLOC_SAMPLE=", "MOD_ALLOC_PROFILE=", "MOD_ALLOC_UNWIND=");
    cr_expect_eq(moda_options.sample, 524288);
    cr_expect_null(moda_options.profile);
    cr_expect_eq(moda_options.unwind, 0);
}

Test(base_options, names_are_taken_whole) {
    READ("MOD_ALLOC_SAMPLES=1", "MOD_ALLOC_SAMPL=2", "XMOD_ALLOC_SAMPLE=3", "MOD_ALLOC_SAMPLE",
         "mod_alloc_sample=4");
    cr_expect_eq(moda_options.sample, 524288);
}

/* ---- bad values ---- */

struct bad_value {
    char variable[64];
    char used[24]; /* what the line says is used instead */
};

ParameterizedTestParameters(base_options, a_bad_value_is_told_in_one_line) {
    static struct bad_value rows[] = {
        {"MOD_ALLOC_SAMPLE=many", "524288"},
        {"MOD_ALLOC_SAMPLE=-1", "524288"},
        {"MOD_ALLOC_SAMPLE=4KX", "524288"},
        {"MOD_ALLOC_SAMPLE= 4K", "524288"},
        {"MOD_ALLOC_SAMPLE=99999999999999999999", "524288"},
        {"MOD_ALLOC_SAMPLE=17179869184G", "524288"}, /* 2^64 */
        {"MOD_ALLOC_SAMPLE=2T", "1099511627776"},
        {"MOD_ALLOC_FRAMES=0", "1"},
        {"MOD_ALLOC_FRAMES=513", "512"},
        {"MOD_ALLOC_FRAMES=8K", "64"},
        {"MOD_ALLOC_BUCKETS=1", "64"},
        {"MOD_ALLOC_MEMORY=1K", "1048576"},
        {"MOD_ALLOC_UNWIND=dwarf", "auto"},
        {"MOD_ALLOC_UNWIND=auto|fp", "auto"},
        {"MOD_ALLOC_UNWIND=AUTO", "auto"},
        {"MOD_ALLOC_SHORT_LIVED=1h", "1000000ns"},
        {"MOD_ALLOC_SHORT_LIVED=99999999999999999s", "1000000ns"},
    };
    return cr_make_param_array(struct bad_value, rows, sizeof rows / sizeof *rows);
}

static void read_one(void *variable) {
    READ(variable);
}

ParameterizedTest(struct bad_value *row, base_options, a_bad_value_is_told_in_one_line) {
    const captured result = capture_stderr(read_one, row->variable);
    char used[64];
    snprintf(used, sizeof used, "; using %s\n", row->used);
    cr_expect(WIFEXITED(result.status) && WEXITSTATUS(result.status) == 0);
    cr_expect(strchr(result.text, '\n') == result.text + strlen(result.text) - 1, "one line: %s",
              result.text);
    cr_expect(strstr(result.text, row->variable) != NULL, "%s: %s", row->variable, result.text);
    cr_expect(strstr(result.text, used) != NULL, "%s: %s", row->variable, result.text);
}

Test(base_options, what_is_told_is_what_is_used) {
    cr_assert_not_null(freopen("/dev/null", "w", stderr));
    READ("MOD_ALLOC_FRAMES=513", "MOD_ALLOC_BUCKETS=1", "MOD_ALLOC_SAMPLE=x", "MOD_ALLOC_UNWIND=x");
    cr_expect_eq(moda_options.frames, 512);
    cr_expect_eq(moda_options.buckets, 64);
    cr_expect_eq(moda_options.sample, 524288);
    cr_expect_eq(moda_options.unwind, 0);
}

Test(base_options, good_values_are_silent) {
    const captured result = capture_stderr(read_one, (char[]){"MOD_ALLOC_SAMPLE=64k"});
    cr_expect_str_eq(result.text, "");
}

Test(base_options, a_line_never_carries_control_characters) {
    const captured result = capture_stderr(read_one, (char[]){"MOD_ALLOC_SAMPLE=\x1b[31m\nred"});
    cr_expect(strstr(result.text, "MOD_ALLOC_SAMPLE=?[31m?red ") != NULL, "%s", result.text);
}

Test(base_options, a_path_that_is_too_long_is_told_and_not_cut) {
    static char variable[PATH_MAX + 100] = "MOD_ALLOC_PROFILE=";
    memset(variable + strlen(variable), 'p', PATH_MAX);
    const captured result = capture_stderr(read_one, variable);
    cr_expect(strstr(result.text, "MOD_ALLOC_PROFILE=ppp") != NULL, "%s", result.text);
    cr_assert_not_null(freopen("/dev/null", "w", stderr));
    READ(variable);
    cr_expect_null(moda_options.profile);
}

/* ---- names that are not in the list ---- */

struct name {
    char variable[64];
    char meant[32]; /* "" = not a word is said */
};

ParameterizedTestParameters(base_options, a_name_that_is_nearly_one_is_told) {
    static struct name rows[] = {
        {"MOD_ALLOC_SAMPEL=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC_SAMPLES=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC_SAMPL=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC_SMPL=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC_sample=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC_Smapl=1", ""}, /* three */
        {"MOD_ALLOC_SAMPLE_X=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC__SAMPLE=1", "MOD_ALLOC_SAMPLE"},
        {"MOD_ALLOC_PROFLIE=/tmp/x", "MOD_ALLOC_PROFILE"},
        {"MOD_ALLOC_STAT=stderr", "MOD_ALLOC_STATS"},
        {"MOD_ALLOC_FRAME=9", "MOD_ALLOC_FRAMES"},
        {"MOD_ALLOC_SED=9", "MOD_ALLOC_SEED"},
        {"MOD_ALLOC_SHORTLIVED=1ms", "MOD_ALLOC_SHORT_LIVED"},
        {"MOD_ALLOC_SHORT_LIFE=1ms", "MOD_ALLOC_SHORT_LIVED"},
        {"MOD_ALLOC_LIFETIME=all", "MOD_ALLOC_LIFETIMES"},
        {"MOD_ALLOC_SAMPLE_RATE=1", ""},
        {"MOD_ALLOC_SAMPEL=", ""},
        {"MOD_ALLOC_SAMPEL", ""},
        {"MOD_ALLOC_=1", ""},
        {"MOD_ALLOC_X=1", ""},
        {"MOD_ALLOC_MIMALLOC_DIR=/tmp", ""},
        {"MOD_ALLOC_ASSERTS=full", ""},
        {"MOD_ALLOC_VERSION=1", ""},
        {"MOD_ALLOC_LIBRARY=/tmp/x.so", ""},
        {"MOD_ALLOC_PLAIN=/tmp/x.so", ""},
        {"MOD_ALLOC_A_NAME_THAT_IS_LONGER_THAN_ANY_OF_OURS_SAMPLE=1", ""},
        {"mod_alloc_sample=1", ""},
        {"MOD_ALOC_SAMPLE=1", ""},
    };
    return cr_make_param_array(struct name, rows, sizeof rows / sizeof *rows);
}

ParameterizedTest(struct name *row, base_options, a_name_that_is_nearly_one_is_told) {
    const captured result = capture_stderr(read_one, row->variable);
    char line[160] = "";
    if (row->meant[0] != '\0') {
        snprintf(line, sizeof line, "mod-alloc: %s is unknown, did you mean %s; ignored\n", row->variable,
                 row->meant);
    }
    cr_expect_str_eq(result.text, line, "%s: '%s', expected '%s'", row->variable, result.text, line);
}

static void read_each_by_its_name(void *unused) {
    (void)unused;
    char variable[64];
    for (size_t i = 0; i < moda_option_list_length; i++) {
        snprintf(variable, sizeof variable, "%s=%s", moda_option_list[i].name,
                 moda_option_list[i].kind == MODA_OPTION_choice ? "x" : "1");
        READ(variable);
    }
}

Test(base_options, each_name_of_the_list_is_known_and_an_unknown_one_changes_nothing) {
    const captured result = capture_stderr(read_each_by_its_name, NULL);
    cr_expect(strstr(result.text, "unknown") == NULL, "%s", result.text);
    cr_assert_not_null(freopen("/dev/null", "w", stderr));
    READ("MOD_ALLOC_FRAME=9", "MOD_ALLOC_FRAMES=8", "MOD_ALLOC_FRAMESS=7");
    cr_expect_eq(moda_options.frames, 8);
}

Test(base_options, an_unknown_name_carries_no_control_characters) {
    const captured result = capture_stderr(read_one, (char[]){"MOD_ALLOC_SAMPL\x1b=\n1"});
    cr_expect_str_eq(result.text,
                     "mod-alloc: MOD_ALLOC_SAMPL?=?1 is unknown, did you mean MOD_ALLOC_SAMPLE; ignored\n");
}

/* ---- where they come from ---- */

Test(base_options, a_set_user_id_program_lets_no_variable_name_a_file) {
    secure = 1;
    READ("MOD_ALLOC_PROFILE=/tmp/mine", "MOD_ALLOC_STATS=/tmp/mine", "MOD_ALLOC_FRAMES=9");
    cr_expect_null(moda_options.profile);
    cr_expect_null(moda_options.stats);
    cr_expect_eq(moda_options.frames, 9);
}

Test(base_options, without_an_argument_the_process_environment_is_read) {
    setenv("MOD_ALLOC_FRAMES", "33", 1);
    moda_options_read(NULL);
    cr_expect_eq(moda_options.frames, 33);
}

Test(base_options, before_libc_is_ready_the_kernel_copy_is_read) {
    environ = NULL;
    errno = EDOM;
    moda_options_read(NULL);
    cr_expect_eq(errno, EDOM);
    cr_expect_eq(moda_options.frames, 77, "ctest sets MOD_ALLOC_FRAMES=77; got %d", (int)moda_options.frames);
    cr_expect_eq(moda_options.unwind, 1);
}

/* ---- parsers ---- */

Test(base_options, bytes_take_1024_based_suffixes) {
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {{"0", 0},           {"1", 1},
                {"1b", 1},          {"4096", 4096},
                {"512K", 524288},   {"512kb", 524288},
                {"512KiB", 524288}, {"64m", 67108864},
                {"1G", 1u << 30},   {"16777215T", 16777215ull << 40}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t bytes = 99;
        cr_expect(moda_parse_bytes(rows[i].text, &bytes) && bytes == rows[i].bytes, "%s", rows[i].text);
    }
    static const char *const wrong[] = {"", "K", "1.5M", "+1", "1KK", "1iB", "0x10", "1 K", "16777216T"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint64_t bytes;
        cr_expect_not(moda_parse_bytes(wrong[i], &bytes), "%s", wrong[i]);
    }
}

Test(base_options, times_take_units) {
    static const struct {
        const char *text;
        uint64_t ns;
    } rows[] = {{"0", 0},    {"250ns", 250},   {"100us", 100000},
                {"7", 7000}, {"5ms", 5000000}, {"2s", 2000000000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t ns = 99;
        cr_expect(moda_parse_time(rows[i].text, &ns) && ns == rows[i].ns, "%s", rows[i].text);
    }
    uint64_t ns;
    cr_expect_not(moda_parse_time("5 ms", &ns));
    cr_expect_not(moda_parse_time("ms", &ns));
    cr_expect_not(moda_parse_time("18446744073709551615us", &ns));
}

Test(base_options, an_option_can_be_parsed_by_its_row) {
    for (size_t i = 0; i < moda_option_list_length; i++) {
        uint64_t value = 0;
        if (strcmp(moda_option_list[i].name, "MOD_ALLOC_FRAMES") == 0) {
            cr_expect(moda_option_parse(&moda_option_list[i], "512", &value) && value == 512);
            cr_expect_not(moda_option_parse(&moda_option_list[i], "513", &value));
            cr_expect_not(moda_option_parse(&moda_option_list[i], "0", &value));
        }
    }
}
