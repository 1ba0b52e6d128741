/* SPDX-License-Identifier: MIT
 *
 * write_parts.c - what several writers share.
 */
#include "report/write_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static void put_digits(moda_out *out, uint64_t number, bool is_negative) {
    char text[24];
    char *at = text + sizeof text;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    if (is_negative)
        *--at = '-';
    moda_out_bytes(out, at, (size_t)(text + sizeof text - at));
}

void moda_out_uint(moda_out *out, uint64_t number) {
    put_digits(out, number, false);
}

void moda_out_int(moda_out *out, int64_t number) {
    put_digits(out, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, number < 0);
}

int64_t moda_javascript_int(int64_t number) {
    const int64_t largest = (INT64_C(1) << 53) - 1;
    return number < 0 ? 0 : number > largest ? largest : number;
}

/* ---- JSON ---- */

/* A string with `<` escaped. It is escaped the usual way first: `<` has no other meaning there. */
static void put_html_string(moda_out *out, const char *text) {
    moda_out plain;
    moda_out_to_buffer(&plain);
    moda_out_json_string(&plain, text);
    const char *from = plain.buffer != NULL ? plain.buffer : "\"\"";
    for (const char *angle; (angle = strchr(from, '<')) != NULL; from = angle + 1) {
        moda_out_bytes(out, from, (size_t)(angle - from));
        moda_out_text(out, "\\u003c");
    }
    moda_out_text(out, from);
    free(plain.buffer);
}

static void put_string(moda_json *json, const char *text) {
    if (json->in_html && strchr(text, '<') != NULL)
        put_html_string(json->out, text);
    else
        moda_out_json_string(json->out, text);
}

static void member(moda_json *json, const char *key) {
    if (json->has_member[json->depth])
        moda_out_char(json->out, ',');
    json->has_member[json->depth] = true;
    if (json->depth <= json->lines_to)
        moda_out_char(json->out, '\n');
    if (key == NULL)
        return;
    put_string(json, key);
    moda_out_char(json->out, ':');
}

static void open_with(moda_json *json, char open, char close) {
    moda_out_char(json->out, open);
    if (json->depth + 1 < sizeof json->close)
        json->depth++;
    json->has_member[json->depth] = false;
    json->close[json->depth] = close;
}

void moda_json_begin(moda_json *json, moda_out *out, unsigned lines_to, bool in_html) {
    *json = (moda_json){.out = out, .lines_to = lines_to, .in_html = in_html};
    open_with(json, '{', '}');
}

void moda_json_finish(moda_json *json) {
    while (json->depth > 0)
        moda_json_end(json);
    moda_out_char(json->out, '\n');
}

void moda_json_object(moda_json *json, const char *key) {
    member(json, key);
    open_with(json, '{', '}');
}

void moda_json_array(moda_json *json, const char *key) {
    member(json, key);
    open_with(json, '[', ']');
}

void moda_json_end(moda_json *json) {
    if (json->depth <= json->lines_to && json->has_member[json->depth])
        moda_out_char(json->out, '\n');
    moda_out_char(json->out, json->close[json->depth]);
    json->depth--;
}

void moda_json_string(moda_json *json, const char *key, const char *text) {
    member(json, key);
    if (text == NULL)
        moda_out_text(json->out, "null");
    else
        put_string(json, text);
}

void moda_json_int(moda_json *json, const char *key, int64_t number) {
    member(json, key);
    moda_out_int(json->out, number);
}

void moda_json_uint(moda_json *json, const char *key, uint64_t number) {
    member(json, key);
    moda_out_uint(json->out, number);
}

void moda_json_real(moda_json *json, const char *key, double number) {
    member(json, key);
    if (!isfinite(number))
        moda_out_text(json->out, "null");
    else
        moda_out_format(json->out, "%.6g", number);
}

void moda_json_bool(moda_json *json, const char *key, bool is_true) {
    member(json, key);
    moda_out_text(json->out, is_true ? "true" : "false");
}

void moda_json_null(moda_json *json, const char *key) {
    member(json, key);
    moda_out_text(json->out, "null");
}

/* ---- stacks ---- */

const char *moda_stack_stand_in(const moda_stack *stack) {
    return stack->is_overflow ? "[overflow site: samples that found no room]" : "[no frames]";
}

uint32_t moda_stack_location_end(const moda_report *report, const moda_stack *stack, uint32_t at) {
    const uint32_t location = report->frames[stack->frames[at]].location;
    uint32_t end = at + 1;
    while (end < stack->frame_count && stack->frames[end] > stack->frames[end - 1]
           && report->frames[stack->frames[end]].location == location)
        end++;
    return end;
}

static bool is_shown_equal(const moda_frame *a, const moda_frame *b) {
    return a->function_id == b->function_id && a->file == b->file && a->line == b->line;
}

/* File names are interned: equal pointers, equal names. */
static size_t shown_hash(const moda_frame *frame) {
    uint64_t hash = (uint64_t)(uintptr_t)frame->file ^ ((uint64_t)frame->function_id << 32) ^ frame->line;
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash ^ (hash >> 29));
}

