/* SPDX-License-Identifier: MIT
 *
 * write_pprof.c - pprof's profile.proto, gzip-compressed, for `pprof`, speedscope and what else reads it.
 *
 * A protobuf message may be written in pieces: encodings put one after the other are the encoding of the
 * merged message. So each sample, location, function goes out as a Profile that holds it alone, packed by
 * protobuf-c and compressed by zlib on the way, and memory stays small however many sites there are.
 *
 * Laws (pprof's CheckValid)
 *   1. string_table[0] is "", and comes first; ids are not 0 and unique; each sample has one value a type.
 *   2. the innermost location is first, and in a location the innermost line.
 *   3. addresses are inside the call: the return address minus 1. pprof looks them up as they are.
 *   4. values are unsampled: pprof scales nothing.
 * A location's lines are the frames that filters left of it; filters hide a frame everywhere or nowhere, so a
 * location is the same in all stacks and is written where it is first met.
 */
#include "report/write_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "profile.pb-c.h"

typedef Moda__Pprof__Profile Profile;

static const struct {
    moda_value value;
    const char *type;
    const char *unit;
} sample_types[] = {
    {MODA_VALUE_ALLOCATED_COUNT, "alloc_objects", "count"},
    {MODA_VALUE_ALLOCATED_BYTES, "alloc_space", "bytes"},
    {MODA_VALUE_LIVE_COUNT, "inuse_objects", "count"},
    {MODA_VALUE_LIVE_BYTES, "inuse_space", "bytes"},
    {MODA_VALUE_AT_PEAK_COUNT, "peak_objects", "count"},
    {MODA_VALUE_AT_PEAK_BYTES, "peak_space", "bytes"},
    {MODA_VALUE_REQUESTED_BYTES, "requested_space", "bytes"},
};
enum { TYPES = sizeof sample_types / sizeof sample_types[0], MAX_LINES = 256 };

typedef struct pprof {
    ProtobufCBuffer base; /* first: protobuf-c gives it back to `append` */
    const moda_report *report;
    moda_out *out;
    z_stream stream;
    int zlib_status;

    const char **strings; /* string_table; equal pointers are one entry */
    uint32_t string_count;
    uint32_t *string_slots; /* number + 1, or 0 */
    size_t string_mask;

    bool *has_location; /* by id - 1: written */
    bool *has_function;
    uint64_t *location_ids; /* of one stack */
} pprof;

/* ---- bytes: packed -> compressed -> out ---- */

static void deflate_to_out(pprof *p, int flush) {
    unsigned char room[16384];
    do {
        p->stream.next_out = room;
        p->stream.avail_out = sizeof room;
        p->zlib_status = deflate(&p->stream, flush);
        moda_out_bytes(p->out, room, sizeof room - p->stream.avail_out);
    } while (p->stream.avail_out == 0 && p->zlib_status == Z_OK);
}

static void append(ProtobufCBuffer *buffer, size_t length, const uint8_t *data) {
    pprof *const p = (pprof *)buffer;
    while (length > 0) { /* zlib counts in unsigned int */
        const unsigned int part = length < 1u << 30 ? (unsigned int)length : 1u << 30;
        p->stream.next_in = (Bytef *)(uintptr_t)data;
        p->stream.avail_in = part;
        deflate_to_out(p, Z_NO_FLUSH);
        data += part;
        length -= part;
    }
}

static void put(pprof *p, const Profile *piece) {
    moda__pprof__profile__pack_to_buffer(piece, &p->base);
}

/* ---- strings ---- */

static int64_t string_number(pprof *p, const char *text) {
    if (text == NULL || *text == 0)
        return 0;
    uint64_t hash = (uint64_t)(uintptr_t)text * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(hash ^ (hash >> 32)) & p->string_mask;
    while (p->string_slots[at] != 0 && p->strings[p->string_slots[at] - 1] != text)
        at = (at + 1) & p->string_mask;
    if (p->string_slots[at] == 0) {
        p->strings[p->string_count++] = text;
        p->string_slots[at] = p->string_count;
    }
    return p->string_slots[at] - 1;
}

