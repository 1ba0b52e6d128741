/* SPDX-License-Identifier: MIT
 *
 * oracle.c - preloaded into a program, walks the stack of every malloc, calloc and realloc with our walker
 * and with libunwind, and counts how often they agree.
 *
 * libunwind is opened with RTLD_LOCAL, since its backtrace and _Unwind_ functions must not take the place of
 * libgcc's. The comparison starts at the program's call, from the same registers. Forms checked for each
 * stack: a plain walk against libunwind's; the incremental walk against the plain one; `reused` against
 * what the thread's last walk gave.
 */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <fcntl.h>
#include <libunwind.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mod_alloc.h"
#include "oracle.h"
#include "unwind/row_cache.h"
#include "unwind/unwind.h"
#include "unwind/walk.h"

enum { FRAMES_MAX = 512, FRAMES_ABOVE_START_MAX = 16, EARLY_BYTES = 65536, MUTATE_AFTER = 2000 };

static MODA_TLS bool is_inside;
static MODA_TLS struct thread_state {
    moda_unwind_thread *walker;
    uint32_t last_count;
    uint64_t last[FRAMES_MAX];
} * thread_state;

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);

static int (*unwind_init)(unw_cursor_t *, unw_context_t *);
static int (*unwind_step)(unw_cursor_t *);
static int (*unwind_register)(unw_cursor_t *, unw_regnum_t, unw_word_t *);
static int (*unwind_context)(unw_tdep_context_t *);

static oracle_counts *counts;
static uint64_t stacks_left;
static uint32_t frames_max = 64;
static uint64_t mutate_each;
static int64_t differences_to_print;

