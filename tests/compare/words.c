/* SPDX-License-Identifier: MIT
 *
 * words.c - how a command line of `mod-alloc compare` is split, and when it is left to the shell.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "cli/compare_run.h"

typedef struct words_case {
    char text[48];
    char words[5][32];
} words_case;

ParameterizedTestParameters(compare_words, splits_as_a_shell_does) {
    static words_case cases[] = {
        {"true", {"true"}},
        {"  a   b\tc ", {"a", "b", "c"}},
        {"a 'b c' d", {"a", "b c", "d"}},
        {"a \"b  c\"d", {"a", "b  cd"}},
        {"a b\\ c", {"a", "b c"}},
        {"a \"\\\"\\n\"", {"a", "\"\\n"}},
        {"a '$HOME|;'", {"a", "$HOME|;"}},
        {"a '' b", {"a", "", "b"}},
        {"jq -n '[range(9)]'", {"jq", "-n", "[range(9)]"}},
        /* the shell's business */
        {"a | b", {"/bin/sh", "-c", "a | b"}},
        {"a $HOME", {"/bin/sh", "-c", "a $HOME"}},
        {"a \"$HOME\"", {"/bin/sh", "-c", "a \"$HOME\""}},
        {"X=1 a", {"/bin/sh", "-c", "X=1 a"}},
        {"a *.c", {"/bin/sh", "-c", "a *.c"}},
        {"a > b", {"/bin/sh", "-c", "a > b"}},
        {"a 'b", {"/bin/sh", "-c", "a 'b"}},
    };
    return cr_make_param_array(words_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(words_case *c, compare_words, splits_as_a_shell_does) {
    char **words = moda_compare_words(c->text);
    cr_assert_not_null(words);
    size_t count = 0;
    for (; words[count]; count++) {
        cr_assert_lt(count, 5);
        cr_expect_str_eq(words[count], c->words[count], "%s: word %zu", c->text, count);
    }
    /* an empty word may only stand in the middle, in these cases */
    cr_expect(count == 5 || c->words[count][0] == '\0', "%s: %zu words", c->text, count);
    moda_compare_free_words(words);
}

Test(compare_words, blanks_are_no_command) {
    cr_expect_null(moda_compare_words(""));
    cr_expect_null(moda_compare_words(" \t "));
}
