/* SPDX-License-Identifier: MIT
 *
 * write_dhat.c - DHAT's JSON, version 2, as Valgrind's dh_view.html and Firefox Profiler open it. The format is
 * described in Valgrind's dhat/dh_main.c.
 *
 *   tl  lifetimes, summed     tb tbk  bytes and blocks allocated    mb mbk  the site's own peak
 *   gb gbk  at the heap's peak (t-gmax)     eb ebk  at the end      fs  frames, innermost first
 *
 * Laws
 *   1. No two entries have the same `fs`: the viewer stops at the second. Stacks are merged by the text of
 *      their frames, after naming.
 *   2. Strings are UTF-8, numbers are 0 .. 2^53 - 1: the viewer is JavaScript.
 *   3. A frame is `0xADDR: function (file:line)` or `0xADDR: function (in /path/of/module)`; an inlined one is an
 *      entry of its own with the same address. Firefox Profiler parses this text.
 *
 * Lifetimes. The viewer shows tl / tbk as the average life of a block. We know the lives that ended at a site;
 * Valgrind also adds up, at the end, the ages of blocks still live. Those births are not recorded: live blocks
 * are taken to have been born evenly over the run, half its length ago on average. Blocks that realloc moved
 * to another site live on there, and are given the average of those that ended here. So are blocks that were not timed,
 * at sites with many; where every block was timed and freed, tl is what was measured.
 */
#include "report/write_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A table of distinct keys, numbered from 0 in the order of arrival; keys are compared by the caller. */
typedef struct number_table {
    uint32_t *slots; /* number + 1, or 0 */
    size_t mask;
    uint32_t count;
} number_table;

static bool table_new(number_table *table, size_t keys) {
    *table = (number_table){.count = 0};
    table->slots = moda_slots_new(keys, &table->mask);
    return table->slots != NULL;
}

static uint64_t hash_bytes(const void *bytes, size_t length) {
    const unsigned char *const at = bytes;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash ^ (hash >> 32);
}

typedef struct point {
    const uint32_t *frames; /* numbers in ftbl, innermost first */
    uint32_t frame_count;
    moda_values values;
} point;

typedef struct dhat {
    const moda_report *report;
    uint32_t *frame_number; /* by report frame: number in ftbl */
    const char **texts;     /* ftbl */
    moda_out text_bytes;    /* where they lie: offsets first, pointers when it is full */
    uint32_t *frames;       /* all stacks' numbers, one after the other */
    point *points;
    uint32_t point_count;
} dhat;

enum { ROOT = 0, NO_FRAMES = 1, OVERFLOW = 2, FIRST_FRAME = 3 };

static void put_frame_text(moda_out *out, const moda_report *report, const moda_frame *frame) {
    moda_out_format(out, "0x%llX: ", (unsigned long long)frame->address);
    moda_out_utf8(out, frame->function);
    moda_out_text(out, " (");
    if (frame->file != NULL) {
        moda_out_utf8(out, frame->file);
        if (frame->line != 0)
            moda_out_format(out, ":%u", frame->line);
    } else {
        const char *const module = moda_frame_module(report, frame);
        moda_out_text(out, "in ");
        moda_out_utf8(out, *module != 0 ? module : "?");
    }
    moda_out_char(out, ')');
}

