/* SPDX-License-Identifier: MIT
 *
 * build.c - a profile becomes a report: each distinct address (places.c) is named once, filters are applied, and
 * sites whose stacks look the same become one stack.
 *
 * The report's memory is its arena; tables needed only while building are malloc's and go at the end.
 *
 * Laws
 *   1. a location is a place: the same code in two processes is one location.
 *   2. no two stacks have the same frames, but for one stack without frames (all hidden) beside the overflow
 *      site's.
 *   3. totals + dropped = the sum over the profile's sites.
 */
#include "report/filter.h"
#include "report/places.h"
#include "report/report.h"
#include "report/symbolize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct builder {
    const moda_profile *profile;
    const moda_report_options *options;
    moda_symbolizer *symbolizer;
    moda_error *error;
    moda_arena *arena;
    moda_report *report;

    moda_places places;
    moda_frame *frames;
    size_t frame_count;
    moda_function *functions;
    size_t function_count, function_room;
    uint32_t *function_table; /* index + 1 */
    size_t function_table_room;
    uint8_t *frame_marks; /* by frame */
} builder;

enum { MARK_KEEP = 1, MARK_DROP = 2, MARK_HIDE = 4 };

static bool no_memory(builder *b) {
    return moda_error_set(b->error, "report: not enough memory");
}

/* ---- names ---- */

static int by_module(const void *a, const void *b) {
    const moda_place *const x = *(moda_place *const *)a, *const y = *(moda_place *const *)b;
    if (x->module != y->module)
        return x->module < y->module ? -1 : 1;
    return (x->key_address > y->key_address) - (x->key_address < y->key_address);
}

/* One symbol of its own for a run-time compiled function. */
static void name_compiled(builder *b, moda_place *p) {
    const moda_profile_process *const process = &b->profile->processes[p->process];
    const char *const name = moda_symbolizer_perf_map_name(b->symbolizer, process, p->key_address);
    moda_symbol *const symbol = name != NULL ? moda_arena_alloc(b->arena, sizeof *symbol) : NULL;
    if (symbol == NULL)
        return;
    *symbol = (moda_symbol){.function = name, .linkage_name = name};
    p->symbols = symbol;
    p->symbol_count = 1;
}

static bool name_places(builder *b) {
    const size_t count = b->places.count;
    moda_place **const order = malloc((count + 1) * sizeof *order);
    moda_lookup *const lookups = malloc((count + 1) * sizeof *lookups);
    if (order == NULL || lookups == NULL) {
        free(order);
        free(lookups);
        return no_memory(b);
    }
    for (size_t i = 0; i < count; i++)
        order[i] = &b->places.all[i];
    if (count > 1)
        qsort(order, count, sizeof *order, by_module);
    for (size_t from = 0; from < count;) {
        size_t to = from;
        while (to < count && order[to]->module == order[from]->module) {
            lookups[to] = (moda_lookup){.address = order[to]->key_address};
            to++;
        }
        const moda_place *const first = order[from];
        if (first->module == UINT32_MAX) {
            for (size_t i = from; i < to; i++)
                name_compiled(b, order[i]);
        } else {
            moda_object_facts facts;
            moda_symbolizer_look_up(b->symbolizer,
                                    &b->profile->processes[first->process].modules[first->process_module],
                                    lookups + from, to - from, &b->options->progress, from, count, &facts);
            for (size_t i = from; i < to; i++) {
                order[i]->symbols = lookups[i].symbols;
                order[i]->symbol_count = lookups[i].symbol_count;
            }
            moda_report_module *const module = &b->places.modules[first->module];
            module->has_symbols = facts.has_symbols;
            module->has_lines = facts.has_lines;
            module->has_inlines = facts.has_inlines;
            module->is_changed = facts.is_changed;
            module->is_missing = facts.is_missing;
        }
        from = to;
    }
    free(order);
    free(lookups);
    return true;
}

static const char *address_name(builder *b, const moda_place *p) {
    char text[512];
    if (p->module == UINT32_MAX)
        snprintf(text, sizeof text, "0x%" PRIx64, p->address);
    else
        snprintf(text, sizeof text, "0x%" PRIx64 " (%.400s+0x%" PRIx64 ")", p->address,
                 moda_base_name(b->places.modules[p->module].path), p->key_address + 1);
    return moda_arena_intern(b->arena, text);
}

