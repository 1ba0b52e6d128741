/* SPDX-License-Identifier: MIT
 *
 * symbolize.c - address -> function, what was inlined there, file and line.
 *
 * build.c asks for all addresses of an object at once. They are looked up in the order of units, so that a unit is
 * opened once. libdw keeps what it has read of a unit until its handle is closed: after some units the handle is
 * opened anew, which bounds memory. symbolize_parts.h lists who does what.
 *
 * Law
 *   a result is kept: an address is looked up once in the life of a symbolizer.
 */
#include "report/symbolize_parts.h"

#include <string.h>

/* Debug information read before the handle is opened anew. */
static const uint64_t reopen_after_bytes = (uint64_t)96 << 20;

static const moda_symbol nothing = {.function = NULL};

/* ---- the symbolizer ---- */

moda_symbolizer *moda_symbolizer_new(const moda_symbolizer_options *options, moda_error *error) {
    moda_symbolizer *const s = calloc(1, sizeof *s);
    if (s != NULL)
        s->arena = moda_arena_new();
    if (s == NULL || s->arena == NULL) {
        free(s);
        moda_error_set(error, "symbols: not enough memory");
        return NULL;
    }
    if (options != NULL)
        s->options = *options;
    if (s->options.debug_path != NULL)
        s->debug_path = strdup(s->options.debug_path);
    if (s->options.root != NULL)
        s->root = strdup(s->options.root);
    s->callbacks = (Dwfl_Callbacks){
        .find_elf = dwfl_build_id_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
        .debuginfo_path = s->debug_path != NULL ? &s->debug_path : NULL,
    };
    return s;
}

void moda_symbolizer_free(moda_symbolizer *s) {
    if (s == NULL)
        return;
    moda_symbolize_free_objects(s);
    moda_symbolize_free_perf_maps(s);
    moda_arena_free(s->arena);
    free(s->names);
    free(s->debug_path);
    free(s->root);
    free(s);
}

/* ---- results ---- */

typedef struct moda_result {
    uint64_t address; /* + 1: 0 is an empty place */
    const moda_symbol *symbols;
    uint32_t count;
} result;

static size_t place_of(const moda_object *o, uint64_t address) {
    size_t at = (size_t)((address + 1) * 0x9e3779b97f4a7c15u >> 24) & (o->result_room - 1);
    while (o->results[at].address != 0 && o->results[at].address != address + 1)
        at = (at + 1) & (o->result_room - 1);
    return at;
}

static const result *known(const moda_object *o, uint64_t address) {
    if (o->result_room == 0)
        return NULL;
    const result *const found = &o->results[place_of(o, address)];
    return found->address != 0 ? found : NULL;
}

static void remember(moda_object *o, const moda_lookup *lookup) {
    if (o->result_count * 2 >= o->result_room) {
        const size_t room = o->result_room == 0 ? 256 : o->result_room * 2;
        result *const old = o->results, *const fresh = calloc(room, sizeof *fresh);
        if (fresh == NULL)
            return;
        const size_t old_room = o->result_room;
        o->results = fresh;
        o->result_room = room;
        for (size_t i = 0; i < old_room; i++)
            if (old[i].address != 0)
                o->results[place_of(o, old[i].address - 1)] = old[i];
        free(old);
    }
    result *const to = &o->results[place_of(o, lookup->address)];
    if (to->address == 0)
        o->result_count++;
    *to = (result){.address = lookup->address + 1, .symbols = lookup->symbols, .count = lookup->symbol_count};
}

/* ---- all addresses of an object ---- */

static int by_unit_and_address(const void *a, const void *b) {
    const moda_pending *const x = a, *const y = b;
    if (x->unit != y->unit)
        return x->unit < y->unit ? -1 : 1;
    return (x->address > y->address) - (x->address < y->address);
}

/* What a long series of look-ups has done so far, for the progress. */
typedef struct tally {
    const moda_progress *progress;
    size_t done, total, last;
} tally;

