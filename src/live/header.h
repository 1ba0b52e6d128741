/* SPDX-License-Identifier: MIT
 *
 * header.h - what stands in front of a tracked block.
 *
 *      block of the second heap                    what malloc returned
 *      v                                           v
 *      | ... up to alignment ... | moda_live_header | the program's bytes ... |
 *      <------------------ offset ------------------>
 *
 *   small   check | born | site, slot | requested, block size, sum              of weight 1, offset 32, unusable 0
 *   large   check | born | site, weight | block size, sum | requested, slot | offset, unusable         of any block
 *
 * The first word proves the header: it is made from its address, its form and a secret of the process, and is
 * cleared at free, so neither old memory nor a copy of a header is taken for one. The page's mark is only a
 * hint that makes us look. `sum` is made of all other bits: one flipped bit is noticed, and ends the process, since the
 * counters would be wrong from then on.
 *
 * The small form is that of nearly all blocks where every allocation is recorded: a third less to write and to read again
 * for each, and blocks that lie closer together.
 */
#ifndef MODA_LIVE_HEADER_H
#define MODA_LIVE_HEADER_H

#include "base/compiler.h"
#include "region/layout.h"

typedef struct moda_live_header {
    uint64_t check;
    uint64_t born; /* when its life began, if that is timed: moda_born */
    moda_ref site;
    uint32_t kind; /* small: MODA_LIVE_SMALL | slot; large: the weight, a positive float's bits */
    uint64_t
        size_sum; /* small: requested : 24, block_size : 24, sum : 16; large: block_size : 48, sum : 16 */
    /* large only */
    uint64_t requested : 48;
    uint64_t slot : 16; /* of the thread that allocated it */
    uint32_t offset;    /* from the start of the block underneath */
    uint32_t
        unusable; /* block_size (as counted: of the block that it would have been, untracked) less this is what
                         * malloc_usable_size says */
} moda_live_header;

#define MODA_LIVE_SIZE_MAX 0xFFFFFFFFFFFFull /* addresses have 47 bits */
#define MODA_LIVE_LARGE_SIZE ((size_t)48)
#define MODA_LIVE_SMALL_SIZE ((size_t)32)
#define MODA_LIVE_SMALL UINT32_C(0x80000000)
/* Block sizes below this fit the small form; what is requested is never more. */
#define MODA_LIVE_SMALL_END ((size_t)1 << 24)

_Static_assert(sizeof(moda_live_header) == MODA_LIVE_LARGE_SIZE
                   && offsetof(moda_live_header, size_sum) + 8 == MODA_LIVE_SMALL_SIZE,
               "multiples of 16: the program's pointer stays aligned");

extern MODA_HIDDEN uint64_t moda_live_secret;

/* Another secret for each process: at start. */
void moda_live_initialize(uint64_t random);

/* ---- where it is ---- */

/* The header of that size that the block at p would have. */
MODA_INLINE moda_live_header *moda_live_header_at(void *p, size_t size) {
    return (moda_live_header *)(void *)((uint8_t *)p - size);
}

MODA_INLINE bool moda_live_is_small(const moda_live_header *header) {
    return (header->kind & MODA_LIVE_SMALL) != 0;
}

MODA_INLINE size_t moda_live_size(const moda_live_header *header) {
    return moda_live_is_small(header) ? MODA_LIVE_SMALL_SIZE : MODA_LIVE_LARGE_SIZE;
}

MODA_INLINE void *moda_live_pointer(const moda_live_header *header) {
    return (void *)((uintptr_t)header + moda_live_size(header));
}

/* ---- what proves it ---- */

#define MODA_LIVE_FACTOR UINT64_C(0x9E3779B97F4A7C15)

/* The form goes in, too: a small header must not prove a large one of the address 16 bytes on. */
MODA_INLINE uint64_t moda_live_check_of(const moda_live_header *header, size_t size) {
    return ((uint64_t)((uintptr_t)header + (size == MODA_LIVE_SMALL_SIZE ? 8 : 0)) ^ moda_live_secret)
               * MODA_LIVE_FACTOR
           | 1;
}

