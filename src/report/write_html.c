/* SPDX-License-Identifier: MIT
 *
 * write_html.c - one HTML file that shows all of the report and loads nothing: cards, timeline, sizes, flame graph,
 * tables. The page is html/report.html with report.css and report.js, put into this library by the build; here
 * its data is written, as JSON in a <script> element.
 *
 * The data is made small, since 50,000 sites of 30 frames are 1.5 million frames: strings are one table, frames
 * (function, file, line, module) one, and all stacks one tree, outermost frame first, in which a site is the
 * node where its stack ends. Values are columns. report.js says how they are read.
 */
#include "report/write_parts.h"

#include "region/layout.h"

#include <stdarg.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Made by html/embed.cmake: the page before the data, and after. */
extern const unsigned char moda_html_head[], moda_html_tail[];
extern const size_t moda_html_head_size, moda_html_tail_size;

/* ---- strings: equal pointers are one (the report's are interned); 0 is "" ---- */

typedef struct string_table {
    const char **text;
    uint32_t *slots; /* number + 1, or 0 */
    size_t mask;
    uint32_t count;
} string_table;

static bool strings_new(string_table *table, size_t most) {
    *table = (string_table){.text = calloc(most, sizeof *table->text)};
    table->slots = moda_slots_new(most, &table->mask);
    if (table->text == NULL || table->slots == NULL)
        return false;
    table->text[table->count++] = "";
    return true;
}

static uint32_t string_number(string_table *table, const char *text) {
    if (text == NULL || *text == 0)
        return 0;
    const uint64_t hash = (uint64_t)(uintptr_t)text * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(hash ^ (hash >> 32)) & table->mask;
    while (table->slots[at] != 0 && table->text[table->slots[at] - 1] != text)
        at = (at + 1) & table->mask;
    if (table->slots[at] == 0) {
        table->text[table->count++] = text;
        table->slots[at] = table->count;
    }
    return table->slots[at] - 1;
}

/* ---- the tree of stacks ---- */

typedef struct stack_tree {
    uint32_t *parent, *frame; /* by node; 0 is the root */
    uint32_t count, capacity;
    uint32_t *slots; /* node, or 0 */
    size_t mask;
    uint32_t *site; /* by stack: its node */
} stack_tree;

static size_t node_hash(uint32_t parent, uint32_t frame) {
    const uint64_t hash = ((uint64_t)parent << 32 | frame) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash ^ (hash >> 32));
}

static bool tree_grow(stack_tree *tree) {
    const uint32_t capacity = tree->capacity == 0 ? 1024 : tree->capacity * 2;
    uint32_t *const parent = realloc(tree->parent, capacity * sizeof *parent);
    if (parent != NULL)
        tree->parent = parent;
    uint32_t *const frame = realloc(tree->frame, capacity * sizeof *frame);
    if (frame != NULL)
        tree->frame = frame;
    uint32_t *const slots = calloc((size_t)capacity * 2, sizeof *slots);
    if (parent == NULL || frame == NULL || slots == NULL) {
        free(slots);
        return false;
    }
    free(tree->slots);
    tree->slots = slots;
    tree->mask = (size_t)capacity * 2 - 1;
    tree->capacity = capacity;
    for (uint32_t i = 1; i < tree->count; i++) {
        size_t at = node_hash(tree->parent[i], tree->frame[i]) & tree->mask;
        while (tree->slots[at] != 0)
            at = (at + 1) & tree->mask;
        tree->slots[at] = i;
    }
    return true;
}

/* The child of `parent` for `frame`; 0 = no memory. */
static uint32_t tree_child(stack_tree *tree, uint32_t parent, uint32_t frame) {
    if (tree->count == tree->capacity && !tree_grow(tree))
        return 0;
    size_t at = node_hash(parent, frame) & tree->mask;
    for (; tree->slots[at] != 0; at = (at + 1) & tree->mask)
        if (tree->parent[tree->slots[at]] == parent && tree->frame[tree->slots[at]] == frame)
            return tree->slots[at];
    tree->parent[tree->count] = parent;
    tree->frame[tree->count] = frame;
    return tree->slots[at] = tree->count++;
}