static void *map_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void count(uint64_t *counter, uint64_t n) {
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* dlsym itself allocates before the real functions are known. */
static void *allocate_early(size_t bytes) {
    static char early[EARLY_BYTES] __attribute__((aligned(16)));
    static size_t used;
    const size_t start = __atomic_fetch_add(&used, (bytes + 15) & ~(size_t)15, __ATOMIC_RELAXED);
    return start + bytes <= sizeof early ? early + start : NULL;
}

static void find_real(void) {
    static bool is_finding;
    if (real_realloc != NULL || is_finding) {
        return;
    }
    is_finding = true;
    real_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    real_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    real_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    is_finding = false;
}

static uint64_t number_in(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static bool find_libunwind(void) {
    void *library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return false;
    }
    unwind_init = (int (*)(unw_cursor_t *, unw_context_t *))dlsym(library, "_ULx86_64_init_local");
    unwind_step = (int (*)(unw_cursor_t *))dlsym(library, "_ULx86_64_step");
    unwind_register =
        (int (*)(unw_cursor_t *, unw_regnum_t, unw_word_t *))dlsym(library, "_ULx86_64_get_reg");
    unwind_context = (int (*)(unw_tdep_context_t *))dlsym(library, "_Ux86_64_getcontext");
    return unwind_init != NULL && unwind_step != NULL && unwind_register != NULL && unwind_context != NULL;
}

__attribute__((constructor)) static void begin(void) {
    is_inside = true;
    find_real();
    const char *path = getenv(ORACLE_COUNTS_VARIABLE);
    const int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && find_libunwind()) {
        void *mapped = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        frames_max = (uint32_t)number_in(ORACLE_FRAMES_VARIABLE, 64);
        frames_max = frames_max > FRAMES_MAX ? FRAMES_MAX : frames_max;
        stacks_left = number_in(ORACLE_MAX_VARIABLE, UINT64_MAX);
        mutate_each = number_in(ORACLE_MUTATE_VARIABLE, 0);
        differences_to_print = (int64_t)number_in(ORACLE_VERBOSE_VARIABLE, 0);
        moda_unwind_set_memory(map_memory);
        moda_unwind_initialize(MODA_UNWIND_AUTO, frames_max);
        if (mapped != MAP_FAILED) {
            counts = mapped;
            count(&counts->processes, 1);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    is_inside = false;
}

/* libunwind's frames, from the one at `start` on; 0 if it never comes by there. */
__attribute__((noinline)) static uint32_t walk_libunwind(const moda_unwind_start *start, uint64_t *frames) {
    unw_context_t context;
    unw_cursor_t cursor;
    unwind_context(&context);
    if (unwind_init(&cursor, &context) < 0) {
        return 0;
    }
    uint32_t found = 0;
    for (uint32_t above = 0; found < frames_max && above < FRAMES_ABOVE_START_MAX;) {
        unw_word_t pc = 0, sp = 0;
        unwind_register(&cursor, UNW_REG_IP, &pc);
        unwind_register(&cursor, UNW_REG_SP, &sp);
        if (pc == 0) {
            break;
        }
        if (found != 0 || (pc == start->pc && sp == start->sp)) {
            frames[found++] = pc;
        } else {
            above++;
        }
        if (unwind_step(&cursor) <= 0) {
            break;
        }
    }
    return found;
}

static void print_frames(const char *who, const uint64_t *frames, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        Dl_info info;
        const bool is_known = dladdr((void *)frames[i], &info) != 0;
        fprintf(stderr, "  %s %2u %#lx %s+%#lx %s\n", who, i, frames[i], is_known ? info.dli_fname : "?",
                is_known ? frames[i] - (uintptr_t)info.dli_fbase : 0,
                is_known && info.dli_sname != NULL ? info.dli_sname : "");
    }
}

static void print_difference(const uint64_t *ours, const moda_walk *walk, const uint64_t *theirs,
                             uint32_t n) {
    if (__atomic_fetch_sub(&differences_to_print, 1, __ATOMIC_RELAXED) <= 0) {
        return;
    }
    fprintf(stderr, "oracle: different stacks; ours ended %u, %u guessed\n", walk->end, walk->guessed);
    print_frames("ours", ours, walk->count);
    print_frames("libunwind", theirs, n);
}

/* Spoils rows: the comparison must notice. */
static void mutate_rows(void) {
    moda_row_table *table = moda_rows.table;
    uint64_t seen = 0;
    for (size_t i = 0; table != NULL && i < (size_t)1 << table->bits; i++) {
        if (table->slot[i].row != 0 && ++seen % mutate_each == 0) {
            table->slot[i].row += (moda_row)1 << 40;
        }
    }
}

static struct thread_state *state_of_thread(void) {
    if (thread_state == NULL) {
        thread_state = map_memory(sizeof *thread_state);
        thread_state->walker = map_memory(moda_unwind_thread_size(frames_max));
    }
    return thread_state;
}

static bool is_tail(const uint64_t *frames, const moda_walk *walk, const struct thread_state *state) {
    return walk->reused <= walk->count && walk->reused <= state->last_count
           && memcmp(frames + walk->count - walk->reused, state->last + state->last_count - walk->reused,
                     walk->reused * sizeof *frames)
                  == 0;
}

static void check_incremental(const moda_unwind_start *start, const moda_walk *plain,
                              const uint64_t *expected) {
    uint64_t frames[FRAMES_MAX];
    struct thread_state *state = state_of_thread();
    const moda_walk walk = moda_unwind(start, state->walker, frames);
    if (walk.count != plain->count || walk.end != plain->end || walk.guessed != plain->guessed
        || memcmp(frames, expected, walk.count * sizeof *frames) != 0) {
        count(&counts->incremental_wrong, 1);
    }
    if (!is_tail(frames, &walk, state)) {
        count(&counts->reuse_wrong, 1);
    }
    count(&counts->reused_frames, walk.reused);
    memcpy(state->last, frames, walk.count * sizeof *frames);
    state->last_count = walk.count;
}

static void check_frame_pointers(const moda_unwind_start *start, const moda_walk *plain,
                                 const uint64_t *expected) {
    uint64_t frames[FRAMES_MAX];
    const moda_walk_job job = {.start = start, .frames = frames, .limit = frames_max};
    const moda_walk walk = moda_frame_pointer_walk(&job);
    if (walk.count == plain->count && memcmp(frames, expected, walk.count * sizeof *frames) == 0) {
        count(&counts->fp_equal, 1);
    }
}

__attribute__((noinline)) static void compare(const moda_unwind_start *start) {
    uint64_t ours[FRAMES_MAX], theirs[FRAMES_MAX];
    const uint64_t number = __atomic_fetch_add(&counts->stacks, 1, __ATOMIC_RELAXED);
    if (mutate_each != 0 && number == MUTATE_AFTER) {
        mutate_rows();
    }
    const moda_walk walk = moda_unwind(start, NULL, ours);
    check_incremental(start, &walk, ours);
    check_frame_pointers(start, &walk, ours);
    const uint32_t n = walk_libunwind(start, theirs);
    count(&counts->frames, walk.count);
    count(&counts->ends[walk.end], 1);
    count(&counts->guessed, walk.guessed != 0);
    if (n == walk.count && memcmp(ours, theirs, n * sizeof *ours) == 0) {
        count(&counts->equal, 1);
    } else if (n != 0 && n < walk.count && memcmp(ours, theirs, n * sizeof *ours) == 0) {
        count(&counts->longer, 1);
        print_difference(ours, &walk, theirs, n);
    } else {
        print_difference(ours, &walk, theirs, n);
    }
}

static bool wants_comparison(void) {
    if (is_inside || counts == NULL || __atomic_load_n(&stacks_left, __ATOMIC_RELAXED) == 0) {
        return false;
    }
    __atomic_fetch_sub(&stacks_left, 1, __ATOMIC_RELAXED);
    return true;
}

#define COMPARE_FROM_CALLER()                                                                                \
    do {                                                                                                     \
        if (wants_comparison()) {                                                                            \
            const uintptr_t *frame = __builtin_frame_address(0);                                             \
            const moda_unwind_start start = {.pc = frame[1], .sp = (uintptr_t)(frame + 2), .fp = frame[0]};  \
            is_inside = true;                                                                                \
            compare(&start);                                                                                 \
            is_inside = false;                                                                               \
        }                                                                                                    \
    } while (0)

MODA_EXPORT void *malloc(size_t size) {
    find_real();
    COMPARE_FROM_CALLER();
    void *block = real_malloc != NULL ? real_malloc(size) : allocate_early(size);
    __asm__ volatile("" : "+r"(block)); /* no tail call: this frame must stay while it is compared */
    return block;
}

MODA_EXPORT void *calloc(size_t nmemb, size_t size) {
    find_real();
    COMPARE_FROM_CALLER();
    void *block = real_calloc != NULL ? real_calloc(nmemb, size) : allocate_early(nmemb * size);
    __asm__ volatile("" : "+r"(block));
    return block;
}

MODA_EXPORT void *realloc(void *ptr, size_t size) {
    find_real();
    COMPARE_FROM_CALLER();
    void *block = real_realloc(ptr, size);
    __asm__ volatile("" : "+r"(block));
    return block;
}
