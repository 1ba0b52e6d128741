/* SPDX-License-Identifier: MIT
 *
 * many_sites.c SITES - allocates from that many call stacks, all different, two blocks from each and one of them
 * freed: a profile of it, with every allocation sampled, is a large one.
 *
 * A stack is a number to base 10: level by level one of ten functions is called, each from a place of its own in
 * its caller. Five levels hold 100,000 stacks of some 500 addresses: large programs, too, have few addresses and
 * many stacks.
 */
#include "loop.h"

LOOP_SINK;

/* The barriers keep calls from being jumps, and functions that look alike from being one. */
#define BARRIER(block) __asm__ volatile("" : "+r"(block) : : "memory")

__attribute__((noinline)) static void *allocate(size_t path) {
    void *block = malloc(16 + path % 7 * 16);
    BARRIER(block);
    return block;
}

/* clang-format off */
#define TEN(MACRO, level, next)                                                                          \
    MACRO(level, next, 0) MACRO(level, next, 1) MACRO(level, next, 2) MACRO(level, next, 3)              \
    MACRO(level, next, 4) MACRO(level, next, 5) MACRO(level, next, 6) MACRO(level, next, 7)              \
    MACRO(level, next, 8) MACRO(level, next, 9)
#define ANOTHER_TEN(MACRO, level, next)                                                                  \
    MACRO(level, next, 0) MACRO(level, next, 1) MACRO(level, next, 2) MACRO(level, next, 3)              \
    MACRO(level, next, 4) MACRO(level, next, 5) MACRO(level, next, 6) MACRO(level, next, 7)              \
    MACRO(level, next, 8) MACRO(level, next, 9)

#define LAST(level, next, digit)                                                                         \
    __attribute__((noinline)) static void *level##_##digit(size_t path) {                                \
        void *block = allocate(path + digit);                                                            \
        BARRIER(block);                                                                                  \
        return block;                                                                                    \
    }
#define CALL(level, next, digit)                                                                         \
        case digit:                                                                                      \
            block = next##_##digit(path / 10);                                                           \
            BARRIER(block);                                                                              \
            break;
#define FUNCTION(level, next, digit)                                                                     \
    __attribute__((noinline)) static void *level##_##digit(size_t path) {                                \
        void *block = NULL;                                                                              \
        switch (path % 10) {                                                                             \
            ANOTHER_TEN(CALL, level, next)                                                               \
        default:                                                                                         \
            break;                                                                                       \
        }                                                                                                \
        return block;                                                                                    \
    }

TEN(LAST, fifth, none)
TEN(FUNCTION, fourth, fifth)
TEN(FUNCTION, third, fourth)
TEN(FUNCTION, second, third)
TEN(FUNCTION, first, second)
FUNCTION(start, first, 0)
/* clang-format on */

int main(int argc, char **argv) {
    const size_t sites = loop_argument(argc, argv, 1, 100000);
    for (size_t path = 0; path < sites; path++) {
        for (int is_freed = 0; is_freed < 2; is_freed++) {
            loop_sink = start_0(path);
            if (is_freed) {
                free(loop_sink);
            }
        }
    }
    return 0;
}