/* The sum's bits are the uppermost of a product: one bit of a word flipped changes the product by 2^k times the factor,
 * whose 16 uppermost bits are neither all zeroes nor all ones for any k, so the sum is another. */
MODA_INLINE uint64_t moda_live_sum_of(uint64_t words) {
    return words * MODA_LIVE_FACTOR >> 48;
}

/* Loaded as they were stored: a wider load of two fresh words would wait for both to reach the cache. */
typedef uint64_t __attribute__((may_alias)) moda_live_word;

/* The words of a small header, loaded once each: for who needs most of them. */
typedef struct moda_live_words {
    uint64_t born, site_and_kind, size_sum;
} moda_live_words;

MODA_INLINE moda_live_words moda_live_load(const moda_live_header *header) {
    const volatile moda_live_word *word = (const volatile moda_live_word *)(const volatile void *)header;
    return (moda_live_words){word[1], word[2], word[3]};
}

MODA_INLINE bool moda_live_are_intact(const moda_live_words *w) {
    return moda_live_sum_of(w->born ^ w->site_and_kind ^ (w->size_sum & MODA_LIVE_SIZE_MAX))
           == w->size_sum >> 48;
}

MODA_INLINE bool moda_live_is_header(const moda_live_header *header, size_t size) {
    return header->check == moda_live_check_of(header, size);
}

MODA_INLINE bool moda_live_is_intact(const moda_live_header *header, size_t size) {
    moda_live_words words = moda_live_load(header);
    if (size == MODA_LIVE_LARGE_SIZE) {
        const moda_live_word *word = (const moda_live_word *)(const void *)header;
        words.born ^= word[4] ^ word[5];
    }
    return moda_live_are_intact(&words) && moda_live_size(header) == size;
}

/* What a header says after the block's end, in the second word: the first becomes the free list's link. */
MODA_INLINE uint64_t moda_live_tombstone_for(uint64_t check) {
    return ~check;
}

/* The block ends, and its first word becomes the free list's link. Volatile for moda_live_write's reason. */
MODA_INLINE void moda_live_bury_all_but_link(moda_live_header *header, uint64_t check) {
    ((volatile moda_live_word *)(volatile void *)header)[1] = moda_live_tombstone_for(check);
}

/* The block ends: from now on this is no header. */
MODA_INLINE void moda_live_bury(moda_live_header *header) {
    header->check = 0;
    header->born = moda_live_tombstone_for(moda_live_check_of(header, moda_live_size(header)));
}

/* Whether the header of that size, of the block that was at p, was buried. */
MODA_INLINE bool moda_live_is_buried(const moda_live_header *header, size_t size) {
    return header->born == moda_live_tombstone_for(moda_live_check_of(header, size));
}

/* ---- what it says ---- */

MODA_INLINE size_t moda_live_block_size(const moda_live_header *header) {
    const uint64_t sizes = header->size_sum & MODA_LIVE_SIZE_MAX;
    return moda_live_is_small(header) ? sizes >> 24 : sizes;
}

MODA_INLINE size_t moda_live_requested(const moda_live_header *header) {
    return moda_live_is_small(header) ? header->size_sum & (MODA_LIVE_SMALL_END - 1) : header->requested;
}

MODA_INLINE uint32_t moda_live_slot(const moda_live_header *header) {
    return moda_live_is_small(header) ? header->kind & 0xFFFF : header->slot;
}

MODA_INLINE float moda_live_weight(const moda_live_header *header) {
    float weight = (float)MODA_COUNT_ONE;
    if (!moda_live_is_small(header)) {
        __builtin_memcpy(&weight, &header->kind, sizeof weight);
    }
    return weight;
}

MODA_INLINE uint32_t moda_live_offset(const moda_live_header *header) {
    return moda_live_is_small(header) ? (uint32_t)MODA_LIVE_SMALL_SIZE : header->offset;
}

