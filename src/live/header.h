/* SPDX-License-Identifier: MIT
 *
 * header.h - what stands in front of a tracked block.
 *
 *      block of the second heap                    what malloc returned
 *      v                                           v
 *      | ... up to alignment ... | moda_live_header | the program's bytes ... |
 *      <------------------ offset ------------------>
 *
 * The first word proves the header: it is made from the program's address and a secret of the process, and is
 * cleared at free, so neither old memory nor a copy of a header is taken for one. The page's mark is only a
 * hint that makes us look. `sum` is the parity of all other bits, bit lane by bit lane: one flipped bit is
 * noticed, and ends the process, since the counters would be wrong from then on.
 */
#ifndef MODA_LIVE_HEADER_H
#define MODA_LIVE_HEADER_H

#include "base/compiler.h"
#include "region/layout.h"

typedef struct moda_live_header {
    uint64_t check;
    uint64_t born; /* when its life began, if that is timed: moda_born */
    moda_ref site;
    float weight; /* allocations it stands for, x 65536 */
    uint64_t requested : 48;
    uint64_t slot : 16;       /* of the thread that allocated it */
    uint64_t block_size : 48; /* as counted: of the block that it would have been, untracked */
    uint64_t sum : 16;
    uint32_t offset;   /* from the start of the block underneath */
    uint32_t unusable; /* block_size less this is what malloc_usable_size says */
} moda_live_header;

#define MODA_LIVE_SIZE_MAX 0xFFFFFFFFFFFFull /* addresses have 47 bits */
#define MODA_LIVE_HEADER_SIZE sizeof(moda_live_header)

_Static_assert(sizeof(moda_live_header) == 48, "a multiple of 16: the program's pointer stays aligned");

extern MODA_HIDDEN uint64_t moda_live_secret;

/* Another secret for each process: at start. */
void moda_live_initialize(uint64_t random);

MODA_INLINE moda_live_header *moda_live_header_at(void *p) {
    return (moda_live_header *)p - 1;
}

MODA_INLINE void *moda_live_pointer(const moda_live_header *header) {
    return (void *)(uintptr_t)(header + 1);
}

MODA_INLINE uint64_t moda_live_check_of(const moda_live_header *header) {
    return ((uint64_t)(uintptr_t)header ^ moda_live_secret) * 0x9E3779B97F4A7C15u | 1;
}

MODA_INLINE uint16_t moda_live_fold(uint64_t words) {
    words ^= words >> 32;
    return (uint16_t)(words ^ words >> 16);
}

/* Loaded as they were stored: a wider load of two fresh words would wait for both to reach the cache. */
typedef uint64_t __attribute__((may_alias)) moda_live_word;

/* The same words, loaded once each: for who needs most of them. */
typedef struct moda_live_words {
    uint64_t born, site_and_weight, requested_and_slot, size_and_sum, offset_and_unusable;
} moda_live_words;

MODA_INLINE moda_live_words moda_live_load(const moda_live_header *header) {
    const volatile moda_live_word *word = (const volatile moda_live_word *)(const volatile void *)header;
    return (moda_live_words){word[1], word[2], word[3], word[4], word[5]};
}

MODA_INLINE bool moda_live_are_intact(const moda_live_words *w) {
    return moda_live_fold(w->born ^ w->site_and_weight ^ w->requested_and_slot
                          ^ (w->size_and_sum & MODA_LIVE_SIZE_MAX) ^ w->offset_and_unusable)
           == w->size_and_sum >> 48;
}

/* What a header says after the block's end, in the second word: the first becomes the free list's link. */
MODA_INLINE uint64_t moda_live_tombstone_for(uint64_t check) {
    return ~check;
}

MODA_INLINE uint64_t moda_live_tombstone_of(const moda_live_header *header) {
    return moda_live_tombstone_for(moda_live_check_of(header));
}

/* The block ends, and its first word becomes the free list's link. Volatile for moda_live_write's reason. */
MODA_INLINE void moda_live_bury_all_but_link(moda_live_header *header, uint64_t check) {
    ((volatile moda_live_word *)(volatile void *)header)[1] = moda_live_tombstone_for(check);
}

/* The block ends: from now on this is no header. */
MODA_INLINE void moda_live_bury(moda_live_header *header) {
    header->check = 0;
    header->born = moda_live_tombstone_of(header);
}

MODA_INLINE bool moda_live_is_buried(const moda_live_header *header) {
    return header->born == moda_live_tombstone_of(header);
}

/* What is known of a block when it begins. */
typedef struct moda_live_birth {
    uint64_t born;
    uint64_t requested;
    uint64_t block_size;
    float weight;
    uint32_t slot;
    uint32_t offset;
    uint32_t unusable;
} moda_live_birth;

/* Writes the header, whole words at a time: a load of one that was written in halves waits for them. Volatile, since
 * gcc would gather the words on the stack and move them two by two: each such load waits until both stores have left
 * for the cache, and everything behind it, too (8 ns of a pair). */
MODA_INLINE void moda_live_write(moda_live_header *header, const moda_live_birth *birth, moda_ref site) {
    uint32_t weight;
    __builtin_memcpy(&weight, &birth->weight, sizeof weight);
    const uint64_t words[6] = {
        moda_live_check_of(header),
        birth->born,
        site | (uint64_t)weight << 32,
        (birth->requested & MODA_LIVE_SIZE_MAX) | (uint64_t)birth->slot << 48,
        birth->block_size & MODA_LIVE_SIZE_MAX,
        birth->offset | (uint64_t)birth->unusable << 32,
    };
    const uint64_t sum = moda_live_fold(words[1] ^ words[2] ^ words[3] ^ words[4] ^ words[5]);
    volatile moda_live_word *out = (volatile moda_live_word *)(volatile void *)header;
    out[0] = words[0];
    out[1] = words[1];
    out[2] = words[2];
    out[3] = words[3];
    out[4] = words[4] | sum << 48;
    out[5] = words[5];
}
_Static_assert(offsetof(moda_live_header, born) == 8 && offsetof(moda_live_header, site) == 16
                   && offsetof(moda_live_header, weight) == 20 && offsetof(moda_live_header, offset) == 40
                   && offsetof(moda_live_header, unusable) == 44,
               "the words of moda_live_write");

/* The same block, in short: for one that gets another site. */
MODA_INLINE moda_live_birth moda_live_birth_of(const moda_live_header *header) {
    return (moda_live_birth){
        .born = header->born,
        .requested = header->requested,
        .block_size = header->block_size,
        .weight = header->weight,
        .slot = header->slot,
        .offset = header->offset,
        .unusable = header->unusable,
    };
}

MODA_INLINE bool moda_live_is_header(const moda_live_header *header) {
    return header->check == moda_live_check_of(header);
}

MODA_INLINE bool moda_live_is_intact(const moda_live_header *header) {
    const moda_live_words words = moda_live_load(header);
    return moda_live_are_intact(&words);
}

MODA_INLINE size_t moda_live_usable(const moda_live_header *header) {
    return header->block_size - header->unusable;
}

#endif
