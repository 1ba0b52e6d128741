/* SPDX-License-Identifier: MIT
 *
 * api.c - the public functions of mod_alloc_report.h on top of the library's parts.
 *
 * Every function here pauses this thread's counting while it works, and lets a visitor run with counting on: so
 * that what the library takes and gives back never shows in the program's figures.
 */
#include "mod_alloc_report.h"

#include "report/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The allocator's; where it is not in this process there is nothing to pause. */
void mod_alloc_internal_pause(void);
void mod_alloc_internal_resume(void);
#pragma weak mod_alloc_internal_pause
#pragma weak mod_alloc_internal_resume

struct mod_alloc_profile {
    moda_profile *profile;
};

void moda_report_pause(void) {
    if (mod_alloc_internal_pause != NULL)
        mod_alloc_internal_pause();
}

void moda_report_resume(void) {
    if (mod_alloc_internal_resume != NULL)
        mod_alloc_internal_resume();
}

/* The public error is the inner one under another name. */
_Static_assert(sizeof(mod_alloc_report_error) == sizeof(moda_error), "one is copied to the other");

static void give_error(mod_alloc_report_error *to, const moda_error *from) {
    if (to != NULL)
        memcpy(to->text, from->text, sizeof to->text);
}

/* ---- reports ---- */

/* A report with what it stands on. */
typedef struct session {
    moda_report *report;
    moda_symbolizer *symbolizer;
} session;

static mod_alloc_report_options options_of(const mod_alloc_report_options *given) {
    mod_alloc_report_options options = {.size = sizeof options};
    /* An older program has a smaller struct. */
    if (given != NULL)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    return options;
}

static bool open_session(session *s, const moda_profile *profile, const mod_alloc_report_options *options,
                         moda_error *error) {
    const moda_symbolizer_options names = {.no_symbols = options->no_symbols != 0,
                                           .debug_path = options->debug_path};
    s->symbolizer = moda_symbolizer_new(&names, error);
    if (s->symbolizer == NULL)
        return false;
    const moda_report_options wanted = {
        .keep = &options->keep,
        .keep_count = options->keep != NULL,
        .drop = &options->drop,
        .drop_count = options->drop != NULL,
        .hide = &options->hide,
        .hide_count = options->hide != NULL,
        .symbolizer = s->symbolizer,
    };
    s->report = moda_report_build(profile, &wanted, error);
    return s->report != NULL;
}

static void close_session(session *s) {
    moda_report_free(s->report);
    moda_symbolizer_free(s->symbolizer);
}

/* ---- sites ---- */

static uint64_t as_count(int64_t value) {
    return value > 0 ? (uint64_t)value : 0;
}

static void fill_site(const moda_stack *stack, mod_alloc_symbolicated_site *to) {
    const int64_t *const of = stack->values.of;
    const bool has_lives = of[MODA_VALUE_LIFETIME_COUNT] > 0;
    to->site = (mod_alloc_call_site){
        .id = stack->is_overflow ? 0 : stack->site_id,
        .walk_end = (mod_alloc_walk_end)stack->walk_end,
        .alloc_samples = as_count(of[MODA_VALUE_SAMPLES]),
        .free_samples = as_count(of[MODA_VALUE_FREED_SAMPLES]),
        .alloc_count = as_count(of[MODA_VALUE_ALLOCATED_COUNT]),
        .alloc_bytes = as_count(of[MODA_VALUE_ALLOCATED_BYTES]),
        .alloc_requested_bytes = as_count(of[MODA_VALUE_REQUESTED_BYTES]),
        .free_count = as_count(of[MODA_VALUE_FREED_COUNT]),
        .free_bytes = as_count(of[MODA_VALUE_FREED_BYTES]),
        .free_requested_bytes =
            as_count(of[MODA_VALUE_REQUESTED_BYTES] - of[MODA_VALUE_LIVE_REQUESTED_BYTES]),
        .live_count = as_count(of[MODA_VALUE_LIVE_COUNT]),
        .live_bytes = as_count(of[MODA_VALUE_LIVE_BYTES]),
        .live_requested_bytes = as_count(of[MODA_VALUE_LIVE_REQUESTED_BYTES]),
        .at_peak_count = as_count(of[MODA_VALUE_AT_PEAK_COUNT]),
        .at_peak_bytes = as_count(of[MODA_VALUE_AT_PEAK_BYTES]),
        .at_peak_requested_bytes = as_count(of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES]),
        .peak_count = as_count(of[MODA_VALUE_OWN_PEAK_COUNT]),
        .peak_bytes = as_count(of[MODA_VALUE_OWN_PEAK_BYTES]),
        .lifetime_count = as_count(of[MODA_VALUE_LIFETIME_COUNT]),
        .lifetime_sum_ns = as_count(of[MODA_VALUE_LIFETIME_NS]),
        .lifetime_min_ns = has_lives ? as_count(of[MODA_VALUE_LIFETIME_MIN_NS]) : 0,
        .lifetime_max_ns = as_count(of[MODA_VALUE_LIFETIME_MAX_NS]),
        .short_lived_count = as_count(of[MODA_VALUE_TEMPORARY_COUNT]),
        .remote_free_count = as_count(of[MODA_VALUE_REMOTE_FREE_COUNT]),
    };
    to->frame_count = stack->frame_count;
    to->alloc_bytes_error = moda_values_standard_error(&stack->values, MODA_VALUE_ALLOCATED_BYTES);
    to->live_bytes_error = moda_values_standard_error(&stack->values, MODA_VALUE_LIVE_BYTES);
}

