/* SPDX-License-Identifier: MIT
 *
 * fuzz_main.c - the fuzz target without a fuzzer: `fuzz_read ROUNDS [FILE...]` runs the files, then ROUNDS changed
 * copies of the example profile, the same ones each time. `--write FOLDER` leaves a first corpus for libFuzzer.
 */
#include "fuzz_random.h"
#include "make_region.h"
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int run_file(const char *path) {
    FILE *const file = fopen(path, "rbe");
    if (file == NULL)
        return 1;
    static uint8_t bytes[1 << 24];
    LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof bytes, file));
    return fclose(file);
}

/* Words that a bad profile would hold: refs, counts and lengths at their ends. */
static void change(uint8_t *bytes, size_t size) {
    static const uint64_t ends[] = {
        0, 1, 0x40, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, UINT64_MAX};
    /* Half of the changes fall where structure is: the header and the starts of records. */
    size_t at = next_random() % size;
    if (next_random() % 2 == 0)
        at = next_random() % 4 == 0 ? next_random() % 4096 : at & ~(size_t)63;
    at = (at + next_random() % 64) & ~(size_t)3;
    const uint64_t value =
        next_random() % 3 == 0 ? next_random() : ends[next_random() % (sizeof ends / sizeof ends[0])];
    const size_t width = next_random() % 2 == 0 ? 4 : 8;
    if (at + width <= size)
        memcpy(bytes + at, &value, width);
}

/* The example and, of a forked child, the example once more; merged. */
static moda_out make_merged(make_region *region, size_t size) {
    moda_error error = {.text = ""};
    moda_profile *const parent =
        moda_profile_read_memory(make_region_bytes(region), size, "parent", false, &error);
    moda_region_header *const h = make_region_header(region);
    const moda_region_header before = *h;
    h->flags |= MODA_REGION_FORKED;
    h->parent_pid = h->pid++;
    h->inherited_count = 1;
    moda_profile *const child =
        moda_profile_read_memory(make_region_bytes(region), size, "child", false, &error);
    *h = before;
    const moda_profile *const parts[] = {parent, child};
    moda_profile *const both = moda_profile_merge(parts, 2, &error);
    moda_out out;
    moda_out_to_buffer(&out);
    if (both == NULL || !moda_profile_write(both, &out, &error))
        abort();
    moda_profile_free(both);
    moda_profile_free(child);
    moda_profile_free(parent);
    return out;
}

static int write_corpus(make_region *region, const moda_out *merged, const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/example.prof", folder);
    bool is_saved = make_region_save(region, path);
    snprintf(path, sizeof path, "%s/merged.prof", folder);
    FILE *const file = fopen(path, "wbe");
    is_saved = is_saved && file != NULL && fwrite(merged->buffer, 1, merged->length, file) == merged->length;
    return file != NULL && fclose(file) == 0 && is_saved ? 0 : 1;
}

int main(int count, char **arguments) {
    make_region *const region = make_region_example();
    /* Small enough to change often, large enough to hold every kind of record. */
    const size_t size = make_region_finish(region);
    moda_out merged = make_merged(region, size);
    if (count == 3 && strcmp(arguments[1], "--write") == 0) {
        const int status = write_corpus(region, &merged, arguments[2]);
        free(merged.buffer);
        make_region_free(region);
        return status;
    }
    const long rounds = count > 1 ? atol(arguments[1]) : 1000;
    for (int i = 2; i < count; i++)
        if (run_file(arguments[i]) != 0)
            fprintf(stderr, "fuzz_read: %s cannot be read\n", arguments[i]);
    uint8_t *const copy = malloc(size > merged.length ? size : merged.length);
    for (long i = 0; i < rounds; i++) {
        const size_t length = i % 2 == 0 ? size : merged.length;
        memcpy(copy, i % 2 == 0 ? (const void *)make_region_bytes(region) : merged.buffer, length);
        for (uint64_t n = 1 + next_random() % 8; n > 0; n--)
            change(copy, length);
        LLVMFuzzerTestOneInput(copy, next_random() % 8 == 0 ? next_random() % length : length);
    }
    free(copy);
    free(merged.buffer);
    make_region_free(region);
    printf("%ld rounds\n", rounds);
    return 0;
}
