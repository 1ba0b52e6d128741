/* SPDX-License-Identifier: MIT
 *
 * need.h - what a program of this folder cannot go on without. It says so on standard output: standard error may be what is
 * tested.
 */
#ifndef RECORDING_NEED_H
#define RECORDING_NEED_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static void need(bool is_so, const char *what) {
    if (!is_so) {
        printf("%s: %s\n", program_invocation_short_name, what);
        fflush(stdout);
        _exit(1);
    }
}

#endif