static void put_string(pprof *p, const char *text) {
    moda_out clean; /* protobuf's strings are UTF-8 */
    moda_out_to_buffer(&clean);
    moda_out_utf8(&clean, text);
    char *entry = clean.buffer != NULL ? clean.buffer : (char[]){""};
    Profile piece = MODA__PPROF__PROFILE__INIT;
    piece.n_string_table = 1;
    piece.string_table = &entry;
    put(p, &piece);
    free(clean.buffer);
}

/* ---- pieces ---- */

static void put_types(pprof *p, moda_value chosen) {
    Profile piece = MODA__PPROF__PROFILE__INIT;
    Moda__Pprof__ValueType types[TYPES], *pointers[TYPES], period = MODA__PPROF__VALUE_TYPE__INIT;
    /* Tools open with the value in use, unless another was asked for. What is live at the heap's peak is our
     * reports' own default, so that one does not count as asked for. */
    const char *opens_with = "inuse_space";
    for (size_t i = 0; i < TYPES; i++) {
        types[i] = (Moda__Pprof__ValueType)MODA__PPROF__VALUE_TYPE__INIT;
        types[i].type = string_number(p, sample_types[i].type);
        types[i].unit = string_number(p, sample_types[i].unit);
        pointers[i] = &types[i];
        if (sample_types[i].value == chosen && chosen != MODA_VALUE_AT_PEAK_BYTES)
            opens_with = sample_types[i].type;
    }
    const uint64_t sample_bytes = p->report->profile->sample_bytes;
    period.type = string_number(p, "space");
    period.unit = string_number(p, "bytes");
    piece.n_sample_type = TYPES;
    piece.sample_type = pointers;
    piece.period_type = &period;
    piece.period = sample_bytes > 0 ? (int64_t)sample_bytes : 1;
    piece.default_sample_type = string_number(p, opens_with);
    put(p, &piece);
}

/* Returns the comments' memory, which must live until the strings are written. */
static char *put_facts(pprof *p) {
    enum { COMMENTS = 6, WIDTH = 2600 };
    const moda_profile *const profile = p->report->profile;
    const moda_profile_process *const process = profile->process_count > 0 ? &profile->processes[0] : NULL;
    char *const text = calloc(COMMENTS, WIDTH);
    if (text == NULL)
        return NULL;
    uint64_t dropped = 0, samples = 0;
    for (size_t i = 0; i < profile->process_count; i++) {
        dropped += profile->processes[i].dropped;
        samples += profile->processes[i].samples;
    }
    const mod_alloc_stats *const t = &profile->totals;
    char *line[COMMENTS];
    for (int i = 0; i < COMMENTS; i++)
        line[i] = text + i * WIDTH;
    snprintf(line[0], WIDTH, "command: %s",
             process != NULL && process->command_line != NULL ? process->command_line : "?");
    snprintf(line[1], WIDTH,
             "exact totals: %" PRIu64 " allocations, %" PRIu64 " bytes (%" PRIu64 " requested), %" PRIu64
             " frees",
             t->alloc_count, t->total_bytes, t->requested_bytes, t->free_count);
    snprintf(line[2], WIDTH, "exact peak: %" PRIu64 " bytes in %" PRIu64 " blocks", t->peak_bytes,
             t->peak_live_count);
    snprintf(line[3], WIDTH, "exact live: %" PRIu64 " bytes in %" PRIu64 " blocks", t->current_bytes,
             t->live_count);
    snprintf(line[4], WIDTH, "%" PRIu64 " samples, %s; %" PRIu64 " found no room for their stack", samples,
             profile->is_exact ? "of every allocation" : "unsampled estimates", dropped);
    snprintf(line[5], WIDTH, "recorded by mod-alloc %s", process != NULL ? process->mod_alloc_version : "");
    int64_t comments[COMMENTS];
    for (int i = 0; i < COMMENTS; i++)
        comments[i] = string_number(p, line[i]);
    Profile piece = MODA__PPROF__PROFILE__INIT;
    piece.n_comment = COMMENTS;
    piece.comment = comments;
    /* Frames of the allocator's inside, should one be left. */
    piece.drop_frames = string_number(p, "moda_(entry|hot|slow|live|sample|site|unwind)_.*");
    if (process != NULL) {
        piece.time_nanos = (int64_t)process->start_realtime_ns;
        piece.duration_nanos = (int64_t)process->duration_ns;
    }
    put(p, &piece);
    return text;
}

