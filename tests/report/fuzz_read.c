/* SPDX-License-Identifier: MIT
 *
 * fuzz_read.c - any bytes as a profile: read, named without files, rolled up and written as text, and written as a
 * profile again, which must read. For libFuzzer;
 * with fuzz_main.c it runs files and a fixed series of changes to the example instead.
 */
#include "region/layout.h"
#include "report/report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Paths in the bytes must not make the fuzzer open this machine's files: no symbols. */
static void use(const moda_profile *profile) {
    moda_error error = {.text = ""};
    const moda_symbolizer_options none = {.no_symbols = true};
    moda_symbolizer *const symbolizer = moda_symbolizer_new(&none, &error);
    const char *const hide[] = {"0x1"};
    const moda_report_options options = {.symbolizer = symbolizer, .hide = hide, .hide_count = 1};
    moda_report *const report = moda_report_build(profile, &options, &error);
    if (report != NULL) {
        for (int by = 0; by < MODA_BY_COUNT; by++) {
            moda_out out;
            moda_out_to_buffer(&out);
            const moda_write_options how = {.by = (moda_by)by,
                                            .value = MODA_VALUE_ALLOCATED_BYTES,
                                            .has_tree = by == MODA_BY_FILE,
                                            .width = 80};
            moda_writer_text.write(report, &how, &out, &error);
            moda_out_close(&out, &error);
            free(out.buffer);
        }
        moda_diff *const diff =
            moda_diff_build(report, report, MODA_BY_SITE, MODA_VALUE_LIVE_BYTES, false, &error);
        moda_diff_free(diff);
    }
    moda_report_free(report);
    moda_symbolizer_free(symbolizer);
}

static void write_again(const moda_profile *profile) {
    moda_error error = {.text = ""};
    moda_out out;
    moda_out_to_buffer(&out);
    if (!moda_profile_write(profile, &out, &error))
        abort();
    uint8_t *const copy = aligned_alloc(64, out.length);
    memcpy(copy, out.buffer, out.length);
    moda_profile *const again = moda_profile_read_memory(copy, out.length, "again", false, &error);
    if (again == NULL || again->totals.alloc_count != profile->totals.alloc_count
        || again->process_count != profile->process_count) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    moda_profile_free(again);
    free(copy);
    free(out.buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    moda_error error = {.text = ""};
    /* Aligned as a mapping is. */
    uint8_t *const copy = aligned_alloc(64, (size + 64) / 64 * 64);
    if (copy == NULL)
        return 0;
    memcpy(copy, bytes, size);
    for (int is_live = 0; is_live < 2; is_live++) {
        moda_profile *const profile = moda_profile_read_memory(copy, size, "fuzz", is_live, &error);
        if (profile == NULL && error.text[0] == 0)
            abort();
        if (profile != NULL && !is_live) {
            use(profile);
            write_again(profile);
        }
        moda_profile_free(profile);
        error.text[0] = 0;
    }
    free(copy);
    return 0;
}