static bool grow_functions(builder *b) {
    if (b->function_count == b->function_room) {
        const size_t room = b->function_room == 0 ? 256 : b->function_room * 2;
        moda_function *const grown = realloc(b->functions, room * sizeof *grown);
        if (grown == NULL)
            return no_memory(b);
        b->functions = grown;
        b->function_room = room;
    }
    if (b->function_count * 2 < b->function_table_room)
        return true;
    const size_t room = b->function_table_room == 0 ? 1024 : b->function_table_room * 2;
    uint32_t *const table = calloc(room, sizeof *table);
    if (table == NULL)
        return no_memory(b);
    for (size_t i = 0; i < b->function_count; i++) {
        size_t at = moda_places_mix((uintptr_t)b->functions[i].name, b->functions[i].module) & (room - 1);
        while (table[at] != 0)
            at = (at + 1) & (room - 1);
        table[at] = (uint32_t)i + 1;
    }
    free(b->function_table);
    b->function_table = table;
    b->function_table_room = room;
    return true;
}

/* Functions are told apart by name and module: two objects may each have their own `init`. */
static bool intern_function(builder *b, const moda_frame *frame, const moda_symbol *symbol, uint32_t *index) {
    if (!grow_functions(b))
        return false;
    size_t at = moda_places_mix((uintptr_t)frame->function, frame->module) & (b->function_table_room - 1);
    for (; b->function_table[at] != 0; at = (at + 1) & (b->function_table_room - 1)) {
        const moda_function *const other = &b->functions[b->function_table[at] - 1];
        if (other->name == frame->function && other->module == frame->module) {
            *index = b->function_table[at] - 1;
            return true;
        }
    }
    *index = (uint32_t)b->function_count;
    b->functions[b->function_count++] = (moda_function){
        .name = frame->function,
        .linkage_name = frame->linkage_name,
        .file = frame->file,
        .line = symbol->function_line,
        .module = frame->module,
        .is_named = frame->is_named,
    };
    b->function_table[at] = (uint32_t)b->function_count;
    return true;
}

static const char *intern_or_null(builder *b, const char *text) {
    return text != NULL ? moda_arena_intern(b->arena, text) : NULL;
}

static bool make_frame(builder *b, uint32_t index, const moda_symbol *symbol, moda_frame *frame) {
    const moda_place *const p = &b->places.all[index];
    *frame = (moda_frame){
        .function =
            symbol->function != NULL ? moda_arena_intern(b->arena, symbol->function) : address_name(b, p),
        .linkage_name = intern_or_null(b, symbol->linkage_name),
        .file = intern_or_null(b, symbol->file),
        .line = symbol->line,
        .column = symbol->column,
        .inline_depth = symbol->inline_depth,
        .location = index,
        .module = p->module,
        .address = p->address,
        .module_offset = p->module != UINT32_MAX ? p->key_address : 0,
        .is_named = symbol->function != NULL,
    };
    return frame->function != NULL ? intern_function(b, frame, symbol, &frame->function_id) : no_memory(b);
}

static bool make_frames(builder *b) {
    static const moda_symbol nothing = {.function = NULL};
    size_t most = 0;
    for (size_t i = 0; i < b->places.count; i++)
        most += b->places.all[i].symbol_count + 1;
    moda_location *const locations = moda_arena_alloc(b->arena, (b->places.count + 1) * sizeof *locations);
    b->frames = moda_arena_alloc(b->arena, (most + 1) * sizeof *b->frames);
    if (locations == NULL || b->frames == NULL)
        return no_memory(b);
    for (size_t i = 0; i < b->places.count; i++) {
        const moda_place *const p = &b->places.all[i];
        locations[i] = (moda_location){
            .address = p->address, .first_frame = (uint32_t)b->frame_count, .module = p->module};
        const uint32_t count = p->symbol_count > 0 ? p->symbol_count : 1;
        for (uint32_t k = 0; k < count; k++) {
            const moda_symbol *const symbol = p->symbol_count > 0 ? &p->symbols[k] : &nothing;
            if (!make_frame(b, (uint32_t)i, symbol, &b->frames[b->frame_count++]))
                return false;
        }
        locations[i].frame_count = (uint32_t)b->frame_count - locations[i].first_frame;
        const moda_frame *const outermost = &b->frames[b->frame_count - 1];
        b->report->addresses_named += outermost->is_named;
        b->report->addresses_with_lines += b->frames[locations[i].first_frame].file != NULL;
    }
    b->report->addresses = b->places.count;
    b->report->locations = locations;
    b->report->location_count = b->places.count;
    b->report->frames = b->frames;
    b->report->frame_count = b->frame_count;
    moda_function *const functions = moda_arena_alloc(b->arena, (b->function_count + 1) * sizeof *functions);
    if (functions == NULL)
        return no_memory(b);
    if (b->function_count > 0)
        memcpy(functions, b->functions, b->function_count * sizeof *functions);
    b->report->functions = functions;
    b->report->function_count = b->function_count;
    b->report->modules = b->places.modules;
    b->report->module_count = b->places.module_count;
    return true;
}

