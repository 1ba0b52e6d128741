/* SPDX-License-Identifier: MIT
 *
 * region_threads.c - the region and its list of modules without the allocator: threads take memory and note the
 * objects that they run in, one opens and closes an object over and over, one reads the list all the while. Built
 * with ThreadSanitizer over src/region, src/base and src/os. Then every block must hold what its thread wrote, and
 * the list every object, once for each time it was there.
 *
 * region_threads PLUGIN [turns]
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region/modules.h"
#include "region/region.h"

enum { THREADS = 4, BLOCKS = 20000 };

typedef struct block {
    unsigned char *bytes;
    size_t size;
} block;

static block blocks[THREADS][BLOCKS];
static uint64_t places_read;
static uint32_t turns = 500;
static int stop;

static void check(bool claim, const char *what) {
    if (!claim) {
        fprintf(stderr, "region_threads: not so: %s\n", what);
        abort();
    }
}

static size_t size_of(size_t me, size_t i) {
    return 1 + (i * 37 + me * 101) % 700;
}

static void *take_memory(void *index) {
    const size_t me = (size_t)(uintptr_t)index;
    const uintptr_t code[] = {(uintptr_t)&take_memory, (uintptr_t)&memcmp, (uintptr_t)&dlopen};
    for (size_t i = 0; i < BLOCKS; i++) {
        block *b = &blocks[me][i];
        b->size = size_of(me, i);
        b->bytes = moda_region_alloc(b->size);
        check(b->bytes != NULL && (uintptr_t)b->bytes % 64 == 0, "there is room");
        check(b->bytes[0] == 0 && memcmp(b->bytes, b->bytes + 1, b->size - 1) == 0, "new memory is zeroed");
        memset(b->bytes, (int)(me + 1), b->size);
        moda_modules_note(&(uint64_t){code[i % 3]}, 1);
        if (i % 100 == 0) {
            moda_region_touch_clock();
        }
    }
    return NULL;
}

/* Only this thread asks whether objects are gone: hot/ does so inside dlclose, where the loader's lock is held. */
static void *open_and_close(void *path) {
    for (uint32_t turn = 0; turn < turns; turn++) {
        void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        check(handle != NULL, "the object can be opened");
        const uint64_t place = (uint64_t)(uintptr_t)dlsym(handle, "moda_plugin_function");
        moda_modules_note(&place, 1);
        const uint32_t generation = moda_load_relaxed(&moda_region()->module_generation);
        check(!moda_modules_were_unmapped_since(generation, &place, 1), "what is open is not gone");
        dlclose(handle);
        moda_modules_check();
        check(moda_modules_were_unmapped_since(generation, &place, 1), "what is closed is gone");
        check(moda_load_relaxed(&moda_region()->module_generation) == generation + 1, "a generation each");
    }
    moda_store_release(&stop, 1);
    return NULL;
}

static void *read_list(void *unused) {
    while (moda_load_acquire(&stop) == 0) {
        uint32_t last = UINT32_MAX;
        const moda_module *module = moda_region_at(moda_load_acquire(&moda_region()->modules));
        for (; module != NULL; module = moda_region_at(module->next)) {
            check(module->start < module->text_end && module->text_end <= module->end, "a range");
            check(strlen(module->path) == module->path_length && module->path_length != 0, "a path");
            check(module->generation_mapped <= last, "the newest is first");
            const uint32_t gone = moda_load_relaxed(&module->generation_unmapped);
            check(gone == 0 || gone > module->generation_mapped, "gone after it came");
            last = module->generation_mapped;
            places_read++;
        }
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc > 2) {
        turns = (uint32_t)strtoul(argv[2], NULL, 10);
    }
    const moda_region_options options = {.memory_max = 256u << 20, .mimalloc_version = "0"};
    if (argc < 2 || !moda_region_create(&options)) {
        return 2;
    }
    pthread_t taking[THREADS], opening, reading;
    pthread_create(&reading, NULL, read_list, NULL);
    pthread_create(&opening, NULL, open_and_close, argv[1]);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_create(&taking[i], NULL, take_memory, (void *)(uintptr_t)i);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(taking[i], NULL);
    }
    pthread_join(opening, NULL);
    pthread_join(reading, NULL);
    for (size_t me = 0; me < THREADS; me++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            const block *b = &blocks[me][i];
            check(b->bytes[0] == me + 1 && memcmp(b->bytes, b->bytes + 1, b->size - 1) == 0,
                  "a block is one thread's alone");
        }
    }
    check(moda_modules_are_valid(), "the list's laws hold");
    check(moda_region()->module_generation == turns, "each closing was seen once");
    check(moda_region()->module_count > turns, "the program, and each opening, was noted");
    printf("%" PRIu32 " modules, %" PRIu64 " read meanwhile\n", moda_region()->module_count, places_read);
    return 0;
}