static void count_done(tally *t, size_t more) {
    t->done += more;
    if (t->progress == NULL || t->progress->step == NULL)
        return;
    if (t->done < t->total && t->done - t->last < t->total / 200 + 1)
        return;
    t->last = t->done;
    t->progress->step(t->progress->context, t->done, t->total);
}

static void name_plainly(moda_symbolizer *s, const moda_object *o, moda_lookup *lookup) {
    moda_symbol symbol = nothing;
    moda_symbolize_by_symbol(s, o, lookup->address, &symbol);
    if (symbol.function == NULL)
        return;
    moda_symbol *const kept = moda_arena_alloc(s->arena, sizeof *kept);
    if (kept == NULL)
        return;
    *kept = symbol;
    lookup->symbols = kept;
}

/* Addresses in order of units; a unit's together. */
static void look_up_pending(moda_symbolizer *s, moda_object *o, moda_pending *all, size_t count, tally *t) {
    if (count > 1)
        qsort(all, count, sizeof *all, by_unit_and_address);
    for (size_t from = 0; from < count;) {
        size_t to = from + 1;
        while (to < count && all[to].unit == all[from].unit)
            to++;
        const uint32_t which = all[from].unit;
        if (which != UINT32_MAX && o->bytes_read > reopen_after_bytes) {
            moda_symbolize_close(o);
            if (!moda_symbolize_open(s, o))
                o->is_usable = false;
        }
        if (which != UINT32_MAX && o->is_usable && moda_symbolize_open_dwarf(o)) {
            for (size_t i = from; i < to; i++)
                all[i].address -= o->dwarf_bias;
            moda_symbolize_in_unit(s, o, all + from, to - from);
        } else {
            for (size_t i = from; i < to; i++)
                name_plainly(s, o, all[i].lookup);
        }
        for (size_t i = from; i < to; i++)
            remember(o, all[i].lookup);
        count_done(t, to - from);
        from = to;
    }
}

static bool make_ready(moda_symbolizer *s, moda_object *o) {
    if (!o->is_opened) {
        o->is_opened = true;
        o->is_usable = !s->options.no_symbols && moda_symbolize_open(s, o);
        if (o->is_usable)
            moda_symbolize_load_symbols(s, o);
    }
    if (o->is_usable && o->dwfl == NULL && !moda_symbolize_open(s, o))
        o->is_usable = false;
    if (o->is_usable && !o->is_indexed && !s->options.no_lines)
        moda_symbolize_index_units(o);
    return o->is_usable;
}

void moda_symbolizer_look_up(moda_symbolizer *s, const moda_profile_module *module, moda_lookup *lookups,
                             size_t count, const moda_progress *progress, size_t done, size_t total,
                             moda_object_facts *facts) {
    tally t = {.progress = progress, .done = done, .total = total, .last = done};
    moda_object *const o = moda_symbolize_object(s, module);
    moda_pending *const all = o != NULL && count > 0 ? malloc(count * sizeof *all) : NULL;
    size_t open = 0;
    for (size_t i = 0; i < count; i++) {
        lookups[i].symbols = &nothing;
        lookups[i].symbol_count = 1;
        const result *const found = o != NULL ? known(o, lookups[i].address) : NULL;
        if (found != NULL) {
            lookups[i].symbols = found->symbols;
            lookups[i].symbol_count = found->count;
        } else if (all != NULL) {
            all[open++] =
                (moda_pending){.address = lookups[i].address, .lookup = &lookups[i], .unit = UINT32_MAX};
        }
    }
    count_done(&t, count - open);
    if (open > 0 && make_ready(s, o)) {
        for (size_t i = 0; i < open; i++)
            all[i].unit = moda_symbolize_find_unit(o, all[i].address);
        look_up_pending(s, o, all, open, &t);
        /* A handle that has read much is not kept for the next report. */
        if (o->bytes_read > reopen_after_bytes / 4)
            moda_symbolize_close(o);
    } else {
        count_done(&t, open);
    }
    if (facts != NULL)
        *facts = o != NULL ? o->facts : (moda_object_facts){.has_symbols = false};
    free(all);
}