/* ---- filters ---- */

static bool mark(builder *b, const char *const *patterns, size_t count, uint8_t bit) {
    if (patterns == NULL || count == 0)
        return true;
    moda_filter *const filter = moda_filter_new(patterns, count, b->error);
    if (filter == NULL)
        return false;
    for (size_t i = 0; i < b->frame_count; i++) {
        const moda_frame *const frame = &b->frames[i];
        const char *const path = frame->module != UINT32_MAX ? b->places.modules[frame->module].path : NULL;
        if (moda_filter_matches(filter, frame, path))
            b->frame_marks[i] |= bit;
    }
    moda_filter_free(filter);
    b->report->is_filtered = true;
    return true;
}

static bool mark_frames(builder *b) {
    const moda_report_options *const o = b->options;
    b->frame_marks = calloc(b->frame_count + 1, 1);
    if (b->frame_marks == NULL)
        return no_memory(b);
    return mark(b, o->keep, o->keep_count, MARK_KEEP) && mark(b, o->drop, o->drop_count, MARK_DROP)
           && mark(b, o->hide, o->hide_count, MARK_HIDE);
}

/* ---- stacks ---- */

typedef struct stack_table {
    uint32_t *table; /* index + 1 */
    size_t room;
    moda_stack *stacks;
    size_t count;
} stack_table;

static bool same_stack(const moda_stack *a, const uint32_t *frames, uint32_t count, bool is_overflow) {
    return a->frame_count == count && a->is_overflow == is_overflow
           && (count == 0 || memcmp(a->frames, frames, count * sizeof *frames) == 0);
}

static bool add_stack(builder *b, stack_table *t, const moda_profile_site *site, const uint32_t *frames,
                      uint32_t count) {
    const bool is_overflow = site->id == 0;
    uint64_t hash = is_overflow;
    for (uint32_t i = 0; i < count; i++)
        hash = moda_places_mix(hash, frames[i] + 1u);
    size_t at = hash & (t->room - 1);
    while (t->table[at] != 0 && !same_stack(&t->stacks[t->table[at] - 1], frames, count, is_overflow))
        at = (at + 1) & (t->room - 1);
    if (t->table[at] == 0) {
        moda_stack *const made = &t->stacks[t->count];
        *made = (moda_stack){
            .frame_count = count,
            .site_id = site->id,
            .process = site->process,
            .thread = site->thread,
            .walk_end = site->walk_end,
            .guessed = site->guessed,
            .is_overflow = is_overflow,
        };
        uint32_t *const copy = moda_arena_alloc(b->arena, count * sizeof *copy + 1);
        if (copy == NULL)
            return no_memory(b);
        if (count > 0)
            memcpy(copy, frames, count * sizeof *copy);
        made->frames = copy;
        moda_values_clear(&made->values);
        t->table[at] = (uint32_t)++t->count;
    }
    moda_values_add(&t->stacks[t->table[at] - 1].values, &site->values);
    return true;
}

