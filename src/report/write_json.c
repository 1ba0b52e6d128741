/* SPDX-License-Identifier: MIT
 *
 * write_json.c - all that the report knows, for scripts: facts, totals, rows with every value under its key.
 *
 * Keys are stable: one may be added, none changes its meaning within a "version". Values are those of
 * moda_value_infos; what is not known (the shortest life where none ended, a thread's values that come from
 * samples) is null. Rows of sites hold their stack as numbers into "frames", innermost first.
 */
#include "report/write_parts.h"

static void put_walks(moda_json *json, const uint64_t walks[6]) {
    static const char *const ends[] = {"complete", "cut", "unknown_code", "guessed", "broken", "none"};
    moda_json_object(json, "walks");
    for (int i = 0; i < 6; i++)
        moda_json_uint(json, ends[i], walks[i]);
    moda_json_end(json);
}

static void put_timeline(moda_json *json, const moda_profile_process *process) {
    moda_json_array(json, "timeline");
    for (size_t i = 0; i < process->timeline_count; i++) {
        const moda_timeline_sample *const point = &process->timeline[i];
        moda_json_object(json, NULL);
        moda_json_uint(json, "time_ns", point->time_ns);
        moda_json_uint(json, "current_bytes", point->current_bytes);
        moda_json_uint(json, "live_count", point->live_count);
        moda_json_uint(json, "total_bytes", point->total_bytes);
        moda_json_uint(json, "alloc_count", point->alloc_count);
        moda_json_uint(json, "resident_bytes", point->resident_bytes);
        moda_json_end(json);
    }
    moda_json_end(json);
}

static void put_process(moda_json *json, const moda_profile_process *process) {
    moda_json_object(json, NULL);
    moda_json_string(json, "source", process->source);
    moda_json_string(json, "executable", process->executable);
    moda_json_string(json, "command_line", process->command_line);
    moda_json_uint(json, "pid", process->pid);
    moda_json_uint(json, "parent_pid", process->parent_pid);
    moda_json_uint(json, "fork_count", process->fork_count);
    moda_json_uint(json, "start_realtime_ns", process->start_realtime_ns);
    moda_json_uint(json, "duration_ns", process->duration_ns);
    moda_json_uint(json, "peak_ns", process->peak_ns);
    moda_json_bool(json, "is_live", process->is_live);
    moda_json_bool(json, "is_forked", process->is_forked);
    moda_json_bool(json, "exited_cleanly", process->exited_cleanly);
    if (process->has_exit_status)
        moda_json_uint(json, "exit_status", process->exit_status);
    else
        moda_json_null(json, "exit_status");
    moda_json_string(json, "mod_alloc_version", process->mod_alloc_version);
    moda_json_string(json, "mimalloc_version", process->mimalloc_version);
    moda_json_string(json, "machine", process->machine);
    moda_json_totals(json, &process->totals);
    moda_json_uint(json, "threads_ever", process->threads_ever);
    moda_json_uint(json, "threads_now", process->threads_now);
    moda_json_uint(json, "sample_bytes", process->sample_bytes);
    moda_json_uint(json, "sample_changes", process->sample_changes);
    moda_json_uint(json, "samples", process->samples);
    moda_json_uint(json, "dropped", process->dropped);
    moda_json_uint(json, "dropped_disk", process->dropped_disk);
    put_walks(json, process->walks);
    moda_json_uint(json, "torn", process->torn);
    moda_json_uint(json, "short_lived_ns", process->short_lived_ns);
    moda_json_uint(json, "resident_bytes", process->resident_bytes);
    moda_json_uint(json, "resident_peak_bytes", process->resident_peak_bytes);
    moda_json_uint(json, "heap_committed_bytes", process->heap_committed_bytes);
    moda_json_uint(json, "region_resident_bytes", process->region_resident_bytes);
    moda_json_uint(json, "region_used_bytes", process->region_used_bytes);
    moda_json_uint(json, "region_max_bytes", process->region_max_bytes);
    put_timeline(json, process);
    moda_json_end(json);
}

static void put_sizes(moda_json *json, const moda_profile *profile) {
    moda_json_array(json, "size_classes"); /* larger than the class before, up to and with `up_to` */
    for (unsigned i = 0; i < MODA_PROFILE_SIZE_CLASSES; i++) {
        if (profile->size_classes[i] == 0)
            continue;
        moda_json_object(json, NULL);
        moda_json_uint(json, "up_to", UINT64_C(1) << i);
        moda_json_uint(json, "count", profile->size_classes[i]);
        moda_json_end(json);
    }
    moda_json_end(json);
}

