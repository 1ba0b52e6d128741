/* SPDX-License-Identifier: MIT
 *
 * diff.c - what changed from one report to another: rows matched by name, largest change first.
 *
 * A site is matched by the functions of its stack with their modules' file names: addresses change with each
 * start, lines with each edit. What has no name is matched by its place in its module. Sites that look the same
 * that way are summed.
 */
#include "report/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct keyed {
    const char *key; /* interned in the diff's arena */
    uint32_t row;    /* of its table */
    bool is_after;
} keyed;

static void put_function(moda_out *out, const moda_report *report, const moda_frame *frame) {
    const char *const module =
        frame->module != UINT32_MAX ? moda_base_name(report->modules[frame->module].path) : "";
    if (frame->is_named)
        moda_out_text(out, frame->function);
    else if (frame->module != UINT32_MAX)
        moda_out_format(out, "+%" PRIx64, frame->module_offset);
    else
        moda_out_char(out, '?');
    moda_out_format(out, "\t%s\n", module);
}

static void put_key(moda_out *out, const moda_report *report, const moda_table *table, const moda_row *row) {
    if (table->by == MODA_BY_SITE) {
        const moda_stack *const stack = &report->stacks[row->index];
        if (stack->is_overflow)
            moda_out_text(out, "overflow");
        for (uint32_t i = 0; i < stack->frame_count; i++)
            put_function(out, report, &report->frames[stack->frames[i]]);
    } else if (table->by == MODA_BY_FUNCTION && row->index != UINT32_MAX) {
        const moda_function *const function = &report->functions[row->index];
        const char *const module =
            function->module != UINT32_MAX ? moda_base_name(report->modules[function->module].path) : "";
        /* "0xADDR (module+0xOFFSET)": the address differs from run to run. */
        const char *const place = function->is_named ? NULL : strchr(function->name, '(');
        moda_out_format(out, "%s\t%s", place != NULL ? place : function->name, module);
    } else if (table->by == MODA_BY_MODULE) {
        moda_out_text(out, moda_base_name(row->name));
    } else if (table->by == MODA_BY_THREAD) {
        moda_out_format(out, "%.*s", (int)strcspn(row->name, "("), row->name); /* without the number */
    } else {
        moda_out_text(out, row->name);
    }
}

static bool add_keys(moda_diff *diff, const moda_report *report, const moda_table *table, bool is_after,
                     keyed *to) {
    moda_out out;
    moda_out_to_buffer(&out);
    bool is_fine = true;
    for (size_t i = 0; is_fine && i < table->row_count; i++) {
        out.length = 0;
        moda_out_text(&out, "");
        if (out.buffer != NULL)
            out.buffer[0] = 0;
        put_key(&out, report, table, &table->rows[i]);
        const char *const key =
            out.failed ? NULL : moda_arena_intern(diff->arena, out.buffer != NULL ? out.buffer : "");
        to[i] = (keyed){.key = key, .row = (uint32_t)i, .is_after = is_after};
        is_fine = key != NULL;
    }
    free(out.buffer);
    return is_fine;
}

static int by_key(const void *a, const void *b) {
    const keyed *const x = a, *const y = b;
    if (x->key != y->key)
        return (uintptr_t)x->key < (uintptr_t)y->key ? -1 : 1;
    if (x->is_after != y->is_after)
        return x->is_after ? 1 : -1;
    return (x->row > y->row) - (x->row < y->row);
}

static const moda_values *values_of(const moda_diff *diff, const moda_row *row) {
    return diff->by_total ? &row->total : &row->self;
}

static void take(moda_diff *diff, moda_diff_row *to, const keyed *from) {
    const moda_table *const table = from->is_after ? diff->after_table : diff->before_table;
    const moda_row *const row = &table->rows[from->row];
    moda_values_add(from->is_after ? &to->after : &to->before, values_of(diff, row));
    uint32_t *const index = from->is_after ? &to->after_index : &to->before_index;
    if (*index == UINT32_MAX)
        *index = from->row; /* the largest: tables are ordered */
    to->name = row->name;
}

