/* SPDX-License-Identifier: MIT
 *
 * lines_written.c SIZE PAIRS [KEEP] - two threads that allocate in turn, so that lines.py can see in a trace of all
 * stores which cache lines each of them writes.
 *
 * Both are alive all the time, as threads that run in parallel would be; they take turns because the trace
 * does not say which thread stored. Each turn lies between two stores to marks, whose addresses are printed, and
 * then that of malloc, which tells where the library lies.
 */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "loop.h"

enum { LINE = 64, WARM = 100 };

/* const: begin and end of the first thread's turn, then of the second's; each on a line of its own. */
static _Alignas(LINE) volatile char mark[4][LINE];
static size_t size, pairs, keeps;

__attribute__((noinline)) static void take_turn(size_t thread) {
    void *volatile own; /* on this thread's stack */
    for (size_t left = WARM; left > 0; left--) {
        own = malloc(size);
        free(own);
    }
    mark[2 * thread][0] = 1;
    for (size_t left = pairs; left > 0; left--) {
        own = malloc(size);
        if (!keeps) {
            free(own);
        }
    }
    mark[2 * thread + 1][0] = 1;
}

static void *be_second(void *unused) {
    (void)unused;
    usleep(50000); /* until the first one waits for us and stores no more */
    take_turn(1);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t second;
    size = loop_argument(argc, argv, 1, 64);
    pairs = loop_argument(argc, argv, 2, 100);
    keeps = loop_argument(argc, argv, 3, 0); /* then the heap grows by size x pairs a thread */
    take_turn(0);
    if (pthread_create(&second, NULL, be_second, NULL) != 0) {
        return 1;
    }
    pthread_join(second, NULL);
    for (int i = 0; i < 4; i++) {
        printf("%llx\n", (unsigned long long)(uintptr_t)mark[i]);
    }
    printf("%llx\n", (unsigned long long)(uintptr_t)malloc);
    return 0;
}
