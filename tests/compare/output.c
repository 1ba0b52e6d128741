/* SPDX-License-Identifier: MIT
 *
 * output.c - what a command of `mod-alloc compare` printed, also where something that it has left running cuts it.
 * fstat is wrapped by the linker: the cut comes right after the file's size was asked for.
 */
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/compare_run.h"

static bool is_cutting;

int __real_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status) {
    const int result = __real_fstat(fd, status);
    if (is_cutting && result == 0 && S_ISREG(status->st_mode))
        cr_assert(ftruncate(fd, 0) == 0);
    return result;
}

static void run_twice(moda_compare_run runs[2]) {
    char *words[] = {"/bin/sh", "-c", "echo one; echo two", NULL};
    const moda_compare_runner runner = {.core = -1, .keeps_output = true};
    const moda_compare_command command = {.text = words[2], .words = words};
    moda_compare_run_pair(&runner, &command, &command, false, runs);
    for (int i = 0; i < 2; i++)
        cr_assert(runs[i].is_done, "%s", runs[i].failure);
    cr_expect_eq(runs[0].output_size, runs[1].output_size);
    cr_expect_eq(runs[0].output_checksum, runs[1].output_checksum);
}

Test(compare_output, the_same_output_has_the_same_checksum) {
    moda_compare_run runs[2];
    run_twice(runs);
    cr_expect_eq(runs[0].output_size, 8);
    cr_expect_eq(runs[0].output_checksum, 0x7b9c7bc72169cef7u);
}

Test(compare_output, an_output_that_is_cut_meanwhile_is_what_is_left_of_it) {
    moda_compare_run runs[2];
    is_cutting = true;
    run_twice(runs);
    cr_expect_eq(runs[0].output_size, 0);
}
