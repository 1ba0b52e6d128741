/* SPDX-License-Identifier: MIT
 *
 * write_speedscope.c - speedscope's own JSON (https://www.speedscope.app/file-format-schema.json): a table of
 * frames and one sampled profile for each value, so that its menu switches between them. Inlined functions are
 * frames like all others.
 */
#include "report/write_parts.h"

static const moda_value shown[] = {
    MODA_VALUE_ALLOCATED_BYTES, MODA_VALUE_ALLOCATED_COUNT, MODA_VALUE_LIVE_BYTES,
    MODA_VALUE_LIVE_COUNT,      MODA_VALUE_AT_PEAK_BYTES,   MODA_VALUE_AT_PEAK_COUNT,
    MODA_VALUE_REQUESTED_BYTES, MODA_VALUE_WASTE_BYTES,
};
enum { SHOWN = sizeof shown / sizeof shown[0] };

static void put_frame(moda_json *json, const moda_frame *frame) {
    moda_json_object(json, NULL);
    moda_json_string(json, "name", frame->function);
    if (frame->file != NULL)
        moda_json_string(json, "file", frame->file);
    if (frame->line != 0)
        moda_json_uint(json, "line", frame->line);
    moda_json_end(json);
}

static void put_stand_in(moda_json *json, bool is_overflow) {
    moda_json_object(json, NULL);
    moda_json_string(json, "name", moda_stack_stand_in(&(moda_stack){.is_overflow = is_overflow}));
    moda_json_end(json);
}

enum { STAND_INS = 2 }; /* frames 0 and 1 are those of stacks that have none */

static void put_frames(moda_json *json, const moda_report *report, const moda_shown_frames *frames) {
    moda_json_array(json, "frames");
    put_stand_in(json, false);
    put_stand_in(json, true);
    for (uint32_t i = 0; i < frames->count; i++)
        put_frame(json, &report->frames[frames->first[i]]);
    moda_json_end(json);
}

static void put_profile(moda_json *json, const moda_report *report, const moda_shown_frames *frames,
                        moda_value value) {
    int64_t sum = 0;
    moda_json_object(json, NULL);
    moda_json_string(json, "type", "sampled");
    moda_json_string(json, "name", moda_value_infos[value].label);
    moda_json_string(json, "unit", moda_value_infos[value].unit == MODA_UNIT_BYTES ? "bytes" : "none");
    moda_json_int(json, "startValue", 0);
    moda_json_array(json, "samples");
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        if (stack->values.of[value] <= 0)
            continue;
        moda_json_array(json, NULL);
        if (stack->frame_count == 0)
            moda_json_uint(json, NULL, stack->is_overflow ? 1 : 0);
        for (uint32_t k = stack->frame_count; k-- > 0;)
            moda_json_uint(json, NULL, STAND_INS + frames->number[stack->frames[k]]);
        moda_json_end(json);
    }
    moda_json_end(json);
    moda_json_array(json, "weights");
    for (size_t i = 0; i < report->stack_count; i++) {
        const int64_t weight = report->stacks[i].values.of[value];
        if (weight <= 0)
            continue;
        moda_json_int(json, NULL, moda_javascript_int(weight));
        sum = moda_values_sum(sum, weight);
    }
    moda_json_end(json);
    moda_json_int(json, "endValue", moda_javascript_int(sum));
    moda_json_end(json);
}

static void put_document(const moda_report *report, const moda_write_options *options,
                         const moda_shown_frames *frames, moda_out *out) {
    const moda_profile *const profile = report->profile;
    moda_json json;
    moda_json_begin(&json, out, 1, false);
    moda_json_string(&json, "$schema", "https://www.speedscope.app/file-format-schema.json");
    moda_json_string(&json, "exporter", "mod-alloc");
    const char *name = options->title;
    if (name == NULL && profile->process_count > 0)
        name = profile->processes[0].executable;
    moda_json_string(&json, "name", name != NULL ? name : "mod-alloc");
    int64_t active = 0;
    for (int i = 0; i < SHOWN; i++)
        if (shown[i] == options->value)
            active = i;
    moda_json_int(&json, "activeProfileIndex", active);
    moda_json_object(&json, "shared");
    put_frames(&json, report, frames);
    moda_json_end(&json);
    moda_json_array(&json, "profiles");
    for (int i = 0; i < SHOWN; i++)
        put_profile(&json, report, frames, shown[i]);
    moda_json_end(&json);
    moda_json_finish(&json);
}

static int write_speedscope(const moda_report *report, const moda_write_options *options, moda_out *out,
                            moda_error *error) {
    moda_shown_frames frames;
    if (!moda_shown_frames_build(report, &frames)) {
        moda_error_set(error, "speedscope: out of memory");
        return -1;
    }
    put_document(report, options, &frames, out);
    moda_shown_frames_free(&frames);
    return 0;
}

const moda_writer moda_writer_speedscope = {
    .name = "speedscope",
    .extension = "speedscope.json",
    .help = "speedscope's JSON, a profile for each value",
    .write = write_speedscope,
};