static void put_mappings(pprof *p) {
    for (size_t i = 0; i < p->report->module_count; i++) {
        const moda_report_module *const module = &p->report->modules[i];
        const bool has_text = module->text_end > module->text_start;
        Moda__Pprof__Mapping mapping = MODA__PPROF__MAPPING__INIT, *pointer = &mapping;
        mapping.id = i + 1;
        mapping.memory_start = has_text ? module->text_start : module->start;
        mapping.memory_limit = has_text ? module->text_end : module->end;
        mapping.file_offset = module->file_offset;
        mapping.filename = string_number(p, module->path);
        mapping.build_id = string_number(p, module->build_id);
        mapping.has_functions = module->has_symbols;
        mapping.has_filenames = module->has_lines;
        mapping.has_line_numbers = module->has_lines;
        mapping.has_inline_frames = module->has_inlines;
        Profile piece = MODA__PPROF__PROFILE__INIT;
        piece.n_mapping = 1;
        piece.mapping = &pointer;
        put(p, &piece);
    }
}

static void put_function(pprof *p, uint64_t id, const char *name, const moda_function *known) {
    if (p->has_function[id - 1])
        return;
    p->has_function[id - 1] = true;
    Moda__Pprof__Function function = MODA__PPROF__FUNCTION__INIT, *pointer = &function;
    function.id = id;
    function.name = string_number(p, name);
    function.system_name = function.name;
    if (known != NULL) {
        if (known->linkage_name != NULL)
            function.system_name = string_number(p, known->linkage_name);
        function.filename = string_number(p, known->file);
        function.start_line = known->line;
    }
    Profile piece = MODA__PPROF__PROFILE__INIT;
    piece.n_function = 1;
    piece.function = &pointer;
    put(p, &piece);
}

static void put_location(pprof *p, uint64_t id, uint64_t mapping, uint64_t address, Moda__Pprof__Line *lines,
                         size_t line_count) {
    Moda__Pprof__Line *pointers[MAX_LINES];
    for (size_t i = 0; i < line_count; i++)
        pointers[i] = &lines[i];
    Moda__Pprof__Location location = MODA__PPROF__LOCATION__INIT, *pointer = &location;
    location.id = id;
    location.mapping_id = mapping;
    location.address = address;
    location.n_line = line_count;
    location.line = pointers;
    Profile piece = MODA__PPROF__PROFILE__INIT;
    piece.n_location = 1;
    piece.location = &pointer;
    put(p, &piece);
}

/* Frames [from, to) of the stack are one location. Returns its id. */
static uint64_t location_of(pprof *p, const moda_stack *stack, uint32_t from, uint32_t to) {
    const moda_report *const report = p->report;
    const moda_frame *const first = &report->frames[stack->frames[from]];
    const uint64_t id = (uint64_t)first->location + 1;
    if (p->has_location[id - 1])
        return id;
    p->has_location[id - 1] = true;
    Moda__Pprof__Line lines[MAX_LINES];
    size_t count = 0;
    for (uint32_t i = from; i < to && count < MAX_LINES; i++) {
        const moda_frame *const frame = &report->frames[stack->frames[i]];
        lines[count] = (Moda__Pprof__Line)MODA__PPROF__LINE__INIT;
        lines[count].function_id = (uint64_t)frame->function_id + 1;
        lines[count].line = frame->line;
        lines[count].column = frame->column;
        put_function(p, lines[count].function_id, report->functions[frame->function_id].name,
                     &report->functions[frame->function_id]);
        count++;
    }
    put_location(p, id, first->module < report->module_count ? (uint64_t)first->module + 1 : 0,
                 first->address > 0 ? first->address - 1 : 0, lines, count);
    return id;
}

/* The location of stacks that have none: ids beyond those of the report. */
static uint64_t stand_in(pprof *p, const moda_stack *stack) {
    const unsigned int which = stack->is_overflow ? 2 : 1;
    const uint64_t id = p->report->location_count + which;
    if (p->has_location[id - 1])
        return id;
    p->has_location[id - 1] = true;
    Moda__Pprof__Line line = MODA__PPROF__LINE__INIT;
    line.function_id = p->report->function_count + which;
    put_function(p, line.function_id, moda_stack_stand_in(stack), NULL);
    put_location(p, id, 0, 0, &line, 1);
    return id;
}