MODA_INLINE uint32_t moda_live_unusable(const moda_live_header *header) {
    return moda_live_is_small(header) ? 0 : header->unusable;
}

MODA_INLINE size_t moda_live_usable(const moda_live_header *header) {
    return moda_live_block_size(header) - moda_live_unusable(header);
}

/* ---- writing it ---- */

/* What is known of a block when it begins. With the offset MODA_LIVE_SMALL_SIZE, its header is a small one. */
typedef struct moda_live_birth {
    uint64_t born;
    uint64_t requested;
    uint64_t block_size;
    float weight;
    uint32_t slot;
    uint32_t offset;
    uint32_t unusable;
} moda_live_birth;

/* Whole words at a time: a load of one that was written in halves waits for them. Volatile, since
 * gcc would gather the words on the stack and move them two by two: each such load waits until both stores have left
 * for the cache, and everything behind it, too (8 ns of a pair). */
MODA_INLINE void moda_live_write_small(moda_live_header *header, const moda_live_birth *birth,
                                       moda_ref site) {
    volatile moda_live_word *out = (volatile moda_live_word *)(volatile void *)header;
    const uint64_t site_and_kind = site | (uint64_t)(MODA_LIVE_SMALL | birth->slot) << 32;
    const uint64_t sizes = birth->requested | birth->block_size << 24;
    out[0] = moda_live_check_of(header, MODA_LIVE_SMALL_SIZE);
    out[1] = birth->born;
    out[2] = site_and_kind;
    out[3] = sizes | moda_live_sum_of(birth->born ^ site_and_kind ^ sizes) << 48;
}

MODA_INLINE void moda_live_write_large(moda_live_header *header, const moda_live_birth *birth,
                                       moda_ref site) {
    volatile moda_live_word *out = (volatile moda_live_word *)(volatile void *)header;
    uint32_t weight;
    __builtin_memcpy(&weight, &birth->weight, sizeof weight);
    const uint64_t words[6] = {
        moda_live_check_of(header, MODA_LIVE_LARGE_SIZE),
        birth->born,
        site | (uint64_t)weight << 32,
        birth->block_size & MODA_LIVE_SIZE_MAX,
        (birth->requested & MODA_LIVE_SIZE_MAX) | (uint64_t)birth->slot << 48,
        birth->offset | (uint64_t)birth->unusable << 32,
    };
    const uint64_t sum = moda_live_sum_of(words[1] ^ words[2] ^ words[3] ^ words[4] ^ words[5]);
    out[0] = words[0];
    out[1] = words[1];
    out[2] = words[2];
    out[3] = words[3] | sum << 48;
    out[4] = words[4];
    out[5] = words[5];
}
_Static_assert(offsetof(moda_live_header, born) == 8 && offsetof(moda_live_header, site) == 16
                   && offsetof(moda_live_header, kind) == 20 && offsetof(moda_live_header, size_sum) == 24
                   && offsetof(moda_live_header, offset) == 40 && offsetof(moda_live_header, unusable) == 44,
               "the words of moda_live_write");

/* Of the block at p. */
MODA_INLINE void moda_live_write(void *p, const moda_live_birth *birth, moda_ref site) {
    if (birth->offset == MODA_LIVE_SMALL_SIZE) {
        moda_live_write_small(moda_live_header_at(p, MODA_LIVE_SMALL_SIZE), birth, site);
    } else {
        moda_live_write_large(moda_live_header_at(p, MODA_LIVE_LARGE_SIZE), birth, site);
    }
}

/* The same block, in short: for one that gets another site. */
MODA_INLINE moda_live_birth moda_live_birth_of(const moda_live_header *header) {
    return (moda_live_birth){
        .born = header->born,
        .requested = moda_live_requested(header),
        .block_size = moda_live_block_size(header),
        .weight = moda_live_weight(header),
        .slot = moda_live_slot(header),
        .offset = moda_live_offset(header),
        .unusable = moda_live_unusable(header),
    };
}

#endif
