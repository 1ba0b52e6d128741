/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "cli/leak_gate.h"

struct row {
    bool matches;
    char pattern[16], text[32];
};

static struct row rows[] = {
    {true, "foo", "xfoox"},
    {false, "foo", "fo"},
    {true, "^foo", "foobar"},
    {false, "^foo", "xfoo"},
    {true, "foo$", "xfoo"},
    {false, "foo$", "foox"},
    {true, "^foo$", "foo"},
    {false, "^foo$", "foofoo"},
    {true, "foo$", "foofoo"},
    {true, "a*b", "xaybz"},
    {false, "a*b", "ba"},
    {true, "^a*b$", "ab"},
    {true, "^a*b$", "axxbxb"},
    {false, "^a*b$", "axxbx"},
    {true, "*", ""},
    {true, "a$b", "xa$by"},
    {true, "a$b$", "xa$b"},
    {false, "a$b$", "xa$bc"},
    {true, "^*foo", "xxfoo"},
    {true, "a**b", "a1b"},
    {true, "lib*.so*", "/usr/lib/libx.so.6"},
    {true, "foo*$", "foobar"},
    {true, "a*bc*c$", "abcc"},
    {false, "a*bc*c$", "abc"},
    {true, "ab*b$", "abb"},
    {false, "ab*b$", "ab"},
    {false, "x", ""},
    {true, "std::*<int>", "std::vector<int>::f"},
};

ParameterizedTestParameters(suppressions, a_pattern_matches_as_lsan_has_it) {
    return cr_make_param_array(struct row, rows, sizeof rows / sizeof *rows);
}

ParameterizedTest(struct row *row, suppressions, a_pattern_matches_as_lsan_has_it) {
    cr_assert(moda_cli_suppression_matches(row->pattern, row->text) == row->matches,
              "'%s' and '%s': expected %d", row->pattern, row->text, row->matches);
}