static bool tree_build(stack_tree *tree, const moda_report *report, const moda_shown_frames *frames) {
    *tree = (stack_tree){.site = calloc(report->stack_count + 1, sizeof *tree->site)};
    if (tree->site == NULL || !tree_grow(tree))
        return false;
    tree->parent[0] = tree->frame[0] = 0;
    tree->count = 1;
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        uint32_t node = 0;
        for (uint32_t k = stack->frame_count; k-- > 0;)
            if ((node = tree_child(tree, node, frames->number[stack->frames[k]])) == 0)
                return false;
        tree->site[i] = node;
    }
    return true;
}

static void tree_free(stack_tree *tree) {
    free(tree->parent);
    free(tree->frame);
    free(tree->slots);
    free(tree->site);
}

/* ---- pieces of the data ---- */

static const moda_profile_process *first_process(const moda_profile *profile) {
    static const moda_profile_process none = {0};
    return profile->process_count > 0 ? &profile->processes[0] : &none;
}

typedef struct sums {
    uint64_t samples, dropped, dropped_disk, torn, threads, walks[6], all_walks;
    uint64_t resident, resident_peak, committed, region;
    size_t broken_off;
    bool is_live, is_forked, is_growth;
} sums;

static sums sum_processes(const moda_profile *profile) {
    sums s = {0};
    for (size_t i = 0; i < profile->process_count; i++) {
        const moda_profile_process *const p = &profile->processes[i];
        s.samples += p->samples;
        s.dropped += p->dropped;
        s.dropped_disk += p->dropped_disk;
        s.torn += p->torn;
        s.threads += p->threads_ever;
        s.resident += p->resident_bytes;
        s.resident_peak += p->resident_peak_bytes;
        s.committed += p->heap_committed_bytes;
        s.region += p->region_resident_bytes;
        s.is_live |= p->is_live;
        s.broken_off += !p->is_live && !p->exited_cleanly;
        s.is_forked |= p->is_forked && !p->is_growth;
        s.is_growth |= p->is_growth;
        for (int k = 0; k < 6; k++)
            s.walks[k] += p->walks[k];
    }
    for (int k = 0; k < 6; k++)
        s.all_walks += s.walks[k];
    return s;
}

__attribute__((format(printf, 3, 4))) static void put_note(moda_json *json, bool is_warning,
                                                           const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    moda_json_object(json, NULL);
    moda_json_string(json, "text", text);
    moda_json_bool(json, "warn", is_warning);
    moda_json_end(json);
}