/* Gives each frame its number in ftbl; frames with equal texts have one. */
static bool number_frames(dhat *d, uint32_t *text_count) {
    const moda_report *const report = d->report;
    number_table table = {0};
    size_t *const starts = calloc(report->frame_count + FIRST_FRAME + 1, sizeof *starts);
    bool is_done = starts != NULL && table_new(&table, report->frame_count + FIRST_FRAME);
    uint32_t count = 0;
    static const char *const fixed[] = {
        [ROOT] = "[root]",
        [NO_FRAMES] = "0x0: [no frames] (in ?)",
        [OVERFLOW] = "0x0: [overflow site: samples that found no room] (in ?)",
    };
    moda_out *const bytes = &d->text_bytes;
    for (; is_done && count < FIRST_FRAME; count++) {
        starts[count] = bytes->length;
        moda_out_bytes(bytes, fixed[count], strlen(fixed[count]) + 1);
    }
    for (size_t i = 0; is_done && i < report->frame_count; i++) {
        const size_t start = bytes->length;
        put_frame_text(bytes, report, &report->frames[i]);
        moda_out_char(bytes, 0);
        if (bytes->failed)
            is_done = false;
        if (!is_done)
            break;
        size_t at = (size_t)hash_bytes(bytes->buffer + start, bytes->length - start) & table.mask;
        while (table.slots[at] != 0
               && strcmp(bytes->buffer + starts[table.slots[at] - 1], bytes->buffer + start) != 0)
            at = (at + 1) & table.mask;
        if (table.slots[at] == 0) {
            starts[count] = start;
            table.slots[at] = ++count;
        } else {
            bytes->length = start; /* known: the text is not needed twice */
        }
        d->frame_number[i] = table.slots[at] - 1;
    }
    if (is_done && (d->texts = calloc(count + 1, sizeof *d->texts)) != NULL)
        for (uint32_t i = 0; i < count; i++)
            d->texts[i] = bytes->buffer + starts[i];
    *text_count = count;
    free(table.slots);
    free(starts);
    return is_done && d->texts != NULL;
}

/* Stacks to points: those whose frames have the same numbers are one. */
static bool merge_stacks(dhat *d) {
    const moda_report *const report = d->report;
    size_t frames = 0;
    for (size_t i = 0; i < report->stack_count; i++)
        frames += report->stacks[i].frame_count + 1;
    number_table table = {0};
    d->frames = calloc(frames + 1, sizeof *d->frames);
    d->points = calloc(report->stack_count + 1, sizeof *d->points);
    if (d->frames == NULL || d->points == NULL || !table_new(&table, report->stack_count))
        return false;
    uint32_t *next = d->frames;
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        uint32_t length = stack->frame_count;
        for (uint32_t k = 0; k < length; k++)
            next[k] = d->frame_number[stack->frames[k]];
        if (length == 0)
            next[length++] = stack->is_overflow ? OVERFLOW : NO_FRAMES;
        const size_t bytes = length * sizeof *next;
        size_t at = (size_t)hash_bytes(next, bytes) & table.mask;
        for (; table.slots[at] != 0; at = (at + 1) & table.mask) {
            const point *const other = &d->points[table.slots[at] - 1];
            if (other->frame_count == length && memcmp(other->frames, next, bytes) == 0)
                break;
        }
        if (table.slots[at] == 0) {
            point *const fresh = &d->points[d->point_count];
            *fresh = (point){.frames = next, .frame_count = length};
            moda_values_clear(&fresh->values);
            next += length;
            table.slots[at] = ++d->point_count;
        }
        moda_values_add(&d->points[table.slots[at] - 1].values, &stack->values);
    }
    free(table.slots);
    return true;
}

static int64_t lifetimes_us(const moda_values *values, uint64_t end_us) {
    const int64_t blocks = values->of[MODA_VALUE_ALLOCATED_COUNT];
    int64_t live = values->of[MODA_VALUE_LIVE_COUNT];
    if (live > blocks)
        live = blocks;
    const int64_t gone = blocks - live, ended = values->of[MODA_VALUE_LIFETIME_COUNT];
    const double half = (double)end_us / 2;
    double sum = (double)values->of[MODA_VALUE_LIFETIME_NS] / 1000;
    if (ended == 0)
        sum = half * (double)gone;
    else
        sum *= (double)gone / (double)ended;
    return moda_javascript_int((int64_t)fmin(sum + half * (double)live, 9e18));
}

