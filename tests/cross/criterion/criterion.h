/* SPDX-License-Identifier: MIT
 *
 * criterion.h - as much of Criterion's interface as our unit tests use, for cross builds, where a
 * distribution has no Criterion for the target. Each test runs in a process of its own (runner.c).
 */
#ifndef MODA_TESTS_CROSS_CRITERION_H
#define MODA_TESTS_CROSS_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct criterion_test_params {
    size_t size;
    void *params;
    size_t length;
};

struct cross_options {
    int signal;
    int exit_code;
    double timeout;
    void (*init)(void);
    void (*fini)(void);
    bool disabled;
    const char *description;
};

struct cross_test {
    const char *suite, *name;
    void (*run)(void *parameter);
    struct criterion_test_params (*parameters)(void);
    struct cross_options options;
    struct cross_test *next;
};

/* What a suite's tests have in common, where a test does not say otherwise. */
struct cross_suite {
    const char *name;
    struct cross_options options;
    struct cross_suite *next;
};

void cross_register(struct cross_test *test);
void cross_register_suite(struct cross_suite *suite);
__attribute__((format(printf, 5, 6))) void cross_fail(bool is_fatal, const char *file, int line,
                                                      const char *claim, const char *format, ...);
__attribute__((noreturn)) void cross_skip(void);

#define CROSS_TEST(suite_, name_, run_, parameters_, ...)                                                    \
    __attribute__((constructor)) static void cross_add_##suite_##_##name_(void) {                            \
        static struct cross_test test = {.suite = #suite_,                                                   \
                                         .name = #name_,                                                     \
                                         .run = (run_),                                                      \
                                         .parameters = (parameters_),                                        \
                                         .options = {__VA_ARGS__}};                                          \
        cross_register(&test);                                                                               \
    }

#define TestSuite(suite_, ...)                                                                               \
    __attribute__((constructor)) static void cross_add_suite_##suite_(void) {                                \
        static struct cross_suite suite = {.name = #suite_, .options = {__VA_ARGS__}};                       \
        cross_register_suite(&suite);                                                                        \
    }                                                                                                        \
    _Static_assert(1, "so that a semicolon may follow")

#define Test(suite_, name_, ...)                                                                             \
    static void cross_body_##suite_##_##name_(void);                                                         \
    static void cross_run_##suite_##_##name_(void *unused) {                                                 \
        (void)unused;                                                                                        \
        cross_body_##suite_##_##name_();                                                                     \
    }                                                                                                        \
    CROSS_TEST(suite_, name_, cross_run_##suite_##_##name_, NULL, __VA_ARGS__)                               \
    static void cross_body_##suite_##_##name_(void)

/* "" in front joins a message's literal, or is one itself where there is none. */
#define CROSS_CHECK(fatal, claim, text, ...)                                                                 \
    do {                                                                                                     \
        if (!(claim)) {                                                                                      \
            cross_fail(fatal, __FILE__, __LINE__, text, " " __VA_ARGS__);                                    \
        }                                                                                                    \
    } while (0)

#define cr_assert(claim, ...) CROSS_CHECK(true, claim, #claim, __VA_ARGS__)
#define cr_expect(claim, ...) CROSS_CHECK(false, claim, #claim, __VA_ARGS__)
#define cr_assert_not(claim, ...) CROSS_CHECK(true, !(claim), "not " #claim, __VA_ARGS__)
#define cr_expect_not(claim, ...) CROSS_CHECK(false, !(claim), "not " #claim, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) CROSS_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) CROSS_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) CROSS_CHECK(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) CROSS_CHECK(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) CROSS_CHECK(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) CROSS_CHECK(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) CROSS_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) CROSS_CHECK(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) CROSS_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) CROSS_CHECK(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) CROSS_CHECK(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) CROSS_CHECK(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) CROSS_CHECK(true, (a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_expect_null(a, ...) CROSS_CHECK(false, (a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...) CROSS_CHECK(true, (a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_expect_not_null(a, ...) CROSS_CHECK(false, (a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) CROSS_CHECK(true, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) CROSS_CHECK(false, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) CROSS_CHECK(true, strcmp(a, b) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) CROSS_CHECK(false, strcmp(a, b) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) CROSS_CHECK(true, memcmp(a, b, n) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...) CROSS_CHECK(false, memcmp(a, b, n) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, e, ...) CROSS_CHECK(true, fabs((a) - (b)) <= (e), #a " is " #b, __VA_ARGS__)
#define cr_expect_float_eq(a, b, e, ...) CROSS_CHECK(false, fabs((a) - (b)) <= (e), #a " is " #b, __VA_ARGS__)
#define cr_assert_fail(...) CROSS_CHECK(true, false, "reached", __VA_ARGS__)
#define cr_expect_fail(...) CROSS_CHECK(false, false, "reached", __VA_ARGS__)
#define cr_skip_test(...) cross_skip()
#define cr_skip(...) cross_skip()

#endif
