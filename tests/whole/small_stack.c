/* SPDX-License-Identifier: MIT
 *
 * small_stack.c - how much of a stack malloc takes at most: threads may have 16 KiB, signal handlers 8, of which the kernel
 * takes its share. A thread's first block is its first sample and its walk meets an object for the first time (the
 * argument, a plugin); then a good deal more.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#include "whole.h"

enum { STACK = 256 << 10, MOST = 4096, PAINT = 0x5A, LEFT_OUT = 512 };

typedef void *allocate_function(size_t size);
static unsigned char *stack;
static allocate_function *allocate;
static size_t first_took, others_took;

static __attribute__((noinline)) void paint(const unsigned char *here) {
    for (volatile unsigned char *at = stack; at < here - LEFT_OUT;
         at++) { /* a loop: memset's own frame would be painted */
        *at = PAINT;
    }
}

static __attribute__((noinline)) size_t taken(const unsigned char *here) {
    const unsigned char *at = stack;
    while (at < here && *at == PAINT) {
        at++;
    }
    return (size_t)(here - at);
}

static void *allocates(void *argument) {
    unsigned char here;
    paint(&here);
    free(allocate(100));
    first_took = taken(&here);
    paint(&here);
    for (size_t size = 1; size < 1 << 22; size += size / 8 + 1) {
        void *p = realloc(allocate(size), 2 * size);
        free(allocate(size));
        free(p);
    }
    others_took = taken(&here);
    return argument;
}

int main(int count, char **argument) {
    whole_begin();
    NEED(count > 1, "which plugin?");
    void *plugin = dlopen(argument[1], RTLD_NOW);
    NEED(plugin != NULL, "%s", dlerror());
    *(void **)(void *)&allocate = dlsym(plugin, "plugin_allocate");
    NEED(allocate != NULL, "%s", dlerror());
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(stack != MAP_FAILED, "no memory for a stack");
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    NEED(pthread_attr_setstack(&attributes, stack, STACK) == 0, "pthread_attr_setstack");
    NEED(pthread_create(&thread, &attributes, allocates, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    printf("first %zu bytes, others %zu\n", first_took, others_took);
    CHECK(first_took <= MOST, "a thread's first malloc takes %zu bytes of its stack", first_took);
    CHECK(others_took <= MOST, "malloc, realloc and free take %zu bytes of a stack", others_took);
    return whole_end();
}