static double percent(uint64_t part, uint64_t whole) {
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

/* What a reader has to know before he trusts a figure. */
static void put_notes(moda_json *json, const moda_report *report, const sums *s) {
    const moda_profile *const profile = report->profile;
    char size[MODA_HUMAN_SIZE], number[MODA_HUMAN_SIZE];
    moda_json_array(json, "notes");
    if (profile->process_count > 1)
        put_note(json, false,
                 "%zu processes in one report; the peak is the sum of their peaks: an upper bound.",
                 profile->process_count);
    if (profile->sample_bytes == 0 && report->stack_count == 0)
        put_note(json, true, "No call sites were recorded: sampling was off (MOD_ALLOC_SAMPLE=0).");
    else if (!profile->is_exact)
        put_note(
            json, false,
            "The cards are exact. Call sites are estimates from %s samples, one in about %s; a site of few "
            "samples is uncertain: its standard error is shown when it is opened.",
            moda_human_count(number, (int64_t)s->samples),
            moda_human_bytes(size, (int64_t)profile->sample_bytes));
    const int64_t at_sites = profile->site_totals.of[MODA_VALUE_ALLOCATED_BYTES];
    if (profile->is_exact && at_sites > 0 && (uint64_t)at_sites > profile->totals.total_bytes)
        put_note(json, false,
                 "A call site that reallocates is given the whole new block, %s in all; the card \xe2\x80\x9c"
                 "Allocated\xe2\x80\x9d counts a block that grew by its growth alone.",
                 moda_human_bytes(size, at_sites));
    if (moda_report_estimates_lives(report))
        put_note(
            json, false,
            "Every allocation was recorded. The first %u blocks of a site were timed, then one in %u: how long its "
            "blocks lived, and how many were short-lived, are estimates.",
            MODA_LIVES_ALL, MODA_LIVES_STRIDE);
    for (size_t i = 0; i < report->module_count; i++) {
        const moda_report_module *const module = &report->modules[i];
        if (module->is_changed || module->is_missing)
            put_note(json, true, "No names in %s: %s.", module->path,
                     module->is_missing ? "there was no such file"
                                        : "the file had changed since the program ran");
    }
    if (report->is_filtered)
        put_note(json, false, "Filtered: call sites with %s of allocated bytes are left out.",
                 moda_human_bytes(size, report->dropped.of[MODA_VALUE_ALLOCATED_BYTES]));
    if (s->is_live)
        put_note(json, false,
                 "Read from a running process: \xe2\x80\x9clive at the end\xe2\x80\x9d means now.");
    if (s->broken_off > 0 && profile->process_count == 1)
        put_note(json, false, "The program did not end by exit: figures are those of its last moment.");
    else if (s->broken_off > 0)
        put_note(json, false,
                 "%zu of the processes did not end by exit: figures are those of their last moment.",
                 s->broken_off);
    if (s->is_forked)
        put_note(json, false, "A forked child: its live figures began with what its parent had.");
    if (s->is_growth)
        put_note(json, false, "Forked children are counted without what they had from their parents.");
    if (s->dropped > 0)
        put_note(json, true, "%s samples found no room for their stack; they are in the overflow site. %s",
                 moda_human_count(number, (int64_t)s->dropped),
                 s->dropped_disk > 0 ? "The disk that the profile lies on was full."
                                     : "A larger MOD_ALLOC_MEMORY makes room.");
    const uint64_t incomplete =
        s->walks[MOD_ALLOC_WALK_CUT] + s->walks[MOD_ALLOC_WALK_UNKNOWN] + s->walks[MOD_ALLOC_WALK_BROKEN];
    if (percent(incomplete, s->all_walks) >= 0.1)
        put_note(
            json, percent(incomplete, s->all_walks) >= 5,
            "%.1f %% of the stacks lack their outer frames (cut at the depth limit %.1f %%, ended in code "
            "without unwind tables %.1f %%, broken %.1f %%).",
            percent(incomplete, s->all_walks), percent(s->walks[MOD_ALLOC_WALK_CUT], s->all_walks),
            percent(s->walks[MOD_ALLOC_WALK_UNKNOWN], s->all_walks),
            percent(s->walks[MOD_ALLOC_WALK_BROKEN], s->all_walks));
    if (percent(s->walks[MOD_ALLOC_WALK_GUESSED], s->all_walks) >= 0.1)
        put_note(json, false, "%.1f %% of the stacks went through code without unwind tables by a guess.",
                 percent(s->walks[MOD_ALLOC_WALK_GUESSED], s->all_walks));
    if (report->addresses > 0 && report->addresses_named * 10 < report->addresses * 9)
        put_note(json, true,
                 "Only %.0f %% of the addresses could be named: some objects are stripped, and their "
                 "debug symbols were not found here.",
                 percent(report->addresses_named, report->addresses));
    if (s->torn > 0)
        put_note(json, false, "%s records were being written when they were read, and may be incomplete.",
                 moda_human_count(number, (int64_t)s->torn));
    moda_json_end(json);
}

static void put_facts(moda_json *json, const moda_report *report) {
    const moda_profile *const profile = report->profile;
    const moda_profile_process *const process = first_process(profile);
    const mod_alloc_stats *const t = &profile->totals;
    const sums s = sum_processes(profile);
    moda_json_string(json, "executable", process->executable != NULL ? process->executable : "");
    moda_json_string(json, "command", process->command_line != NULL ? process->command_line : "");
    moda_json_uint(json, "pid", process->pid);
    moda_json_uint(json, "start_ms", process->start_realtime_ns / 1000000);
    moda_json_uint(json, "duration_ns", process->duration_ns);
    moda_json_uint(json, "peak_ns", profile->process_count == 1 ? process->peak_ns : 0);
    moda_json_uint(json, "short_lived_ns", process->short_lived_ns);
    moda_json_bool(json, "is_exact", profile->is_exact);
    moda_json_uint(json, "sample_bytes", profile->sample_bytes);
    moda_json_uint(json, "samples", s.samples);
    moda_json_uint(json, "threads", s.threads);
    moda_json_string(json, "mod_alloc_version", process->mod_alloc_version);
    moda_json_string(json, "mimalloc_version", process->mimalloc_version);
    moda_json_totals(json, t);
    moda_json_object(json, "memory");
    moda_json_uint(json, "resident_bytes", s.resident);
    moda_json_uint(json, "resident_peak_bytes", s.resident_peak);
    moda_json_uint(json, "committed_bytes", s.committed);
    moda_json_uint(json, "profile_bytes", s.region);
    moda_json_end(json);
    put_notes(json, report, &s);
    static const char *const ends[] = {"",
                                       "cut at the depth limit",
                                       "ends in code without unwind tables",
                                       "went through code without unwind tables by a guess",
                                       "broken: it left the stack",
                                       ""};
    moda_json_array(json, "walk_ends");
    for (int i = 0; i < 6; i++)
        moda_json_string(json, NULL, ends[i]);
    moda_json_end(json);
    moda_json_array(json, "stand_ins");
    for (int i = 0; i < 2; i++)
        moda_json_string(json, NULL, moda_stack_stand_in(&(moda_stack){.is_overflow = i == 1}));
    moda_json_end(json);
}

static void put_point(moda_json *json, const moda_timeline_sample *point) {
    moda_json_uint(json, NULL, point->time_ns);
    moda_json_uint(json, NULL, point->current_bytes);
    moda_json_uint(json, NULL, point->live_count);
    moda_json_uint(json, NULL, point->resident_bytes);
}

static uint64_t not_negative(int64_t number) {
    return number > 0 ? (uint64_t)number : 0;
}

/* Points are a millisecond apart and more: the peak comes between them, if it is higher. */
static void put_peak_between(moda_json *json, const moda_profile_process *process,
                             const moda_timeline_sample *from, const moda_timeline_sample *to) {
    const uint64_t peak = process->totals.peak_bytes;
    if (process->peak_ns > from->time_ns && process->peak_ns < to->time_ns && peak > from->current_bytes
        && peak > to->current_bytes)
        put_point(json, &(moda_timeline_sample){
                            .time_ns = process->peak_ns,
                            .current_bytes = peak,
                            .live_count = process->totals.peak_live_count,
                            .resident_bytes = from->resident_bytes,
                        });
}

/* Points are taken while the program allocates: what it began with comes before the first, what it ended with after the
 * last. */
static void put_timeline(moda_json *json, const moda_profile_process *process) {
    const size_t count = process->timeline_count;
    if (count == 0)
        return;
    moda_timeline_sample last = {
        .current_bytes = not_negative(process->inherited_bytes), /* of a forked child */
        .live_count = not_negative(process->inherited_count),
    };
    if (process->timeline[0].time_ns > 0)
        put_point(json, &last);
    for (size_t i = 0; i < count; i++) {
        put_peak_between(json, process, &last, &process->timeline[i]);
        last = process->timeline[i];
        put_point(json, &last);
    }
    if (last.time_ns >= process->duration_ns)
        return;
    const moda_timeline_sample end = {
        .time_ns = process->duration_ns,
        .current_bytes = process->totals.current_bytes,
        .live_count = process->totals.live_count,
        .resident_bytes = last.resident_bytes > 0 ? process->resident_bytes : 0,
    };
    put_peak_between(json, process, &last, &end);
    put_point(json, &end);
}

static void put_plots(moda_json *json, const moda_profile *profile) {
    moda_json_array(json, "timeline");
    if (profile->process_count == 1) /* those of several have no common clock */
        put_timeline(json, first_process(profile));
    moda_json_end(json);
    moda_json_array(json, "sizes");
    for (int i = 0; i < MODA_PROFILE_SIZE_CLASSES; i++)
        moda_json_uint(json, NULL, profile->size_classes[i]);
    moda_json_end(json);
}

static void put_frames(moda_json *json, const moda_report *report, const moda_shown_frames *frames,
                       string_table *strings) {
    moda_json_array(json, "frames");
    for (uint32_t i = 0; i < frames->count; i++) {
        const moda_frame *const frame = &report->frames[frames->first[i]];
        moda_json_uint(json, NULL, string_number(strings, frame->function));
        moda_json_uint(json, NULL, string_number(strings, frame->file));
        moda_json_uint(json, NULL, frame->line);
        moda_json_uint(json, NULL, string_number(strings, moda_frame_module(report, frame)));
    }
    moda_json_end(json);
    moda_json_array(json, "strings");
    for (uint32_t i = 0; i < strings->count; i++)
        moda_json_string(json, NULL, strings->text[i]);
    moda_json_end(json);
}

static void put_tree(moda_json *json, const stack_tree *tree) {
    moda_json_array(json, "nodes");
    for (uint32_t i = 1; i < tree->count; i++) {
        moda_json_uint(json, NULL, i - tree->parent[i]);
        moda_json_uint(json, NULL, tree->frame[i]);
    }
    moda_json_end(json);
}

static void put_column(moda_json *json, const moda_report *report, moda_value value) {
    moda_json_array(json, moda_value_infos[value].key);
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_values *const values = &report->stacks[i].values;
        const bool has_no_minimum = value == MODA_VALUE_LIFETIME_MIN_NS && values->of[value] == INT64_MAX;
        moda_json_int(json, NULL, has_no_minimum ? 0 : values->of[value]);
    }
    moda_json_end(json);
}

