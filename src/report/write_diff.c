/* SPDX-License-Identifier: MIT
 *
 * write_diff.c - the formats that a diff is written in: text (write_text.c), json, csv, folded.
 *
 * json     keys are stable: one may be added, none changes its meaning within a "version". A side that has no such row
 *          is null.
 * csv      a row a line (RFC 4180), the chosen value only.
 * folded   `outermost;...;innermost <before> <after>`, a line a stack, of the chosen value: what difffolded.pl
 *          makes of two folded files, and flamegraph.pl draws red and blue.
 */
#include "report/write_parts.h"

#include <inttypes.h>
#include <string.h>

static const char *const change_names[] = {
    [MODA_NEW] = "new",       [MODA_GONE] = "gone", [MODA_GROWN] = "grown",
    [MODA_SHRUNK] = "shrunk", [MODA_SAME] = "same",
};

static size_t rows_of(const moda_diff *diff, const moda_write_options *options) {
    return options->top > 0 && options->top < diff->row_count ? options->top : diff->row_count;
}

/* ---- csv ---- */

static void write_csv(const moda_diff *diff, const moda_write_options *options, moda_out *out) {
    const char *const key = moda_value_infos[diff->value].key;
    moda_out_format(out, "%s,change,%s_before,%s_after,delta,standard_error\n", moda_by_name(diff->by), key,
                    key);
    for (size_t i = 0; i < rows_of(diff, options); i++) {
        const moda_diff_row *const row = &diff->rows[i];
        moda_out_csv_cell(out, row->name);
        moda_out_format(out, ",%s,%" PRId64 ",%" PRId64 ",%" PRId64 ",", change_names[row->change],
                        row->before.of[diff->value], row->after.of[diff->value], row->delta);
        if (row->standard_error >= 0)
            moda_out_format(out, "%.0f", row->standard_error);
        moda_out_char(out, '\n');
    }
}

/* ---- json ---- */

static void put_side(moda_json *json, const char *key, const moda_report *report) {
    const moda_profile *const profile = report->profile;
    moda_json_object(json, key);
    moda_json_array(json, "sources");
    for (size_t i = 0; i < profile->process_count; i++)
        moda_json_string(json, NULL, profile->processes[i].source);
    moda_json_end(json);
    moda_json_bool(json, "is_exact", profile->is_exact);
    moda_json_uint(json, "sample_bytes", profile->sample_bytes);
    moda_json_totals(json, &profile->totals);
    moda_json_values(json, "site_totals", &report->totals, UINT32_MAX);
    moda_json_end(json);
}

static void put_changes(moda_json *json, const moda_diff *diff) {
    size_t counts[sizeof change_names / sizeof *change_names] = {0};
    for (size_t i = 0; i < diff->row_count; i++)
        counts[diff->rows[i].change]++;
    moda_json_object(json, "changes");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        moda_json_uint(json, change_names[i], counts[i]);
    moda_json_end(json);
}

/* The stack that stands for the row: the newer one, whose lines are today's. */
static const moda_stack *stack_of(const moda_diff *diff, const moda_diff_row *row,
                                  const moda_report **report) {
    const bool is_after = row->after_index != UINT32_MAX;
    const moda_table *const table = is_after ? diff->after_table : diff->before_table;
    *report = is_after ? diff->after : diff->before;
    return &(*report)->stacks[table->rows[is_after ? row->after_index : row->before_index].index];
}

static void put_stack(moda_json *json, const moda_diff *diff, const moda_diff_row *row) {
    const moda_report *report;
    const moda_stack *const stack = stack_of(diff, row, &report);
    moda_json_array(json, "stack"); /* innermost first */
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        const moda_frame *const frame = &report->frames[stack->frames[i]];
        moda_json_object(json, NULL);
        moda_json_string(json, "function", frame->function);
        moda_json_place(json, report, frame);
        moda_json_bool(json, "is_inlined", frame->inline_depth > 0);
        moda_json_end(json);
    }
    moda_json_end(json);
}

static void put_row_values(moda_json *json, const char *key, const moda_table *table, uint32_t index,
                           const moda_values *values) {
    if (index == UINT32_MAX)
        moda_json_null(json, key);
    else
        moda_json_values(json, key, values, table->known);
}

static void write_json(const moda_diff *diff, const moda_write_options *options, moda_out *out) {
    moda_json json;
    moda_json_begin(&json, out, 2, false);
    moda_json_string(&json, "format", "mod-alloc diff");
    moda_json_int(&json, "version", 1);
    put_side(&json, "before", diff->before);
    put_side(&json, "after", diff->after);
    moda_json_string(&json, "by", moda_by_name(diff->by));
    moda_json_string(&json, "value", moda_value_infos[diff->value].key);
    moda_json_bool(&json, "is_cumulative", diff->by_total);
    put_changes(&json, diff);
    moda_json_array(&json, "rows"); /* largest change of the value first */
    for (size_t i = 0; i < rows_of(diff, options); i++) {
        const moda_diff_row *const row = &diff->rows[i];
        moda_json_object(&json, NULL);
        moda_json_string(&json, "name", row->name);
        moda_json_string(&json, "change", change_names[row->change]);
        moda_json_int(&json, "delta", row->delta);
        if (row->standard_error >= 0)
            moda_json_real(&json, "standard_error", row->standard_error);
        else
            moda_json_null(&json, "standard_error");
        put_row_values(&json, "before", diff->before_table, row->before_index, &row->before);
        put_row_values(&json, "after", diff->after_table, row->after_index, &row->after);
        if (diff->by == MODA_BY_SITE)
            put_stack(&json, diff, row);
        moda_json_end(&json);
    }
    moda_json_finish(&json);
}

/* ---- folded ---- */

static void put_folded_stack(moda_out *out, const moda_report *report, const moda_stack *stack) {
    if (stack->frame_count == 0)
        moda_out_text(out, moda_stack_stand_in(stack));
    for (uint32_t i = stack->frame_count; i-- > 0;) {
        moda_out_folded_name(out, report->frames[stack->frames[i]].function);
        if (i > 0)
            moda_out_char(out, ';');
    }
}

static void write_folded(const moda_diff *diff, const moda_write_options *options, moda_out *out) {
    for (size_t i = 0; diff->by == MODA_BY_SITE && i < rows_of(diff, options); i++) {
        const moda_diff_row *const row = &diff->rows[i];
        const int64_t before = row->before.of[diff->value], after = row->after.of[diff->value];
        if (before <= 0 && after <= 0)
            continue;
        const moda_report *report;
        const moda_stack *const stack = stack_of(diff, row, &report);
        put_folded_stack(out, report, stack);
        moda_out_char(out, ' ');
        moda_out_int(out, before > 0 ? before : 0);
        moda_out_char(out, ' ');
        moda_out_int(out, after > 0 ? after : 0);
        moda_out_char(out, '\n');
    }
}

/* ---- which of them ---- */

bool moda_diff_write(const moda_diff *diff, const char *format, const moda_write_options *options,
                     moda_out *out) {
    static const struct {
        const char *name;
        void (*write)(const moda_diff *diff, const moda_write_options *options, moda_out *out);
    } table[] = {
        {"text", moda_text_diff}, {"json", write_json}, {"csv", write_csv}, {"folded", write_folded}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].name, format) != 0)
            continue;
        if (diff != NULL)
            table[i].write(diff, options, out);
        return true;
    }
    return false;
}
