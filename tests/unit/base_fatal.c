/* SPDX-License-Identifier: MIT
 *
 * Each fatal message is one line with what a reader needs, and ends the process by SIGABRT.
 */
#include "base/check.h"
#include "base/fatal.h"
#include "captured.h"

#include <criterion/criterion.h>
#include <signal.h>

static void expect_abort_with(void (*function)(void *), const char *const *parts) {
    const captured result = capture_stderr(function, NULL);
    cr_assert(WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGABRT, "status %x",
              (unsigned)result.status);
    const char *const newline = strchr(result.text, '\n');
    cr_assert(newline != NULL && newline[1] == '\0', "one line, not: %s", result.text);
    cr_assert_eq(strncmp(result.text, "mod-alloc: ", 11), 0, "%s", result.text);
    for (; *parts != NULL; parts++) {
        cr_expect(strstr(result.text, *parts) != NULL, "'%s' is not in: %s", *parts, result.text);
    }
}

#define PARTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void free_a_foreign_pointer(void *unused) {
    (void)unused;
    moda_fatal_invalid_pointer("free", (const void *)(uintptr_t)0xdeadbeef);
}
static void free_twice(void *unused) {
    (void)unused;
    moda_fatal_double_free("realloc", (const void *)(uintptr_t)0x7fff12345670);
}
static void damage_a_header(void *unused) {
    (void)unused;
    moda_fatal_corrupted_header("free", (const void *)(uintptr_t)16);
}
static void run_out(void *unused) {
    (void)unused;
    moda_fatal_no_memory("a thread's counters", 18446744073709551615u);
}
static void fail_new(void *unused) {
    (void)unused;
    moda_fatal_new_failed(1000);
}
static void break_a_law(void *unused) {
    (void)unused;
    const int one = 1;
    moda_check(one == 2);
}

Test(base_fatal, messages_name_the_call_and_the_address) {
    expect_abort_with(free_a_foreign_pointer, PARTS("free()", "0xdeadbeef", "not a block"));
    expect_abort_with(free_twice, PARTS("realloc()", "0x7fff12345670", "double free"));
    expect_abort_with(damage_a_header, PARTS("free()", "0x10", "overwritten"));
}

Test(base_fatal, messages_say_what_to_do_or_how_much) {
    expect_abort_with(run_out, PARTS("a thread's counters", "18446744073709551615"));
    expect_abort_with(fail_new, PARTS("bad_alloc", "1000"));
}

Test(base_fatal, a_broken_check_names_the_law_and_the_line) {
    expect_abort_with(break_a_law, PARTS("base_fatal.c:", "one == 2"));
}

Test(base_fatal, a_check_that_holds_does_nothing) {
    const int one = 1;
    moda_check(one == 1);
}
