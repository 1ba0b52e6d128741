/* SPDX-License-Identifier: MIT
 *
 * closed_elsewhere.c - one thread opens and closes libraries, another runs their code, as in a host of plugins: a library
 * at the address of one that has gone is walked by its own unwind tables. The arguments are two libraries that differ in
 * the size of a frame.
 *
 * The loader's own data of a library are blocks of the thread that opened it, which frees them, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>

#include "whole.h"

enum { ROUNDS = 50, CALLS = 3, SIZE = 33000000 }; /* each such block is a sample, but one in 10^27 */

typedef void *allocate_function(size_t size);

static allocate_function *allocate;
static sem_t asked, done;

static __attribute__((noinline)) void call(void) {
    free(allocate(SIZE));
    __asm__ volatile("" : : : "memory");
}

static void *work(void *argument) {
    for (;;) {
        sem_wait(&asked);
        if (allocate == NULL) {
            return argument;
        }
        for (int i = 0; i < CALLS; i++) {
            call();
        }
        sem_post(&done);
    }
}

static void *open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    NEED(library != NULL, "dlopen: %s", dlerror());
    allocate = (allocate_function *)dlsym(library, "plugin_allocate");
    NEED(allocate != NULL, "dlsym: %s", dlerror());
    return library;
}

static void have_it_called(void) {
    sem_post(&asked);
    while (sem_wait(&done) != 0) {
    }
}

static int look_at(const mod_alloc_call_site *site, void *samples) {
    if (site->alloc_count != 0 && site->alloc_requested_bytes / site->alloc_count == SIZE) {
        CHECK_EQ(site->walk_end, MOD_ALLOC_WALK_COMPLETE, "how the walk ended");
        *(uint64_t *)samples += site->alloc_samples;
    }
    return 0;
}

int main(int count, char **argument) {
    whole_begin();
    NEED(count > 2, "which libraries?");
    pthread_t worker;
    sem_init(&asked, 0, 0);
    sem_init(&done, 0, 0);
    pthread_create(&worker, NULL, work, NULL);
    bool was_at_the_same_place = false;
    uint64_t calls = 0;
    for (int round = 0; round < ROUNDS && !was_at_the_same_place; round++) {
        void *library = open_library(argument[1]);
        allocate_function *const first = allocate;
        have_it_called();
        calls += CALLS;
        CHECK_EQ(dlclose(library), 0, "dlclose");
        library = open_library(argument[2]);
        was_at_the_same_place = allocate == first;
        if (was_at_the_same_place) {
            have_it_called();
            calls += CALLS;
        }
        dlclose(library);
    }
    allocate = NULL;
    sem_post(&asked);
    pthread_join(worker, NULL);
    uint64_t samples = 0;
    mod_alloc_call_sites(look_at, &samples);
    CHECK_EQ(samples, calls, "samples of the libraries' calls");
    return whole_failures == 0 && !was_at_the_same_place ? WHOLE_SKIP : whole_end();
}
