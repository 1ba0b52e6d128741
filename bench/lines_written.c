/* SPDX-License-Identifier: MIT
 *
 * lines_written.c SIZE PAIRS - two threads that allocate in turn, so that lines.py can see in a trace of all
 * stores which cache lines each of them writes.
 *
 * Both are alive all the time, as threads that run in parallel would be; they take turns because the trace
 * does not say which thread stored. Each turn lies between two stores to marks, whose addresses are printed.
 */
#include <pthread.h>
#include <stdio.h>

#include "loop.h"

enum { LINE = 64, WARM = 100 };

/* const: begin and end of the first thread's turn, then of the second's; each on a line of its own. */
static _Alignas(LINE) volatile char mark[4][LINE];
static size_t size, pairs;

__attribute__((noinline)) static void take_turn(size_t thread) {
    void *volatile own; /* on this thread's stack */
    for (size_t left = WARM; left > 0; left--) {
        own = malloc(size);
        free(own);
    }
    mark[2 * thread][0] = 1;
    for (size_t left = pairs; left > 0; left--) {
        own = malloc(size);
        free(own);
    }
    mark[2 * thread + 1][0] = 1;
}

static void *be_second(void *unused) {
    (void)unused;
    take_turn(1);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t second;
    size = loop_argument(argc, argv, 1, 64);
    pairs = loop_argument(argc, argv, 2, 100);
    take_turn(0);
    if (pthread_create(&second, NULL, be_second, NULL) != 0) {
        return 1;
    }
    pthread_join(second, NULL);
    for (int i = 0; i < 4; i++) {
        printf("%llx\n", (unsigned long long)(uintptr_t)mark[i]);
    }
    return 0;
}
