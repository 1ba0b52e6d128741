/* SPDX-License-Identifier: MIT
 *
 * runner.c - runs the tests that criterion.h has registered, each in a process of its own.
 */
#include "criterion/criterion.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

enum { STATUS_FAILED = 97, STATUS_SKIPPED = 98 };
#define TIMEOUT_SECONDS 240

static struct cross_test *tests;
static struct cross_suite *suites;
static bool has_failed; /* in the process of one test */

void cross_register(struct cross_test *test) {
    test->next = tests;
    tests = test;
}

void cross_register_suite(struct cross_suite *suite) {
    suite->next = suites;
    suites = suite;
}

/* The options of a test, with those of its suite where it has none. */
static struct cross_options options_of(const struct cross_test *test) {
    struct cross_options options = test->options;
    for (const struct cross_suite *suite = suites; suite != NULL; suite = suite->next) {
        if (strcmp(suite->name, test->suite) == 0) {
            options.init = options.init != NULL ? options.init : suite->options.init;
            options.fini = options.fini != NULL ? options.fini : suite->options.fini;
            options.timeout = options.timeout > 0 ? options.timeout : suite->options.timeout;
            options.signal = options.signal != 0 ? options.signal : suite->options.signal;
        }
    }
    return options;
}

void cross_fail(bool is_fatal, const char *file, int line, const char *claim, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: does not hold: %s:", file, line, claim);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    has_failed = true;
    if (is_fatal) {
        _exit(STATUS_FAILED);
    }
}

void cross_skip(void) {
    _exit(STATUS_SKIPPED);
}

static void run_here(const struct cross_test *test, void *row) {
    const struct cross_options options = options_of(test);
    alarm(options.timeout > 0 ? (unsigned)options.timeout + 1 : TIMEOUT_SECONDS);
    if (options.init != NULL) {
        options.init();
    }
    test->run(row);
    if (options.fini != NULL) {
        options.fini();
    }
    exit(has_failed ? STATUS_FAILED : 0);
}

/* True if it ended as the test says it should. */
static bool run_in_child(const struct cross_test *test, void *row) {
    int status = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        run_here(test, row);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED) {
        printf("skipped %s::%s\n", test->suite, test->name);
        return true;
    }
    const struct cross_options options = options_of(test);
    const bool is_good = options.signal != 0 ? WIFSIGNALED(status) && WTERMSIG(status) == options.signal
                                             : WIFEXITED(status) && WEXITSTATUS(status) == options.exit_code;
    if (!is_good) {
        printf("FAILED %s::%s (wait status 0x%x)\n", test->suite, test->name, (unsigned)status);
    }
    return is_good;
}

int main(void) {
    size_t runs = 0, failures = 0;
    for (const struct cross_test *test = tests; test != NULL; test = test->next) {
        struct criterion_test_params rows = {.length = 1};
        if (test->options.disabled) {
            continue;
        }
        if (test->parameters != NULL) {
            rows = test->parameters();
        }
        for (size_t i = 0; i < rows.length; i++) {
            runs++;
            failures += !run_in_child(test, rows.params == NULL ? NULL : (char *)rows.params + i * rows.size);
        }
    }
    printf("tests: %zu, failures: %zu\n", runs, failures);
    return runs == 0 || failures > 0;
}
