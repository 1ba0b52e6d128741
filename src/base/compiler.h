/* SPDX-License-Identifier: MIT
 *
 * compiler.h - what we ask of the compiler and the instruction set: the only file with #if on either.
 */
#ifndef MODA_BASE_COMPILER_H
#define MODA_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define moda_likely(x) __builtin_expect(!!(x), 1)
#define moda_unlikely(x) __builtin_expect(!!(x), 0)
#define MODA_NOINLINE __attribute__((noinline))
#define MODA_INLINE static inline __attribute__((always_inline))
#define MODA_COLD __attribute__((noinline, cold))
#define MODA_HIDDEN __attribute__((visibility("hidden")))
#define MODA_EXPORT __attribute__((visibility("default")))
#define MODA_WEAK __attribute__((weak))
/* Called through the table that the dynamic loader fills, without a stub that jumps there. */
#if __has_attribute(noplt)
#define MODA_NOPLT __attribute__((noplt))
#else
#define MODA_NOPLT
#endif
#define MODA_NORETURN __attribute__((noreturn))
#define MODA_PRINTF(text, first) __attribute__((format(printf, text, first)))
/* Thread-local data of the preloaded library: one load from a fixed offset, no call. */
#define MODA_TLS __thread __attribute__((tls_model("initial-exec")))
/* Of an alias: the attributes of what it stands for, so that gcc sees no difference. */
#if __has_attribute(copy)
#define MODA_LIKE(target) copy(target)
#else
#define MODA_LIKE(target) used
#endif
#define MODA_CACHE_LINE 64
#define moda_assume(x) ((x) ? (void)0 : __builtin_unreachable())
/* Has the value in a register here: what it is made of is not mixed with what is made of it. */
#define moda_keep(value) __asm__("" : "+r"(value))
/* The same, in the register that a function returns: gcc would put it elsewhere, and move it there at the end. */
#if defined(__x86_64__)
#define moda_keep_as_result(value) __asm__("" : "+a"(value))
#else
#define moda_keep_as_result(value) ((void)0)
#endif

#define moda_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define moda_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define moda_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define moda_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define moda_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)

/* Adds to a word that this thread alone writes and others read: no lock prefix, no torn value, and (on
 * x86) one instruction, so that a signal handler on the same thread never sees or loses half of it. gcc 12
 * makes three of a relaxed load and store, and with plain C may merge neighbouring words into one
 * vector add (4 instructions more on the malloc path). */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define MODA_ASM_ADD 1
#else
#define MODA_ASM_ADD 0
#endif

#if MODA_ASM_ADD
MODA_INLINE void moda_own_add(uint64_t *word, uint64_t n) {
    __asm__("addq %1, %0" : "+m"(*word) : "er"(n) : "cc");
}
MODA_INLINE void moda_own_increment(uint64_t *word) {
    __asm__("incq %0" : "+m"(*word) : : "cc");
}
MODA_INLINE void moda_own_increment_32(uint32_t *word) {
    __asm__("incl %0" : "+m"(*word) : : "cc");
}
MODA_INLINE void moda_own_subtract(int64_t *word, uint64_t n) {
    __asm__("subq %1, %0" : "+m"(*word) : "er"(n) : "cc");
}
/* True if the word is below 0 afterwards. */
MODA_INLINE bool moda_own_subtract_is_negative(int64_t *word, uint64_t n) {
    bool negative;
    __asm__("subq %2, %0" : "+m"(*word), "=@ccs"(negative) : "er"(n));
    return negative;
}
/* a < b, of two words of the owner's: a load and a compare with memory, where two relaxed loads take one more. */
MODA_INLINE bool moda_own_is_less(const int64_t *a, const int64_t *b) {
    bool less;
    __asm__("cmpq %2, %1" : "=@ccl"(less) : "r"(*a), "m"(*b));
    return less;
}
#else
MODA_INLINE bool moda_own_is_less(const int64_t *a, const int64_t *b) {
    return moda_load_relaxed(a) < moda_load_relaxed(b);
}
MODA_INLINE void moda_own_add(uint64_t *word, uint64_t n) {
    moda_store_relaxed(word, moda_load_relaxed(word) + n);
}
MODA_INLINE void moda_own_increment(uint64_t *word) {
    moda_own_add(word, 1);
}
MODA_INLINE void moda_own_increment_32(uint32_t *word) {
    moda_store_relaxed(word, moda_load_relaxed(word) + 1);
}
MODA_INLINE void moda_own_subtract(int64_t *word, uint64_t n) {
    moda_store_relaxed(word, moda_load_relaxed(word) - (int64_t)n);
}
MODA_INLINE bool moda_own_subtract_is_negative(int64_t *word, uint64_t n) {
    const int64_t left = moda_load_relaxed(word) - (int64_t)n;
    moda_store_relaxed(word, left);
    return left < 0;
}
#endif

/* Puts an item in front of a list of this thread's, where a signal handler may come in between and do the same; `link` is
 * the item's word for the next one. */
#define moda_own_push(list, item, link)                                                                      \
    do {                                                                                                     \
        (link) = moda_load_relaxed(list);                                                                    \
    } while (!__atomic_compare_exchange_n((list), &(link), (item), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))

/* value * constant, in one instruction: for 80 and 96 gcc takes two, which a free pays for (batches of 64 bytes: 1.08 of
 * plain mimalloc's time; 1.05 with one). */
#if defined(__x86_64__)
#define moda_times(value, constant)                                                                          \
    __extension__({                                                                                          \
        size_t product_ = (value);                                                                           \
        __asm__("imulq %1, %0, %0" : "+r"(product_) : "i"(constant) : "cc");                                 \
        product_;                                                                                            \
    })
#else
#define moda_times(value, constant) ((value) * (constant))
#endif

/* Asks the caches for what will be written soon; any address is right, also none at all. */
#define moda_prefetch(p) __builtin_prefetch((p), 1, 3)

/* A counter of time that costs a few nanoseconds and is the same on all cores. */
#if defined(__x86_64__)
MODA_INLINE uint64_t moda_ticks(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((uint64_t)high << 32) | low;
}
MODA_INLINE void moda_pause(void) {
    __asm__ volatile("pause");
}
#define MODA_MACHINE "x86_64"
#elif defined(__aarch64__)
MODA_INLINE uint64_t moda_ticks(void) {
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
MODA_INLINE void moda_pause(void) {
    __asm__ volatile("yield");
}
#define MODA_MACHINE "aarch64"
#else
#error "mod-alloc knows x86-64 and aarch64"
#endif

#endif