static void put_frames(moda_json *json, const moda_report *report) {
    moda_json_array(json, "frames");
    for (size_t i = 0; i < report->frame_count; i++) {
        const moda_frame *const frame = &report->frames[i];
        moda_json_object(json, NULL);
        moda_json_string(json, "function", frame->function);
        moda_json_place(json, report, frame);
        moda_json_bool(json, "is_inlined", frame->inline_depth > 0);
        moda_json_bool(json, "is_named", frame->is_named);
        moda_json_uint(json, "address", frame->address);
        moda_json_uint(json, "module_offset", frame->module_offset);
        moda_json_end(json);
    }
    moda_json_end(json);
}

static void put_site_row(moda_json *json, const moda_report *report, const moda_row *row) {
    static const char *const ends[] = {"complete", "cut", "unknown_code", "guessed", "broken", "none"};
    const moda_stack *const stack = &report->stacks[row->index];
    moda_json_object(json, NULL);
    if (stack->frame_count == 0) {
        moda_json_string(json, "function", moda_stack_stand_in(stack));
        moda_json_null(json, "file");
        moda_json_null(json, "line");
        moda_json_null(json, "module");
    } else {
        const moda_frame *const frame = &report->frames[stack->frames[0]];
        moda_json_string(json, "function", frame->function);
        moda_json_place(json, report, frame);
    }
    moda_json_uint(json, "id", stack->site_id);
    moda_json_uint(json, "process", stack->process);
    moda_json_bool(json, "is_overflow", stack->is_overflow);
    moda_json_string(json, "walk_end", stack->walk_end < 6 ? ends[stack->walk_end] : NULL);
    moda_json_values(json, "values", &row->self, UINT32_MAX);
    moda_json_array(json, "stack");
    for (uint32_t i = 0; i < stack->frame_count; i++)
        moda_json_uint(json, NULL, stack->frames[i]);
    moda_json_end(json);
    moda_json_end(json);
}

static void put_row(moda_json *json, const moda_report *report, const moda_table *table,
                    const moda_row *row) {
    if (table->by == MODA_BY_SITE) {
        put_site_row(json, report, row);
        return;
    }
    moda_json_object(json, NULL);
    moda_json_string(json, "name", row->name);
    if (table->by == MODA_BY_FUNCTION && row->index < report->function_count) {
        const moda_function *const function = &report->functions[row->index];
        moda_json_string(json, "file", function->file);
        moda_json_string(json, "module",
                         function->module < report->module_count ? report->modules[function->module].path
                                                                 : NULL);
    }
    if (table->by == MODA_BY_THREAD) {
        if (row->index < report->profile->thread_count)
            moda_json_uint(json, "tid", report->profile->threads[row->index].tid);
        moda_json_values(json, "values", &row->self, table->known);
    } else {
        moda_json_values(json, "self", &row->self, table->known);
        moda_json_values(json, "total", &row->total, table->known);
    }
    moda_json_end(json);
}

static int write_json(const moda_report *report, const moda_write_options *options, moda_out *out,
                      moda_error *error) {
    const moda_profile *const profile = report->profile;
    moda_table *const table = moda_table_build(report, options->by, options->value, options->by_total, error);
    if (table == NULL)
        return -1;
    moda_json json;
    moda_json_begin(&json, out, 2, false);
    moda_json_string(&json, "format", "mod-alloc report");
    moda_json_int(&json, "version", 1);
    if (options->title != NULL)
        moda_json_string(&json, "title", options->title);
    moda_json_bool(&json, "is_exact", profile->is_exact);
    moda_json_uint(&json, "sample_bytes", profile->sample_bytes);
    moda_json_bool(&json, "is_filtered", report->is_filtered);
    moda_json_totals(&json, &profile->totals);
    moda_json_values(&json, "site_totals", &report->totals, UINT32_MAX);
    moda_json_values(&json, "filtered_out", &report->dropped, UINT32_MAX);
    moda_json_uint(&json, "addresses", report->addresses);
    moda_json_uint(&json, "addresses_named", report->addresses_named);
    moda_json_uint(&json, "addresses_with_lines", report->addresses_with_lines);
    moda_json_array(&json, "processes");
    for (size_t i = 0; i < profile->process_count; i++)
        put_process(&json, &profile->processes[i]);
    moda_json_end(&json);
    put_sizes(&json, profile);
    moda_json_string(&json, "by", moda_by_name(options->by));
    moda_json_string(&json, "order", moda_value_infos[options->value].key);
    if (options->by == MODA_BY_SITE)
        put_frames(&json, report);
    moda_json_array(&json, "rows");
    const size_t rows = options->top > 0 && options->top < table->row_count ? options->top : table->row_count;
    for (size_t i = 0; i < rows; i++)
        put_row(&json, report, table, &table->rows[i]);
    moda_json_end(&json);
    moda_json_finish(&json);
    moda_table_free(table);
    return 0;
}

const moda_writer moda_writer_json = {
    .name = "json",
    .extension = "json",
    .help = "rows with all values, facts and totals, for scripts",
    .write = write_json,
};
