/* SPDX-License-Identifier: MIT
 *
 * support.c - see support.h.
 */
#include "support.h"

static __thread moda_unwind_thread *thread_memory;

void *support_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void support_begin(moda_walker_id walker) {
    void *warm[2];
    backtrace(warm, 2); /* its first call loads libgcc_s */
    moda_unwind_set_memory(support_memory);
    moda_unwind_initialize(walker, SUPPORT_FRAMES_MAX);
}

static uint32_t copy_from(void **to, void **from, int count, uintptr_t first) {
    int i = 0;
    while (i < count && (uintptr_t)from[i] != first) {
        i++;
    }
    uint32_t copied = 0;
    while (i < count && copied < SUPPORT_FRAMES_MAX) {
        to[copied++] = from[i++];
    }
    return copied;
}

__attribute__((noinline)) void support_walk(support_result *result) {
    const moda_unwind_start start = START_OF_CALLER();
    if (thread_memory == NULL) {
        thread_memory = support_memory(moda_unwind_thread_size(SUPPORT_FRAMES_MAX));
    }
    result->plain = moda_unwind(&start, NULL, result->frames);
    result->kept = moda_unwind(&start, thread_memory, result->kept_frames);
    void *reference[SUPPORT_FRAMES_MAX + 4];
    const int count = backtrace(reference, SUPPORT_FRAMES_MAX + 4);
    result->reference_count = copy_from(result->reference, reference, count, start.pc);
    result->is_same = result->plain.count == result->reference_count;
    for (uint32_t i = 0; i < result->plain.count && result->is_same; i++) {
        result->is_same = result->frames[i] == (uintptr_t)result->reference[i];
    }
    result->is_same_kept =
        result->plain.count == result->kept.count && result->plain.end == result->kept.end
        && memcmp(result->frames, result->kept_frames, (size_t)result->plain.count * 8) == 0;
    KEEP(result);
}
