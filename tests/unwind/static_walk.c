/* SPDX-License-Identifier: MIT
 *
 * static_walk.c - a walk in a statically linked program. Usage: static_walk complete|any: how it must end.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "mod_alloc.h"
#include "unwind/unwind.h"

static void *map_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((noinline)) static moda_walk walk_here(uint64_t *frames) {
    const moda_unwind_start start = {
        .pc = (uintptr_t)__builtin_return_address(0),
        .sp = (uintptr_t)__builtin_dwarf_cfa(),
        .fp = *(const uintptr_t *)__builtin_frame_address(0),
    };
    return moda_unwind(&start, NULL, frames);
}

__attribute__((noinline)) static moda_walk recurse(int depth, uint64_t *frames) {
    char local[40];
    __asm__ volatile("" : : "r"(local) : "memory");
    moda_walk walk = depth > 0 ? recurse(depth - 1, frames) : walk_here(frames);
    __asm__ volatile("" : : "r"(local) : "memory");
    return walk;
}

int main(int argc, char **argv) {
    uint64_t frames[64];
    moda_unwind_set_memory(map_memory);
    moda_unwind_initialize(MODA_UNWIND_AUTO, 64);
    const moda_walk walk = recurse(5, frames);
    printf("%u frames, ended %u\n", walk.count, walk.end);
    if (argc > 1 && strcmp(argv[1], "any") == 0) {
        return walk.count >= 1 ? 0 : 1;
    }
    return walk.end == MOD_ALLOC_WALK_COMPLETE && walk.count >= 9 ? 0 : 1;
}
