/* SPDX-License-Identifier: MIT
 *
 * Each slot is in the sums once, wherever it found room.
 */
#include "region/region.h"
#include "shard/shard.h"

#include <criterion/criterion.h>

moda_shard *moda_attach(void) {
    return moda_shard_of_thread;
}

static void take_slots(uint32_t count, size_t bytes) {
    for (uint32_t i = 0; i < count; i++) {
        moda_shard *shard = moda_registry_take();
        cr_assert_not_null(shard);
        moda_shard_set_countdown(shard, MODA_PUBLISH_BYTES);
        moda_shard_count_malloc(shard, bytes, bytes);
    }
}

/* A disk that is full for a while: slots are then in memory of our own, and, where there is room again, in the region. */
Test(shard_registry, slots_that_found_no_room_in_the_region_count_once) {
    const moda_region_options options = {.memory_max = 1 << 24, .frames_max = 64, .mimalloc_version = "test"};
    cr_assert(moda_region_create(&options) && moda_registry_initialize());
    moda_region_header *header = moda_region();
    const uint64_t memory_max = header->memory_max;
    take_slots(7, 16);
    header->memory_max = (header->used + header->page_size - 1) / header->page_size * header->page_size;
    take_slots(32, 160);
    header->memory_max = memory_max;
    take_slots(32, 1600);
    moda_totals totals;
    moda_totals_read(&totals);
    cr_assert_eq(header->slot_count, 1 + 7 + 32 + 32);
    cr_assert_eq(totals.counts.alloc_count, 7 + 32 + 32);
    cr_assert_eq(totals.counts.total_bytes, 7 * 16 + 32 * 160 + 32 * 1600, "%zu bytes",
                 (size_t)totals.counts.total_bytes);
    for (uint32_t i = 0; i < header->slot_count; i++) {
        cr_assert_eq(moda_registry_slot(i)->index, i);
    }
}
