/* SPDX-License-Identifier: MIT
 *
 * start.c - walks in what the dynamic loader calls before main: constructors, of a library and of the program.
 *
 * Usage: start auto|fp|tables [loader]. With `loader` the program starts itself again, as an argument of the dynamic loader.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mod_alloc.h"
#include "../loader.h"
#include "start.h"
#include "unwind/row_cache.h"
#include "unwind/unwind.h"

enum { LIMIT = 64 };

static int failures, walks_before_main;
static moda_walker_id walker;
static moda_unwind_thread *thread_memory;
static uintptr_t loader_pc; /* where the loader has called from */
static uint32_t frames_of_constructor;

extern void *__libc_stack_end;

#if defined(__x86_64__)
#define CALL "call "
#define SAVES_RETURN_ADDRESS "\n"
#else
#define CALL "bl "
#define SAVES_RETURN_ADDRESS ".cfi_offset 30, -8\n"
#endif

/* Two calls: the first in code whose frame is two words, the second of them the return address; the other in code that has no
 * tables. */
extern const char after_framed_call[], after_bare_call[];
__asm__(".text\n"
        "framed_code: .cfi_startproc\n"
        ".cfi_def_cfa_offset 16\n" SAVES_RETURN_ADDRESS CALL "framed_code\n"
        "after_framed_call: nop\n"
        ".cfi_endproc\n"
        "bare_code: " CALL "bare_code\n"
        "after_bare_call: nop\n");

static void check(bool claim, const char *where, const char *what, unsigned found) {
    if (!claim) {
        failures++;
        printf("start.c: %s: not so: %s (found %u)\n", where, what, found);
    }
}

static void *map_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((noinline)) void start_walk(const char *where) {
    const moda_unwind_start start = {
        .pc = (uintptr_t)__builtin_return_address(0),
        .sp = (uintptr_t)__builtin_dwarf_cfa(),
        .fp = *(const uintptr_t *)__builtin_frame_address(0),
    };
    uint64_t frames[LIMIT], again[LIMIT];
    moda_unwind_initialize(walker, LIMIT);
    const moda_walk walk = moda_unwind(&start, NULL, frames);
    check(walk.end == MOD_ALLOC_WALK_COMPLETE, where, "the walk is complete", walk.end);
    check(walk.count >= 3, where, "it has three frames at least", walk.count);
    if (thread_memory == NULL) {
        thread_memory = map_memory(moda_unwind_thread_size(LIMIT));
    }
    for (int i = 0; i < 3; i++) {
        const moda_walk kept = moda_unwind(&start, thread_memory, again);
        check(kept.end == walk.end && kept.count == walk.count
                  && memcmp(frames, again, walk.count * sizeof frames[0]) == 0,
              where, "a walk that is kept is the same", kept.end);
    }
    frames_of_constructor = walk.count;
    if (walks_before_main++ == 0) { /* the program's are called as main is */
        loader_pc = (uintptr_t)frames[walk.count - 1];
    }
    if (walker == MODA_UNWIND_FP) {
        return; /* it asks the tables for the last frames only where there is room for them */
    }
    moda_unwind_initialize(walker, walk.count);
    const moda_walk whole = moda_unwind(&start, NULL, again);
    check(whole.end == MOD_ALLOC_WALK_COMPLETE, where, "as many frames as are kept are complete", whole.end);
    moda_unwind_initialize(walker, walk.count - 1);
    const moda_walk cut = moda_unwind(&start, NULL, again);
    check(cut.end == MOD_ALLOC_WALK_CUT, where, "one less is cut", cut.end);
}

__attribute__((constructor)) static void construct(void) {
    start_walk("the program's constructor");
    __asm__ volatile("");
}

void start_choose(const char *name) {
    walker = strcmp(name, "fp") == 0       ? MODA_UNWIND_FP
             : strcmp(name, "tables") == 0 ? MODA_UNWIND_TABLES
                                           : MODA_UNWIND_AUTO;
    moda_unwind_set_memory(map_memory);
}

/* ---- what is not the start of the process ---- */

/* How a walk ends that comes to `pc` with `sp`: the return address stands below, for this one walk. */
static uint8_t end_at(uintptr_t pc, uintptr_t sp) {
    const moda_unwind_start start = {.pc = (uintptr_t)after_framed_call, .sp = sp - 16};
    volatile uintptr_t *const slot = (volatile uintptr_t *)(sp - 8);
    const uintptr_t before = *slot;
    uint64_t frames[LIMIT];
    *slot = pc;
    const moda_walk walk = moda_unwind(&start, NULL, frames);
    *slot = before;
    return walk.end;
}

static void *walk_on_thread(void *unused) {
    volatile uintptr_t words[4] = {0};
    check(end_at(loader_pc, (uintptr_t)&words[2]) == MOD_ALLOC_WALK_UNKNOWN, "thread",
          "on its stack no process starts", 0);
    check(end_at(loader_pc, (uintptr_t)pthread_self()) == MOD_ALLOC_WALK_UNKNOWN, "thread", "nor at its end",
          0);
    return unused;
}

static void look_elsewhere(void) {
    const moda_row_view view = moda_row_view_now();
    const uintptr_t top = (uintptr_t)__libc_stack_end;
    pthread_t thread;
    moda_unwind_initialize(MODA_UNWIND_TABLES, LIMIT);
    check(end_at((uintptr_t)after_bare_call, top) == MOD_ALLOC_WALK_UNKNOWN, "main",
          "without tables only the loader's code is the start", 0);
    if (moda_row_cfa_kind(moda_row_lookup(&view, loader_pc - 1)) != MODA_CFA_NO_TABLE) {
        return; /* a loader that has tables: they tell */
    }
    check(end_at(loader_pc, top) == MOD_ALLOC_WALK_COMPLETE, "main", "the start is known again", 0);
    for (uintptr_t words = 1; words <= 8; words++) {
        check(end_at(loader_pc, top - 8 * words) == MOD_ALLOC_WALK_UNKNOWN, "main",
              "below the stack's end is no start", (unsigned)words);
        check(end_at(loader_pc, top + 8 * words) != MOD_ALLOC_WALK_COMPLETE, "main",
              "nor is there one above it", (unsigned)words);
    }
    check(end_at(loader_pc + 3, top) == MOD_ALLOC_WALK_UNKNOWN, "main", "it follows a call", 0);
    if (pthread_create(&thread, NULL, walk_on_thread, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv) {
    const char *const loader = argc > 2 ? loader_of_process() : NULL;
    if (loader != NULL) {
        execl(loader, loader, argv[0], argv[1], (char *)NULL);
        perror(loader);
        return 1;
    }
    start_library();
    check(argc > 1 && walks_before_main == 2, "main", "two constructors have run",
          (unsigned)walks_before_main);
    look_elsewhere();
    printf("%u frames, %d failures\n", frames_of_constructor, failures);
    return failures == 0 ? 0 : 1;
}