static void put_sample(pprof *p, const moda_stack *stack) {
    size_t count = 0;
    for (uint32_t at = 0; at < stack->frame_count;) {
        const uint32_t end = moda_stack_location_end(p->report, stack, at);
        p->location_ids[count++] = location_of(p, stack, at, end);
        at = end;
    }
    if (count == 0)
        p->location_ids[count++] = stand_in(p, stack);
    int64_t values[TYPES];
    for (size_t i = 0; i < TYPES; i++)
        values[i] = stack->values.of[sample_types[i].value];
    const int64_t blocks = stack->values.of[MODA_VALUE_ALLOCATED_COUNT];
    Moda__Pprof__Label label = MODA__PPROF__LABEL__INIT, *label_pointer = &label;
    label.key = string_number(p, "bytes"); /* what readers of older heap profiles set: the block size */
    label.num = blocks > 0 ? stack->values.of[MODA_VALUE_ALLOCATED_BYTES] / blocks : 0;
    label.num_unit = label.key;
    Moda__Pprof__Sample sample = MODA__PPROF__SAMPLE__INIT, *pointer = &sample;
    sample.n_location_id = count;
    sample.location_id = p->location_ids;
    sample.n_value = TYPES;
    sample.value = values;
    sample.n_label = 1;
    sample.label = &label_pointer;
    Profile piece = MODA__PPROF__PROFILE__INIT;
    piece.n_sample = 1;
    piece.sample = &pointer;
    put(p, &piece);
}

/* ---- all of it ---- */

static bool prepare(pprof *p, const moda_report *report, moda_out *out) {
    const size_t strings = 3 * report->function_count + 2 * report->module_count + 64;
    size_t slots = 16, deepest = 1;
    while (slots < strings * 2)
        slots *= 2;
    for (size_t i = 0; i < report->stack_count; i++)
        if (report->stacks[i].frame_count > deepest)
            deepest = report->stacks[i].frame_count;
    *p = (pprof){.base.append = append,
                 .report = report,
                 .out = out,
                 .strings = calloc(strings, sizeof *p->strings),
                 .string_slots = calloc(slots, sizeof *p->string_slots),
                 .string_mask = slots - 1,
                 .has_location = calloc(report->location_count + 2, sizeof *p->has_location),
                 .has_function = calloc(report->function_count + 2, sizeof *p->has_function),
                 .location_ids = calloc(deepest, sizeof *p->location_ids)};
    if (p->strings == NULL || p->string_slots == NULL || p->has_location == NULL || p->has_function == NULL
        || p->location_ids == NULL)
        return false;
    p->strings[p->string_count++] = "";
    /* windowBits 15 + 16: gzip's wrapper, with no name and no time in it: equal profiles, equal bytes. */
    return deflateInit2(&p->stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY)
           == Z_OK;
}

static int write_pprof(const moda_report *report, const moda_write_options *options, moda_out *out,
                       moda_error *error) {
    pprof p;
    char *facts = NULL;
    bool is_done = prepare(&p, report, out);
    if (is_done) {
        put_types(&p, options->value);
        facts = put_facts(&p);
        put_mappings(&p);
        for (size_t i = 0; i < report->stack_count; i++)
            put_sample(&p, &report->stacks[i]);
        for (uint32_t i = 0; i < p.string_count; i++)
            put_string(&p, p.strings[i]);
        p.stream.avail_in = 0;
        deflate_to_out(&p, Z_FINISH);
        is_done = p.zlib_status == Z_STREAM_END && facts != NULL;
    }
    if (!is_done)
        moda_error_set(error, "pprof: out of memory or zlib failed (%d)", p.zlib_status);
    deflateEnd(&p.stream);
    free(facts);
    free(p.strings);
    free(p.string_slots);
    free(p.has_location);
    free(p.has_function);
    free(p.location_ids);
    return is_done ? 0 : -1;
}

const moda_writer moda_writer_pprof = {
    .name = "pprof",
    .extension = "pb.gz",
    .help = "pprof's profile.proto, gzip-compressed, for pprof and speedscope",
    .is_binary = true,
    .write = write_pprof,
};