static void fill_frame(const moda_report *report, uint32_t index, mod_alloc_frame *to) {
    const moda_frame *const frame = &report->frames[index];
    *to = (mod_alloc_frame){
        .function = frame->function,
        .file = frame->file,
        .module = frame->module != UINT32_MAX ? report->modules[frame->module].path : NULL,
        .line = frame->line,
        .column = frame->column,
        .address = (uintptr_t)frame->address,
        .is_inlined = frame->inline_depth > 0,
    };
}

static long visit(const moda_report *report, mod_alloc_symbolicated_visitor *visitor, void *context,
                  moda_error *error) {
    mod_alloc_frame *frames = NULL;
    size_t room = 0;
    long visited = 0;
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        if (stack->frame_count > room) {
            free(frames);
            room = stack->frame_count * 2u;
            frames = malloc(room * sizeof *frames);
            if (frames == NULL) {
                moda_error_set(error, "report: not enough memory");
                return -1;
            }
        }
        mod_alloc_symbolicated_site site = {.frames = frames};
        fill_site(stack, &site);
        for (uint32_t k = 0; k < stack->frame_count; k++)
            fill_frame(report, stack->frames[k], &frames[k]);
        visited++;
        moda_report_resume();
        const int wish = visitor(&site, context);
        moda_report_pause();
        if (wish != 0)
            break;
    }
    free(frames);
    return visited;
}

static long visit_profile(const moda_profile *profile, const mod_alloc_report_options *given,
                          mod_alloc_symbolicated_visitor *visitor, void *context,
                          mod_alloc_report_error *error) {
    moda_error inner = {.text = ""};
    const mod_alloc_report_options options = options_of(given);
    session s = {.report = NULL};
    const long visited =
        open_session(&s, profile, &options, &inner) ? visit(s.report, visitor, context, &inner) : -1;
    close_session(&s);
    give_error(error, &inner);
    return visited;
}

long mod_alloc_symbolicated_report(mod_alloc_symbolicated_visitor *visitor, void *context,
                                   mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    moda_profile *const profile = moda_profile_read_self(&inner);
    give_error(error, &inner);
    const long visited = profile != NULL ? visit_profile(profile, NULL, visitor, context, error) : -1;
    moda_profile_free(profile);
    moda_report_resume();
    return visited;
}

/* The array and all it points to: before the first site lies the arena that holds the rest. */
typedef struct site_array {
    moda_arena *arena;
    _Alignas(16) mod_alloc_symbolicated_site sites[];
} site_array;

static site_array *collect(const moda_report *report, moda_error *error) {
    moda_arena *const arena = moda_arena_new();
    site_array *const array =
        arena != NULL ? moda_arena_alloc(arena, sizeof *array + report->stack_count * sizeof array->sites[0])
                      : NULL;
    bool is_fine = array != NULL;
    if (is_fine)
        array->arena = arena;
    for (size_t i = 0; is_fine && i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        mod_alloc_frame *const frames = moda_arena_alloc(arena, stack->frame_count * sizeof *frames + 1);
        is_fine = frames != NULL;
        for (uint32_t k = 0; is_fine && k < stack->frame_count; k++) {
            fill_frame(report, stack->frames[k], &frames[k]);
            frames[k].function = moda_arena_intern(arena, frames[k].function);
            if (frames[k].file != NULL)
                frames[k].file = moda_arena_intern(arena, frames[k].file);
            if (frames[k].module != NULL)
                frames[k].module = moda_arena_intern(arena, frames[k].module);
            is_fine = frames[k].function != NULL;
        }
        fill_site(stack, &array->sites[i]);
        array->sites[i].frames = frames;
    }
    if (is_fine)
        return array;
    moda_arena_free(arena);
    moda_error_set(error, "report: not enough memory");
    return NULL;
}