static bool add_site(builder *b, stack_table *t, size_t index, uint32_t **frames, size_t *room) {
    const moda_profile_site *const site = &b->profile->sites[index];
    uint8_t marks = 0;
    uint32_t count = 0;
    for (size_t i = b->places.begin[index]; i < b->places.begin[index + 1]; i++) {
        const moda_location *const location = &b->report->locations[b->places.of_sites[i]];
        if (count + location->frame_count > *room) {
            const size_t more = 2 * (count + location->frame_count);
            uint32_t *const grown = realloc(*frames, more * sizeof *grown);
            if (grown == NULL)
                return no_memory(b);
            *frames = grown;
            *room = more;
        }
        for (uint32_t k = 0; k < location->frame_count; k++) {
            const uint32_t frame = location->first_frame + k;
            marks |= b->frame_marks[frame];
            if (!(b->frame_marks[frame] & MARK_HIDE))
                (*frames)[count++] = frame;
        }
    }
    const bool is_kept = (b->options->keep_count == 0 || (marks & MARK_KEEP)) && !(marks & MARK_DROP);
    moda_values_add(is_kept ? &b->report->totals : &b->report->dropped, &site->values);
    return !is_kept || add_stack(b, t, site, *frames, count);
}

static int by_allocated(const void *a, const void *b) {
    const moda_stack *const x = a, *const y = b;
    const int64_t p = x->values.of[MODA_VALUE_ALLOCATED_BYTES], q = y->values.of[MODA_VALUE_ALLOCATED_BYTES];
    if (p != q)
        return p > q ? -1 : 1;
    if (x->is_overflow != y->is_overflow)
        return x->is_overflow ? 1 : -1;
    for (uint32_t i = 0; i < x->frame_count && i < y->frame_count; i++)
        if (x->frames[i] != y->frames[i])
            return x->frames[i] < y->frames[i] ? -1 : 1;
    return (x->frame_count > y->frame_count) - (x->frame_count < y->frame_count);
}

static bool make_stacks(builder *b) {
    const size_t most = b->profile->site_count;
    stack_table t = {.room = 64};
    while (t.room < 2 * most + 2)
        t.room *= 2;
    t.table = calloc(t.room, sizeof *t.table);
    t.stacks = moda_arena_alloc(b->arena, (most + 1) * sizeof *t.stacks);
    uint32_t *frames = NULL;
    size_t room = 0;
    bool is_fine = t.table != NULL && t.stacks != NULL;
    if (!is_fine)
        no_memory(b);
    moda_values_clear(&b->report->totals);
    moda_values_clear(&b->report->dropped);
    for (size_t i = 0; is_fine && i < most; i++)
        is_fine = add_site(b, &t, i, &frames, &room);
    if (is_fine && t.count > 1)
        qsort(t.stacks, t.count, sizeof *t.stacks, by_allocated);
    b->report->stacks = t.stacks;
    b->report->stack_count = t.count;
    free(t.table);
    free(frames);
    return is_fine;
}

/* ---- all of it ---- */

static void release(builder *b) {
    if (b->places.profile != NULL)
        moda_places_free(&b->places);
    free(b->functions);
    free(b->function_table);
    free(b->frame_marks);
    if (b->options->symbolizer == NULL)
        moda_symbolizer_free(b->symbolizer);
}

moda_report *moda_report_build(const moda_profile *profile, const moda_report_options *options,
                               moda_error *error) {
    static const moda_report_options defaults = {.keep = NULL};
    builder b = {.profile = profile, .options = options != NULL ? options : &defaults, .error = error};
    b.symbolizer = b.options->symbolizer != NULL ? b.options->symbolizer : moda_symbolizer_new(NULL, error);
    b.arena = b.symbolizer != NULL ? moda_arena_new() : NULL;
    b.report = b.arena != NULL ? moda_arena_alloc(b.arena, sizeof *b.report) : NULL;
    bool is_fine = false;
    if (b.report == NULL) {
        no_memory(&b);
    } else {
        b.report->profile = profile;
        b.report->arena = b.arena;
        is_fine = moda_places_find(&b.places, profile, b.arena, error) && name_places(&b) && make_frames(&b)
                  && mark_frames(&b) && make_stacks(&b);
    }
    release(&b);
    if (is_fine)
        return b.report;
    moda_arena_free(b.arena);
    return NULL;
}

void moda_report_free(moda_report *report) {
    if (report != NULL)
        moda_arena_free(report->arena);
}