static void put_columns(moda_json *json, const moda_report *report, const stack_tree *tree) {
    static const moda_value columns[] = {
        MODA_VALUE_ALLOCATED_BYTES,   MODA_VALUE_ALLOCATED_COUNT, MODA_VALUE_REQUESTED_BYTES,
        MODA_VALUE_WASTE_BYTES,       MODA_VALUE_LIVE_BYTES,      MODA_VALUE_LIVE_COUNT,
        MODA_VALUE_AT_PEAK_BYTES,     MODA_VALUE_AT_PEAK_COUNT,   MODA_VALUE_OWN_PEAK_BYTES,
        MODA_VALUE_OWN_PEAK_COUNT,    MODA_VALUE_LIFETIME_COUNT,  MODA_VALUE_LIFETIME_NS,
        MODA_VALUE_LIFETIME_MIN_NS,   MODA_VALUE_LIFETIME_MAX_NS, MODA_VALUE_TEMPORARY_COUNT,
        MODA_VALUE_REMOTE_FREE_COUNT, MODA_VALUE_SAMPLES,
    };
    moda_json_object(json, "columns");
    moda_json_array(json, "node");
    for (size_t i = 0; i < report->stack_count; i++)
        moda_json_uint(json, NULL, tree->site[i]);
    moda_json_end(json);
    moda_json_array(json, "walk_end");
    for (size_t i = 0; i < report->stack_count; i++)
        moda_json_uint(json, NULL, report->stacks[i].walk_end);
    moda_json_end(json);
    moda_json_array(json, "is_overflow");
    for (size_t i = 0; i < report->stack_count; i++)
        moda_json_uint(json, NULL, report->stacks[i].is_overflow);
    moda_json_end(json);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        put_column(json, report, columns[i]);
    moda_json_array(json, "allocated_error");
    for (size_t i = 0; i < report->stack_count && !report->profile->is_exact; i++) {
        const double error =
            moda_values_standard_error(&report->stacks[i].values, MODA_VALUE_ALLOCATED_BYTES);
        moda_json_int(json, NULL, error > 0 && error < 9e15 ? (int64_t)error : 0);
    }
    moda_json_end(json);
    moda_json_end(json);
}