bool moda_shown_frames_build(const moda_report *report, moda_shown_frames *frames) {
    size_t slots = 16;
    while (slots < report->frame_count * 2)
        slots *= 2;
    uint32_t *const table = calloc(slots, sizeof *table); /* shown frame + 1, or 0 */
    *frames = (moda_shown_frames){.number = calloc(report->frame_count + 1, sizeof *frames->number),
                                  .first = calloc(report->frame_count + 1, sizeof *frames->first)};
    if (table == NULL || frames->number == NULL || frames->first == NULL) {
        free(table);
        moda_shown_frames_free(frames);
        return false;
    }
    for (uint32_t i = 0; i < report->frame_count; i++) {
        size_t at = shown_hash(&report->frames[i]) & (slots - 1);
        while (table[at] != 0
               && !is_shown_equal(&report->frames[frames->first[table[at] - 1]], &report->frames[i]))
            at = (at + 1) & (slots - 1);
        if (table[at] == 0) {
            frames->first[frames->count] = i;
            table[at] = ++frames->count;
        }
        frames->number[i] = table[at] - 1;
    }
    free(table);
    return true;
}

void moda_shown_frames_free(moda_shown_frames *frames) {
    free(frames->number);
    free(frames->first);
    *frames = (moda_shown_frames){0};
}

const char *moda_frame_module(const moda_report *report, const moda_frame *frame) {
    return frame->module < report->module_count ? report->modules[frame->module].path : "";
}

uint32_t *moda_slots_new(size_t keys, size_t *mask) {
    size_t slots = 16;
    while (slots < keys * 2)
        slots *= 2;
    *mask = slots - 1;
    return calloc(slots, sizeof(uint32_t));
}

void moda_json_totals(moda_json *json, const mod_alloc_stats *totals) {
    moda_json_object(json, "totals");
    moda_json_uint(json, "alloc_count", totals->alloc_count);
    moda_json_uint(json, "free_count", totals->free_count);
    moda_json_uint(json, "total_bytes", totals->total_bytes);
    moda_json_uint(json, "current_bytes", totals->current_bytes);
    moda_json_uint(json, "peak_bytes", totals->peak_bytes);
    moda_json_uint(json, "live_count", totals->live_count);
    moda_json_uint(json, "peak_live_count", totals->peak_live_count);
    moda_json_uint(json, "requested_bytes", totals->requested_bytes);
    moda_json_end(json);
}

void moda_json_values(moda_json *json, const char *key, const moda_values *values, uint32_t known) {
    bool has_errors = false;
    moda_json_object(json, key);
    for (int i = 0; i < MODA_VALUE_COUNT; i++) {
        const moda_value_info *const info = &moda_value_infos[i];
        const bool is_known =
            (known >> i & 1) != 0 && !(info->rule == MODA_RULE_MIN && values->of[i] == INT64_MAX);
        if (is_known)
            moda_json_int(json, info->key, values->of[i]);
        else
            moda_json_null(json, info->key);
        has_errors |= is_known && moda_values_standard_error(values, (moda_value)i) > 0;
    }
    if (has_errors) {
        moda_json_object(json, "standard_errors");
        for (int i = 0; i < MODA_VALUE_COUNT; i++) {
            const double error = moda_values_standard_error(values, (moda_value)i);
            if ((known >> i & 1) != 0 && error > 0)
                moda_json_real(json, moda_value_infos[i].key, error);
        }
        moda_json_end(json);
    }
    moda_json_end(json);
}

void moda_json_place(moda_json *json, const moda_report *report, const moda_frame *frame) {
    moda_json_string(json, "file", frame->file);
    if (frame->line != 0)
        moda_json_uint(json, "line", frame->line);
    else
        moda_json_null(json, "line");
    moda_json_string(json, "module",
                     frame->module < report->module_count ? moda_frame_module(report, frame) : NULL);
}

/* ---- csv and folded ---- */

/* Quoted where it must be: quotes inside are doubled. Line ends inside a name would be legal, but few scripts
 * expect them: they become spaces. `text` is changed. */
void moda_out_csv_text(moda_out *out, char *text, size_t length) {
    for (char *at = text; (at = strpbrk(at, "\r\n")) != NULL;)
        *at = ' ';
    if (strpbrk(text, ",\"") == NULL) {
        moda_out_bytes(out, text, length);
        return;
    }
    moda_out_char(out, '"');
    const char *from = text;
    for (const char *quote; (quote = strchr(from, '"')) != NULL; from = quote + 1) {
        moda_out_bytes(out, from, (size_t)(quote - from) + 1);
        moda_out_char(out, '"');
    }
    moda_out_text(out, from);
    moda_out_char(out, '"');
}

void moda_out_csv_cell(moda_out *out, const char *text) {
    if (text == NULL)
        return;
    moda_out clean;
    moda_out_to_buffer(&clean);
    moda_out_utf8(&clean, text);
    if (clean.buffer != NULL)
        moda_out_csv_text(out, clean.buffer, clean.length);
    free(clean.buffer);
}

void moda_out_folded_name(moda_out *out, const char *name) {
    moda_out clean;
    moda_out_to_buffer(&clean);
    moda_out_utf8(&clean, name);
    for (size_t i = 0; i < clean.length; i++) {
        if (clean.buffer[i] == ';')
            clean.buffer[i] = ':';
        else if ((unsigned char)clean.buffer[i] < 0x20)
            clean.buffer[i] = ' ';
    }
    moda_out_bytes(out, clean.buffer, clean.length);
    free(clean.buffer);
}