mod_alloc_symbolicated_site *mod_alloc_symbolicated_report_get(size_t *count, mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    const mod_alloc_report_options options = options_of(NULL);
    session s = {.report = NULL};
    moda_profile *const profile = moda_profile_read_self(&inner);
    site_array *array = NULL;
    *count = 0;
    if (profile != NULL && open_session(&s, profile, &options, &inner) && s.report->stack_count > 0) {
        array = collect(s.report, &inner);
        if (array != NULL)
            *count = s.report->stack_count;
    }
    close_session(&s);
    moda_profile_free(profile);
    give_error(error, &inner);
    moda_report_resume();
    return array != NULL ? array->sites : NULL;
}

void mod_alloc_symbolicated_report_free(mod_alloc_symbolicated_site *sites) {
    if (sites == NULL)
        return;
    moda_report_pause();
    const site_array *const array =
        (const site_array *)(const void *)((const char *)sites - offsetof(site_array, sites));
    moda_arena_free(array->arena);
    moda_report_resume();
}

/* ---- writing ---- */

static bool write_options_of(const mod_alloc_report_options *options, moda_write_options *to,
                             moda_error *error) {
    moda_write_options_default(to);
    to->top = options->top;
    to->width = options->width;
    if (options->by != NULL && !moda_by_parse(options->by, &to->by))
        return moda_error_set(
            error, "'%s' is no kind of row, expected site, function, file, module or thread", options->by);
    if (options->value != NULL && !moda_value_parse(options->value, &to->value))
        return moda_error_set(error, "'%s' is no value, expected peak, live, allocated, count or another",
                              options->value);
    if (options->value == NULL && to->by == MODA_BY_THREAD)
        to->value = MODA_VALUE_ALLOCATED_BYTES; /* the peak is known by site alone */
    return true;
}

static bool write_to(const moda_profile *profile, const char *format, const mod_alloc_report_options *given,
                     moda_out *out, moda_error *error) {
    if (strcmp(format, "profile") == 0)
        return moda_profile_write(profile, out, error);
    const moda_writer *const writer = moda_writer_find(format);
    if (writer == NULL)
        return moda_error_set(error, "'%s' is no format, expected text, dhat, pprof or another", format);
    const mod_alloc_report_options options = options_of(given);
    moda_write_options write_options;
    session s = {.report = NULL};
    const bool is_done = write_options_of(&options, &write_options, error)
                         && open_session(&s, profile, &options, error)
                         && writer->write(s.report, &write_options, out, error) == 0;
    close_session(&s);
    return is_done;
}

static bool write_profile(const moda_profile *profile, const char *format,
                          const mod_alloc_report_options *options, const char *path, moda_error *error) {
    moda_out out;
    if (!moda_out_to_path(&out, path, error))
        return false;
    const bool is_written = write_to(profile, format, options, &out, error);
    if (!is_written)
        out.failed = true; /* so that no half of a file appears */
    return moda_out_close(&out, error) && is_written;
}

int mod_alloc_report_write(const char *format, const char *path, mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    moda_profile *const profile = moda_profile_read_self(&inner);
    const bool is_done = profile != NULL && write_profile(profile, format, NULL, path, &inner);
    moda_profile_free(profile);
    give_error(error, &inner);
    moda_report_resume();
    return is_done ? 0 : -1;
}

char *mod_alloc_report_string(const char *format, size_t *length, mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    moda_out out;
    moda_out_to_buffer(&out);
    moda_profile *const profile = moda_profile_read_self(&inner);
    bool is_done = profile != NULL && write_to(profile, format, NULL, &out, &inner);
    moda_profile_free(profile);
    if (!moda_out_close(&out, &inner))
        is_done = false;
    if (!is_done) {
        free(out.buffer);
        out.buffer = NULL;
        out.length = 0;
    }
    if (length != NULL)
        *length = out.length;
    give_error(error, &inner);
    moda_report_resume();
    return out.buffer;
}

