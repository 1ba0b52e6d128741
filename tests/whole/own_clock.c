/* SPDX-License-Identifier: MIT
 *
 * own_clock.c - a program in which somebody stands in for clock_gettime and allocates there, as libfaketime does at its
 * first call, which comes while malloc is being set up. malloc never asks it.
 */
#include <sys/syscall.h>
#include <time.h>

#include "whole.h"

static unsigned asked;
static void *volatile kept;

int clock_gettime(clockid_t clock, struct timespec *time) {
    asked++;
    free(kept);
    kept = malloc(78);
    return (int)syscall(SYS_clock_gettime, clock, time);
}

int main(void) {
    char *p[100];
    for (size_t n = 0; n < 100; n++) {
        for (size_t i = 0; i < 100; i++) {
            p[i] = malloc(n * 1000);
            NEED(p[i] != NULL, "malloc(%zu)", n * 1000);
        }
        for (size_t i = 0; i < 100; i++) {
            free(p[i]);
        }
    }
    malloc_trim(0);
    CHECK_EQ(asked, 0, "calls of the program's clock_gettime");
    struct timespec time;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0 && asked == 1, "the program's own call");
    return whole_end();
}