static void judge(moda_diff *diff, moda_diff_row *row) {
    const int64_t before = row->before.of[diff->value], after = row->after.of[diff->value];
    row->delta = moda_values_sum(after, before == INT64_MIN ? INT64_MAX : -before);
    const double a = moda_values_standard_error(&row->before, diff->value);
    const double b = moda_values_standard_error(&row->after, diff->value);
    row->standard_error = a < 0 || b < 0 ? -1 : sqrt(a * a + b * b);
    if (row->delta == 0)
        row->change = MODA_SAME;
    else if (row->before_index == UINT32_MAX || before == 0)
        row->change = MODA_NEW;
    else if (row->after_index == UINT32_MAX || after == 0)
        row->change = MODA_GONE;
    else
        row->change = row->delta > 0 ? MODA_GROWN : MODA_SHRUNK;
}

static int by_change(const void *a, const void *b) {
    const moda_diff_row *const x = a, *const y = b;
    const uint64_t p = x->delta < 0 ? 0 - (uint64_t)x->delta : (uint64_t)x->delta;
    const uint64_t q = y->delta < 0 ? 0 - (uint64_t)y->delta : (uint64_t)y->delta;
    if (p != q)
        return p > q ? -1 : 1;
    const int names = strcmp(x->name, y->name);
    if (names != 0)
        return names;
    if (x->before_index != y->before_index)
        return x->before_index < y->before_index ? -1 : 1;
    return (x->after_index > y->after_index) - (x->after_index < y->after_index);
}

static bool match(moda_diff *diff) {
    const size_t first = diff->before_table->row_count, count = first + diff->after_table->row_count;
    keyed *const keys = malloc((count + 1) * sizeof *keys);
    diff->rows = malloc((count + 1) * sizeof *diff->rows);
    bool is_fine = keys != NULL && diff->rows != NULL
                   && add_keys(diff, diff->before, diff->before_table, false, keys)
                   && add_keys(diff, diff->after, diff->after_table, true, keys + first);
    if (is_fine && count > 1)
        qsort(keys, count, sizeof *keys, by_key);
    for (size_t i = 0; is_fine && i < count;) {
        moda_diff_row *const row = &diff->rows[diff->row_count++];
        *row = (moda_diff_row){.before_index = UINT32_MAX, .after_index = UINT32_MAX};
        moda_values_clear(&row->before);
        moda_values_clear(&row->after);
        const char *const key = keys[i].key;
        for (; i < count && keys[i].key == key; i++)
            take(diff, row, &keys[i]);
        judge(diff, row);
    }
    if (is_fine && diff->row_count > 1)
        qsort(diff->rows, diff->row_count, sizeof *diff->rows, by_change);
    free(keys);
    return is_fine;
}

moda_diff *moda_diff_build(const moda_report *before, const moda_report *after, moda_by by, moda_value value,
                           bool by_total, moda_error *error) {
    moda_diff *const diff = calloc(1, sizeof *diff);
    bool is_fine = diff != NULL;
    if (is_fine) {
        *diff = (moda_diff){.before = before, .after = after, .by = by, .value = value, .by_total = by_total};
        diff->arena = moda_arena_new();
        diff->before_table = moda_table_build(before, by, value, by_total, error);
        diff->after_table = moda_table_build(after, by, value, by_total, error);
        is_fine =
            diff->arena != NULL && diff->before_table != NULL && diff->after_table != NULL && match(diff);
    }
    if (is_fine)
        return diff;
    moda_diff_free(diff);
    moda_error_set(error, "diff: not enough memory");
    return NULL;
}

void moda_diff_free(moda_diff *diff) {
    if (diff == NULL)
        return;
    moda_table_free(diff->before_table);
    moda_table_free(diff->after_table);
    moda_arena_free(diff->arena);
    free(diff->rows);
    free(diff);
}