static int write_html(const moda_report *report, const moda_write_options *options, moda_out *out,
                      moda_error *error) {
    moda_shown_frames frames = {0};
    stack_tree tree = {0};
    string_table strings = {0};
    const bool has_memory = moda_shown_frames_build(report, &frames) && tree_build(&tree, report, &frames)
                            && strings_new(&strings, (size_t)frames.count * 3 + 2);
    if (has_memory) {
        moda_json json;
        moda_out_bytes(out, moda_html_head, moda_html_head_size);
        moda_json_begin(&json, out, 1, true);
        moda_json_string(&json, "title", options->title != NULL ? options->title : "");
        moda_json_string(&json, "value", moda_value_infos[options->value].key);
        moda_json_string(&json, "by", moda_by_name(options->by));
        put_facts(&json, report);
        put_plots(&json, report->profile);
        put_frames(&json, report, &frames, &strings);
        put_tree(&json, &tree);
        put_columns(&json, report, &tree);
        moda_json_finish(&json);
        moda_out_bytes(out, moda_html_tail, moda_html_tail_size);
    } else {
        moda_error_set(error, "html: out of memory");
    }
    moda_shown_frames_free(&frames);
    tree_free(&tree);
    free(strings.text);
    free(strings.slots);
    return has_memory ? 0 : -1;
}

const moda_writer moda_writer_html = {
    .name = "html",
    .extension = "html",
    .help = "one page to look at in a browser: flame graph, tables, timeline",
    .write = write_html,
};