static void put_point(moda_json *json, const point *p, uint64_t end_us) {
    static const struct {
        const char *key;
        moda_value value;
    } members[] = {
        {"tb", MODA_VALUE_ALLOCATED_BYTES}, {"tbk", MODA_VALUE_ALLOCATED_COUNT},
        {"mb", MODA_VALUE_OWN_PEAK_BYTES},  {"mbk", MODA_VALUE_OWN_PEAK_COUNT},
        {"gb", MODA_VALUE_AT_PEAK_BYTES},   {"gbk", MODA_VALUE_AT_PEAK_COUNT},
        {"eb", MODA_VALUE_LIVE_BYTES},      {"ebk", MODA_VALUE_LIVE_COUNT},
    };
    moda_json_object(json, NULL);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        moda_json_int(json, members[i].key, moda_javascript_int(p->values.of[members[i].value]));
    moda_json_int(json, "tl", lifetimes_us(&p->values, end_us));
    moda_json_array(json, "fs");
    for (uint32_t i = 0; i < p->frame_count; i++)
        moda_json_uint(json, NULL, p->frames[i]);
    moda_json_end(json);
    moda_json_end(json);
}

static void put_head(moda_json *json, const moda_report *report, uint64_t end_us) {
    static const moda_profile_process none = {.command_line = ""};
    const moda_profile *const profile = report->profile;
    const moda_profile_process *const process = profile->process_count > 0 ? &profile->processes[0] : &none;
    char mode[80] = "heap";
    if (!profile->is_exact)
        snprintf(mode, sizeof mode, "heap, estimated from samples (one in %llu bytes)",
                 (unsigned long long)profile->sample_bytes);
    uint64_t peak_us = process->peak_ns / 1000;
    if (peak_us > end_us)
        peak_us = end_us;
    moda_json_int(json, "dhatFileVersion", 2);
    moda_json_string(json, "mode", mode);
    moda_json_string(json, "verb", "Allocated");
    moda_json_bool(json, "bklt", true);
    moda_json_bool(json, "bkacc", false);
    moda_json_string(json, "tu", "\xc2\xb5s");
    moda_json_string(json, "Mtu", "s");
    moda_json_uint(json, "tuth", process->short_lived_ns / 1000);
    moda_json_string(json, "cmd", process->command_line != NULL ? process->command_line : "");
    moda_json_uint(json, "pid", process->pid);
    moda_json_int(json, "tg", moda_javascript_int((int64_t)peak_us));
    moda_json_int(json, "te", moda_javascript_int((int64_t)end_us));
}

static int write_dhat(const moda_report *report, const moda_write_options *options, moda_out *out,
                      moda_error *error) {
    (void)options;
    uint64_t end_us = 1; /* the viewer divides by it */
    for (size_t i = 0; i < report->profile->process_count; i++)
        if (report->profile->processes[i].duration_ns / 1000 > end_us)
            end_us = report->profile->processes[i].duration_ns / 1000;
    dhat d = {.report = report, .frame_number = calloc(report->frame_count + 1, sizeof *d.frame_number)};
    moda_out_to_buffer(&d.text_bytes);
    uint32_t text_count = 0;
    const bool has_memory = d.frame_number != NULL && number_frames(&d, &text_count) && merge_stacks(&d);
    if (!has_memory) {
        moda_error_set(error, "dhat: out of memory");
        goto done;
    }
    moda_json json;
    moda_json_begin(&json, out, 2, false);
    put_head(&json, report, end_us);
    moda_json_array(&json, "pps");
    for (uint32_t i = 0; i < d.point_count; i++)
        put_point(&json, &d.points[i], end_us);
    moda_json_end(&json);
    moda_json_array(&json, "ftbl");
    for (uint32_t i = 0; i < text_count; i++)
        moda_json_string(&json, NULL, d.texts[i]);
    moda_json_end(&json);
    moda_json_finish(&json);
done:
    free(d.points);
    free(d.frames);
    free(d.texts);
    free(d.text_bytes.buffer);
    free(d.frame_number);
    return has_memory ? 0 : -1;
}

const moda_writer moda_writer_dhat = {
    .name = "dhat",
    .extension = "dhat.json",
    .help = "DHAT's JSON, for Valgrind's dh_view.html and Firefox Profiler",
    .write = write_dhat,
};
