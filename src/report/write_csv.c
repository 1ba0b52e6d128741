/* SPDX-License-Identifier: MIT
 *
 * write_csv.c - a table with a line of keys and a line for each row (RFC 4180), for spreadsheets and scripts.
 *
 * Columns are the keys of moda_value_infos; rows of functions, files and modules have each twice, as self_<key>
 * and total_<key>. What is not known is an empty cell. A site's last cell is its stack, innermost first.
 */
#include "report/write_parts.h"

#include <stdlib.h>

static void put_keys(moda_out *out, const char *prefix) {
    for (int i = 0; i < MODA_VALUE_COUNT; i++)
        moda_out_format(out, ",%s%s", prefix, moda_value_infos[i].key);
}

static void put_values(moda_out *out, const moda_values *values, uint32_t known) {
    for (int i = 0; i < MODA_VALUE_COUNT; i++) {
        moda_out_char(out, ',');
        if ((known >> i & 1) == 0)
            continue;
        if (moda_value_infos[i].rule == MODA_RULE_MIN && values->of[i] == INT64_MAX)
            continue;
        moda_out_int(out, values->of[i]);
    }
}

/* The relative error of a site's allocated bytes is what a script wants to know of an estimate. */
static void put_error(moda_out *out, const moda_values *values, moda_value value) {
    const double error = moda_values_standard_error(values, value);
    moda_out_char(out, ',');
    if (error >= 0)
        moda_out_format(out, "%.6g", error);
}

static void put_stack(moda_out *out, const moda_report *report, const moda_stack *stack) {
    moda_out text;
    moda_out_to_buffer(&text);
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        if (i > 0)
            moda_out_text(&text, " <- ");
        const moda_frame *const frame = &report->frames[stack->frames[i]];
        moda_out_utf8(&text, frame->function);
        if (frame->file == NULL)
            continue;
        moda_out_text(&text, " (");
        moda_out_utf8(&text, frame->file);
        if (frame->line != 0)
            moda_out_format(&text, ":%u", frame->line);
        moda_out_char(&text, ')');
    }
    if (text.buffer != NULL)
        moda_out_csv_text(out, text.buffer, text.length);
    free(text.buffer);
}

static void put_site(moda_out *out, const moda_report *report, const moda_row *row) {
    const moda_stack *const stack = &report->stacks[row->index];
    if (stack->frame_count == 0) {
        moda_out_csv_cell(out, moda_stack_stand_in(stack));
        moda_out_text(out, ",,,");
    } else {
        const moda_frame *const frame = &report->frames[stack->frames[0]];
        moda_out_csv_cell(out, frame->function);
        moda_out_char(out, ',');
        moda_out_csv_cell(out, frame->file);
        moda_out_char(out, ',');
        if (frame->line != 0)
            moda_out_uint(out, frame->line);
        moda_out_char(out, ',');
        moda_out_csv_cell(out, moda_frame_module(report, frame));
    }
    put_values(out, &row->self, UINT32_MAX);
    put_error(out, &row->self, MODA_VALUE_ALLOCATED_BYTES);
    put_error(out, &row->self, MODA_VALUE_LIVE_BYTES);
    moda_out_char(out, ',');
    put_stack(out, report, stack);
}

static void put_head(moda_out *out, moda_by by) {
    if (by == MODA_BY_SITE) {
        moda_out_text(out, "function,file,line,module");
        put_keys(out, "");
        moda_out_text(out, ",allocated_bytes_error,live_bytes_error,stack\r\n");
        return;
    }
    moda_out_text(out, moda_by_name(by));
    if (by == MODA_BY_THREAD) {
        put_keys(out, "");
    } else {
        put_keys(out, "self_");
        put_keys(out, "total_");
    }
    moda_out_text(out, "\r\n");
}

static int write_csv(const moda_report *report, const moda_write_options *options, moda_out *out,
                     moda_error *error) {
    moda_table *const table = moda_table_build(report, options->by, options->value, options->by_total, error);
    if (table == NULL)
        return -1;
    put_head(out, options->by);
    const size_t rows = options->top > 0 && options->top < table->row_count ? options->top : table->row_count;
    for (size_t i = 0; i < rows; i++) {
        const moda_row *const row = &table->rows[i];
        if (options->by == MODA_BY_SITE) {
            put_site(out, report, row);
        } else {
            moda_out_csv_cell(out, row->name);
            put_values(out, &row->self, table->known);
            if (options->by != MODA_BY_THREAD)
                put_values(out, &row->total, table->known);
        }
        moda_out_text(out, "\r\n");
    }
    moda_table_free(table);
    return 0;
}

const moda_writer moda_writer_csv = {
    .name = "csv",
    .extension = "csv",
    .help = "rows with all values, for spreadsheets and scripts",
    .write = write_csv,
};
