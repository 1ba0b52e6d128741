/* SPDX-License-Identifier: MIT
 *
 * write_heap_v2.c - the heap profile text of gperftools, which google-pprof, jeprof and pprof read.
 *
 *   heap profile: <live blocks>: <live bytes> [<blocks>: <bytes>] @ heapprofile
 *   <live blocks>: <live bytes> [<blocks>: <bytes>] @ 0xADDR 0xADDR ...
 *   (empty line)
 *   MAPPED_LIBRARIES:
 *   <lines as in /proc/PID/maps>
 *
 * Readers name the addresses themselves, with the binary given on their command line.
 * The type after '@' is `heapprofile`, not `heap_v2/<rate>`: the figures here are unsampled already, stack by
 * stack with each sample's own weight, and only for `heapprofile` do all readers leave figures alone (for
 * `heap_v2/1` the perl ones still multiply by 1/(1 - exp(-mean size)), 0.03 % at 8 bytes).
 * All readers subtract 1 from return addresses, the perl ones not from the innermost; that one is written
 * with 1 taken off, and where it is taken off once more the address is still inside the call instruction.
 */
#include "report/write_parts.h"

static void put_figures(moda_out *out, const moda_values *values) {
    static const struct {
        moda_value value;
        const char *after;
    } figures[] = {
        {MODA_VALUE_LIVE_COUNT, ": "},
        {MODA_VALUE_LIVE_BYTES, " ["},
        {MODA_VALUE_ALLOCATED_COUNT, ": "},
        {MODA_VALUE_ALLOCATED_BYTES, "] @"},
    };
    /* "count 0 with bytes" is an error to readers; an estimate can round to that. */
    for (size_t i = 0; i < 4; i++) {
        int64_t number = values->of[figures[i].value] > 0 ? values->of[figures[i].value] : 0;
        if (i % 2 == 0 && number == 0 && values->of[figures[i + 1].value] > 0)
            number = 1;
        moda_out_int(out, number);
        moda_out_text(out, figures[i].after);
    }
}

static void put_stack(const moda_report *report, const moda_stack *stack, moda_out *out) {
    put_figures(out, &stack->values);
    /* A line without an address is dropped by readers, and its figures with it: one where no code is. */
    if (stack->frame_count == 0)
        moda_out_text(out, " 0x7fffffffffffff00");
    for (uint32_t at = 0; at < stack->frame_count; at = moda_stack_location_end(report, stack, at)) {
        const uint64_t address = report->frames[stack->frames[at]].address;
        moda_out_format(out, " 0x%llx", (unsigned long long)(at == 0 && address > 0 ? address - 1 : address));
    }
    moda_out_char(out, '\n');
}

static void put_modules(const moda_report *report, moda_out *out) {
    moda_out_text(out, "\nMAPPED_LIBRARIES:\n");
    for (size_t i = 0; i < report->module_count; i++) {
        const moda_report_module *const module = &report->modules[i];
        const bool has_text = module->text_end > module->text_start;
        const uint64_t start = has_text ? module->text_start : module->start;
        const uint64_t end = has_text ? module->text_end : module->end;
        moda_out_format(out, "%08llx-%08llx r-xp %08llx 00:00 0 ", (unsigned long long)start,
                        (unsigned long long)end, (unsigned long long)module->file_offset);
        moda_out_utf8(out, module->path);
        moda_out_char(out, '\n');
    }
}

static int write_heap_v2(const moda_report *report, const moda_write_options *options, moda_out *out,
                         moda_error *error) {
    (void)options;
    (void)error;
    moda_out_text(out, "heap profile: ");
    put_figures(out, &report->totals);
    moda_out_text(out, " heapprofile\n");
    for (size_t i = 0; i < report->stack_count; i++)
        put_stack(report, &report->stacks[i], out);
    put_modules(report, out);
    return 0;
}

const moda_writer moda_writer_heap_v2 = {
    .name = "heap_v2",
    .extension = "heap",
    .help = "heap profile text of gperftools, for google-pprof and jeprof",
    .write = write_heap_v2,
};