void mod_alloc_report_string_free(char *text) {
    moda_report_pause();
    free(text);
    moda_report_resume();
}

int mod_alloc_write_dhat_json(const char *path) {
    return mod_alloc_report_write("dhat", path, NULL);
}

char *mod_alloc_dhat_json_string(void) {
    return mod_alloc_report_string("dhat", NULL, NULL);
}

/* ---- profiles ---- */

static mod_alloc_profile *wrap(moda_profile *profile, const moda_error *inner,
                               mod_alloc_report_error *error) {
    give_error(error, inner);
    mod_alloc_profile *const wrapped = profile != NULL ? malloc(sizeof *wrapped) : NULL;
    if (wrapped != NULL)
        wrapped->profile = profile;
    else
        moda_profile_free(profile);
    return wrapped;
}

mod_alloc_profile *mod_alloc_profile_open(const char *path, mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    mod_alloc_profile *const opened = wrap(moda_profile_read_file(path, &inner), &inner, error);
    moda_report_resume();
    return opened;
}

mod_alloc_profile *mod_alloc_profile_open_process(long pid, mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    mod_alloc_profile *const opened = wrap(moda_profile_read_process((pid_t)pid, &inner), &inner, error);
    moda_report_resume();
    return opened;
}

mod_alloc_profile *mod_alloc_profile_open_self(mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    mod_alloc_profile *const opened = wrap(moda_profile_read_self(&inner), &inner, error);
    moda_report_resume();
    return opened;
}

mod_alloc_profile *mod_alloc_profile_merge(mod_alloc_profile *const *parts, size_t count,
                                           mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    const moda_profile **const inner_parts = malloc((count + 1) * sizeof *inner_parts);
    moda_profile *merged = NULL;
    for (size_t i = 0; inner_parts != NULL && i < count; i++)
        inner_parts[i] = parts[i]->profile;
    if (inner_parts != NULL)
        merged = moda_profile_merge(inner_parts, count, &inner);
    else
        moda_error_set(&inner, "merge: not enough memory");
    free(inner_parts);
    mod_alloc_profile *const opened = wrap(merged, &inner, error);
    moda_report_resume();
    return opened;
}

void mod_alloc_profile_close(mod_alloc_profile *profile) {
    if (profile == NULL)
        return;
    moda_report_pause();
    moda_profile_free(profile->profile);
    free(profile);
    moda_report_resume();
}

void mod_alloc_profile_stats(const mod_alloc_profile *profile, mod_alloc_stats *stats) {
    *stats = profile->profile->totals;
}

void mod_alloc_profile_sampling(const mod_alloc_profile *profile, mod_alloc_sampling_stats *stats) {
    *stats = (mod_alloc_sampling_stats){.sample_bytes = profile->profile->sample_bytes,
                                        .sites = profile->profile->site_count};
    for (size_t i = 0; i < profile->profile->process_count; i++) {
        const moda_profile_process *const process = &profile->profile->processes[i];
        stats->samples += process->samples;
        stats->dropped += process->dropped;
        stats->region_bytes_used += process->region_used_bytes;
        stats->region_bytes_max += process->region_max_bytes;
        for (int k = 0; k < 6; k++)
            stats->walks[k] += process->walks[k];
    }
}

long mod_alloc_profile_visit(const mod_alloc_profile *profile, const mod_alloc_report_options *options,
                             mod_alloc_symbolicated_visitor *visitor, void *context,
                             mod_alloc_report_error *error) {
    moda_report_pause();
    const long visited = visit_profile(profile->profile, options, visitor, context, error);
    moda_report_resume();
    return visited;
}

int mod_alloc_profile_write(const mod_alloc_profile *profile, const char *format,
                            const mod_alloc_report_options *options, const char *path,
                            mod_alloc_report_error *error) {
    moda_report_pause();
    moda_error inner = {.text = ""};
    const bool is_done = write_profile(profile->profile, format, options, path, &inner);
    give_error(error, &inner);
    moda_report_resume();
    return is_done ? 0 : -1;
}

const char *mod_alloc_report_format(size_t n, const char **help) {
    size_t count;
    const moda_writer *const *const writers = moda_writers(&count);
    if (n >= count)
        return NULL;
    if (help != NULL)
        *help = writers[n]->help;
    return writers[n]->name;
}
