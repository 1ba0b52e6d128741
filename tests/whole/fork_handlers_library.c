/* SPDX-License-Identifier: MIT
 *
 * fork_handlers_library.c - for fork_handlers.c: registers handlers of fork from its constructor, which runs before those of
 * the program and of what is preloaded. Each allocates from a place that was never seen before; the one before the fork also
 * waits for a thread that ends, as OpenBLAS's does.
 */
#include <pthread.h>
#include <stdlib.h>

unsigned fork_handlers_called(void);

static unsigned called;

#define PLACE(n)                                                                                             \
    __attribute__((noinline)) static void place_##n(void) {                                                  \
        for (size_t i = 1; i < 50; i++) {                                                                    \
            void *volatile p = calloc(i, 100 + n);                                                           \
            free(p);                                                                                         \
        }                                                                                                    \
    }
PLACE(1)
PLACE(2)
PLACE(3)
PLACE(4)

static void *thread(void *argument) {
    place_4();
    return argument;
}

static void prepare(void) {
    called++;
    place_1();
    pthread_t other;
    if (pthread_create(&other, NULL, thread, NULL) == 0) {
        pthread_join(other, NULL);
    }
}

static void parent(void) {
    called++;
    place_2();
}

static void child(void) {
    called++;
    place_3();
}

unsigned fork_handlers_called(void) {
    return called;
}

__attribute__((constructor)) static void load(void) {
    pthread_atfork(prepare, parent, child);
}
