/* SPDX-License-Identifier: MIT
 *
 * The header of a tracked block says what was written, in either of its forms; no bit of it can change unseen; and what is
 * no header, or was one, is told apart.
 */
#include "live/header.h"

#include <criterion/criterion.h>
#include <string.h>

static _Alignas(64) uint8_t memory[256];
static uint8_t *const p = memory + 128;

static const moda_live_birth births[] = {
    {.born = 12345, .requested = 100, .block_size = 112, .weight = 65536, .slot = 7, .offset = 32},
    {.born = 0,
     .requested = 0,
     .block_size = MODA_LIVE_SMALL_END - 1,
     .weight = 65536,
     .slot = 0xFFFF,
     .offset = 32},
    {.born = UINT64_MAX >> 1, .requested = 8, .block_size = 8, .weight = 65536, .slot = 0, .offset = 32},
    {.born = 12345, .requested = 100, .block_size = 112, .weight = 4.5e9f, .slot = 7, .offset = 48},
    {.born = 1,
     .requested = 1ull << 46,
     .block_size = 1ull << 47,
     .weight = 65536,
     .slot = 65535,
     .offset = 4096,
     .unusable = 4096},
};
enum { BIRTHS = sizeof births / sizeof births[0] };

static size_t size_of(int i) {
    return births[i].offset == 32 ? MODA_LIVE_SMALL_SIZE : MODA_LIVE_LARGE_SIZE;
}

static moda_live_header *write_header(int i, moda_ref site) {
    moda_live_initialize(UINT64_C(0x123456789abcdef1));
    moda_live_write(p, &births[i], site);
    return moda_live_header_at(p, size_of(i));
}

Test(live_header, says_what_was_written) {
    for (int i = 0; i < BIRTHS; i++) {
        const moda_live_header *header = write_header(i, 0xdeadbeef);
        cr_assert(moda_live_is_header(header, size_of(i)) && moda_live_is_intact(header, size_of(i)),
                  "birth %d", i);
        cr_assert_eq(moda_live_pointer(header), p);
        cr_assert_eq(header->site, 0xdeadbeef);
        const moda_live_birth read = moda_live_birth_of(header);
        cr_assert_eq(read.born, births[i].born, "birth %d", i);
        cr_assert_eq(read.requested, births[i].requested, "birth %d", i);
        cr_assert_eq(read.block_size, births[i].block_size, "birth %d", i);
        cr_assert_eq(read.weight, births[i].weight, "birth %d", i);
        cr_assert_eq(read.slot, births[i].slot, "birth %d", i);
        cr_assert_eq(read.offset, births[i].offset, "birth %d", i);
        cr_assert_eq(read.unusable, births[i].unusable, "birth %d", i);
    }
}

Test(live_header, one_flipped_bit_is_caught) {
    for (int i = 0; i < BIRTHS; i++) {
        for (moda_ref site = 1; site < 200; site += 11) {
            uint8_t *bytes = (uint8_t *)write_header(i, site * 0x01010101);
            for (size_t bit = 0; bit < 8 * size_of(i); bit++) {
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
                const moda_live_header *header = (const moda_live_header *)(void *)bytes;
                cr_assert_not(moda_live_is_header(header, size_of(i))
                                  && moda_live_is_intact(header, size_of(i)),
                              "birth %d, bit %zu", i, bit);
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
        }
    }
}

/* Each place from which a header could be looked for, near one. */
Test(live_header, proves_no_other_block_and_no_other_form) {
    static const size_t sizes[] = {MODA_LIVE_SMALL_SIZE, MODA_LIVE_LARGE_SIZE};
    for (int i = 0; i < BIRTHS; i++) {
        memset(memory, 0, sizeof memory);
        write_header(i, 3);
        for (uint8_t *other = memory + 48; other < memory + sizeof memory; other += 16) {
            for (int s = 0; s < 2; s++) {
                const bool is_it = other == p && sizes[s] == size_of(i);
                cr_assert_eq(moda_live_is_header(moda_live_header_at(other, sizes[s]), sizes[s]), is_it,
                             "birth %d, at %td, of %zu bytes", i, other - p, sizes[s]);
            }
        }
    }
}

Test(live_header, a_copy_is_no_header) {
    for (int i = 0; i < BIRTHS; i++) {
        moda_live_header *header = write_header(i, 3);
        memcpy(memory, header, size_of(i));
        cr_assert_not(moda_live_is_header((moda_live_header *)(void *)memory, size_of(i)));
    }
}

Test(live_header, what_was_buried_is_known_as_such) {
    for (int i = 0; i < BIRTHS; i++) {
        moda_live_header *header = write_header(i, 3);
        cr_assert_not(moda_live_is_buried(header, size_of(i)));
        const uint64_t check = header->check;
        moda_live_bury(header);
        cr_assert_not(moda_live_is_header(header, size_of(i)));
        cr_assert(moda_live_is_buried(header, size_of(i)));
        cr_assert_not(moda_live_is_buried(header, 80 - size_of(i)), "as the other form");
        header = write_header(i, 3);
        moda_live_bury_all_but_link(header, check);
        header->check = 0x7f0000001000; /* the free list's link */
        cr_assert(moda_live_is_buried(header, size_of(i)));
    }
}
