/* SPDX-License-Identifier: MIT
 *
 * sample_report.c - reports made by hand.
 */
#include "sample_report.h"

#include <stdlib.h>
#include <string.h>

static void *get(moda_arena *arena, size_t count, size_t size) {
    void *const memory = moda_arena_alloc(arena, (count > 0 ? count : 1) * size);
    if (memory == NULL)
        abort();
    return memory;
}

static const char *name(moda_arena *arena, const char *text) {
    const char *const interned = moda_arena_intern(arena, text);
    if (interned == NULL)
        abort();
    return interned;
}

/* The values of a site at which `count` blocks of `size` were allocated, of which `live` are left. */
static moda_values values_of(int64_t count, int64_t size, int64_t asked, int64_t live, int64_t at_peak,
                             int64_t own_peak, int64_t life_ns, int64_t samples) {
    moda_values v;
    moda_values_clear(&v);
    v.of[MODA_VALUE_ALLOCATED_COUNT] = count;
    v.of[MODA_VALUE_ALLOCATED_BYTES] = count * size;
    v.of[MODA_VALUE_REQUESTED_BYTES] = count * asked;
    v.of[MODA_VALUE_WASTE_BYTES] = count * (size - asked);
    v.of[MODA_VALUE_FREED_COUNT] = count - live;
    v.of[MODA_VALUE_FREED_BYTES] = (count - live) * size;
    v.of[MODA_VALUE_LIVE_COUNT] = live;
    v.of[MODA_VALUE_LIVE_BYTES] = live * size;
    v.of[MODA_VALUE_LIVE_REQUESTED_BYTES] = live * asked;
    v.of[MODA_VALUE_LIVE_WASTE_BYTES] = live * (size - asked);
    v.of[MODA_VALUE_AT_PEAK_COUNT] = at_peak;
    v.of[MODA_VALUE_AT_PEAK_BYTES] = at_peak * size;
    v.of[MODA_VALUE_AT_PEAK_REQUESTED_BYTES] = at_peak * asked;
    v.of[MODA_VALUE_OWN_PEAK_COUNT] = own_peak;
    v.of[MODA_VALUE_OWN_PEAK_BYTES] = own_peak * size;
    v.of[MODA_VALUE_LIFETIME_COUNT] = count - live;
    v.of[MODA_VALUE_LIFETIME_NS] = (count - live) * life_ns;
    if (count > live) {
        v.of[MODA_VALUE_LIFETIME_MIN_NS] = life_ns / 4;
        v.of[MODA_VALUE_LIFETIME_MAX_NS] = life_ns * 6;
    }
    v.of[MODA_VALUE_TEMPORARY_COUNT] = life_ns < 1000000 ? count - live : 0;
    v.of[MODA_VALUE_SAMPLES] = samples;
    v.of[MODA_VALUE_FREED_SAMPLES] = samples * (count - live) / (count > 0 ? count : 1);
    return v;
}

/* ---- the tiny one ---- */

enum { MAIN, LOAD, GROW, PUSH, ODD, BARE, FUNCTIONS };
enum { PROGRAM = 0, LIBRARY = 1 };

static moda_function *tiny_functions(moda_arena *arena) {
    static const moda_function functions[FUNCTIONS] = {
        [MAIN] =
            {.name = "main", .linkage_name = "main", .file = "/src/tiny.cc", .line = 40, .is_named = true},
        [LOAD] = {.name = "load(std::istream&)",
                  .linkage_name = "_Z4loadRSi",
                  .file = "/src/tiny.cc",
                  .line = 10,
                  .is_named = true},
        [GROW] = {.name = "grow<int>", .file = "/usr/include/vector.h", .line = 300, .is_named = true},
        [PUSH] = {.name = "std::vector<int>::push_back(int const&)",
                  .file = "/usr/include/vector.h",
                  .line = 200,
                  .is_named = true},
        [ODD] = {.name = "say \"a;b\" </script>\xff, 'x'\tend",
                 .linkage_name = "odd",
                 .module = LIBRARY,
                 .is_named = true},
        [BARE] = {.name = "0x7f0000002010 (libodd.so+0x1010)", .module = LIBRARY},
    };
    moda_function *const own = get(arena, FUNCTIONS, sizeof *own);
    for (int i = 0; i < FUNCTIONS; i++) {
        own[i] = functions[i];
        own[i].name = name(arena, functions[i].name);
        if (own[i].linkage_name != NULL)
            own[i].linkage_name = name(arena, functions[i].linkage_name);
        if (own[i].file != NULL)
            own[i].file = name(arena, functions[i].file);
    }
    return own;
}

/* Locations and their frames, in the order of report.h: a location's frames lie together, innermost first. */
static const struct {
    uint64_t address;
    uint32_t module, frames;
    struct {
        uint32_t function, line;
    } frame[2];
} tiny_locations[] = {
    {0x401100, PROGRAM, 1, {{MAIN, 44}}},
    {0x401050, PROGRAM, 2, {{GROW, 305}, {PUSH, 210}}}, /* grow inlined into push_back */
    {0x401020, PROGRAM, 1, {{LOAD, 15}}},               /* calls itself */
    {0x7f0000001010, LIBRARY, 1, {{ODD, 0}}},
    {0x7f0000002010, LIBRARY, 1, {{BARE, 0}}},
    {0x401120, PROGRAM, 1, {{MAIN, 45}}},
    {0x401128, PROGRAM, 1, {{MAIN, 45}}}, /* the same line, another address */
};
enum { LOCATIONS = sizeof tiny_locations / sizeof tiny_locations[0], TINY_STACKS = 6 };

static void tiny_frames(moda_report *report, const moda_function *functions) {
    moda_frame *const frames = get(report->arena, LOCATIONS * 2, sizeof *frames);
    moda_location *const locations = get(report->arena, LOCATIONS, sizeof *locations);
    uint32_t count = 0;
    for (uint32_t i = 0; i < LOCATIONS; i++) {
        const uint64_t address = tiny_locations[i].address;
        locations[i] = (moda_location){.address = address,
                                       .first_frame = count,
                                       .frame_count = tiny_locations[i].frames,
                                       .module = tiny_locations[i].module};
        for (uint32_t k = 0; k < tiny_locations[i].frames; k++) {
            const uint32_t function = tiny_locations[i].frame[k].function;
            frames[count++] = (moda_frame){
                .function = functions[function].name,
                .linkage_name = functions[function].linkage_name,
                .file = functions[function].file,
                .line = tiny_locations[i].frame[k].line,
                .inline_depth = tiny_locations[i].frames - 1 - k,
                .location = i,
                .function_id = function,
                .module = tiny_locations[i].module,
                .address = address,
                .module_offset = (address & 0xfffff) - 1,
                .is_named = functions[function].is_named,
            };
        }
    }
    report->frames = frames;
    report->frame_count = count;
    report->locations = locations;
    report->location_count = LOCATIONS;
}

static moda_report_module *tiny_modules(moda_arena *arena) {
    static const moda_report_module modules[2] = {
        [PROGRAM] = {.path = "/opt/tiny/bin/tiny",
                     .build_id = "0123456789abcdef0123456789abcdef01234567",
                     .start = 0x400000,
                     .end = 0x404000,
                     .text_start = 0x401000,
                     .text_end = 0x402000,
                     .file_offset = 0x1000,
                     .is_main = true,
                     .has_symbols = true,
                     .has_lines = true,
                     .has_inlines = true},
        [LIBRARY] = {.path = "/usr/lib/libodd.so",
                     .start = 0x7f0000001000,
                     .end = 0x7f0000004000,
                     .text_start = 0x7f0000001000,
                     .text_end = 0x7f0000003000,
                     .load_bias = 0x7f0000001000},
    };
    moda_report_module *const own = get(arena, 2, sizeof *own);
    memcpy(own, modules, sizeof modules);
    for (int i = 0; i < 2; i++)
        own[i].path = name(arena, modules[i].path);
    return own;
}

static void sum_stacks(moda_report *report, mod_alloc_stats *totals) {
    moda_values_clear(&report->totals);
    moda_values_clear(&report->dropped);
    for (size_t i = 0; i < report->stack_count; i++)
        moda_values_add(&report->totals, &report->stacks[i].values);
    const int64_t *const sum = report->totals.of;
    *totals = (mod_alloc_stats){
        .alloc_count = (uint64_t)sum[MODA_VALUE_ALLOCATED_COUNT],
        .free_count = (uint64_t)sum[MODA_VALUE_FREED_COUNT],
        .total_bytes = (uint64_t)sum[MODA_VALUE_ALLOCATED_BYTES],
        .current_bytes = (uint64_t)sum[MODA_VALUE_LIVE_BYTES],
        .peak_bytes = (uint64_t)sum[MODA_VALUE_AT_PEAK_BYTES],
        .live_count = (uint64_t)sum[MODA_VALUE_LIVE_COUNT],
        .peak_live_count = (uint64_t)sum[MODA_VALUE_AT_PEAK_COUNT],
        .requested_bytes = (uint64_t)sum[MODA_VALUE_REQUESTED_BYTES],
    };
}

static moda_profile_process *process_of(moda_arena *arena, uint64_t duration_ns) {
    moda_profile_process *const process = get(arena, 1, sizeof *process);
    *process = (moda_profile_process){
        .source = "made by hand",
        .executable = "/opt/tiny/bin/tiny",
        .command_line = "tiny --input \"a<b>.txt\"",
        .pid = 4711,
        .parent_pid = 4700,
        .start_realtime_ns = UINT64_C(1760000000000000000),
        .duration_ns = duration_ns,
        .peak_ns = duration_ns / 4 * 3,
        .exited_cleanly = true,
        .has_exit_status = true,
        .mod_alloc_version = "0.1.0",
        .mimalloc_version = "2.0.9",
        .machine = "x86_64",
        .frames_max = 64,
        .page_size = 4096,
        .short_lived_ns = 1000000,
        .threads_ever = 2,
        .threads_now = 1,
        .sample_bytes = 1,
    };
    return process;
}

moda_report *sample_report_tiny(void) {
    moda_arena *const arena = moda_arena_new();
    if (arena == NULL)
        abort();
    moda_report *const report = get(arena, 1, sizeof *report);
    moda_profile *const profile = get(arena, 1, sizeof *profile);
    report->arena = profile->arena = arena;
    report->profile = profile;
    report->functions = tiny_functions(arena);
    report->function_count = FUNCTIONS;
    report->modules = tiny_modules(arena);
    report->module_count = 2;
    tiny_frames(report, report->functions);
    /* Frames: 0 main:44, 1 grow, 2 push_back, 3 load, 4 odd, 5 bare, 6 main:45, 7 main:45 */
    static const struct {
        uint32_t frames[6], count;
        int64_t blocks, size, asked, live, at_peak, own_peak, life_ns;
    } made[TINY_STACKS] = {
        {{1, 2, 3, 3, 3, 0}, 6, 1000, 64, 50, 10, 400, 500, 2000000},
        {{4, 0}, 2, 10, 4096, 4000, 10, 10, 10, 0},
        {{5, 4, 0}, 3, 300, 32, 32, 0, 0, 1, 5000},
        {{6}, 1, 2, 1024, 1000, 1, 2, 2, 9000000},
        {{7}, 1, 1, 1024, 1024, 0, 0, 1, 3000},
        {{0}, 0, 8, 16, 9, 4, 8, 8, 70000},
    };
    moda_stack *const stacks = get(arena, TINY_STACKS, sizeof *stacks);
    for (uint32_t i = 0; i < TINY_STACKS; i++) {
        uint32_t *const frames = get(arena, made[i].count, sizeof *frames);
        memcpy(frames, made[i].frames, made[i].count * sizeof *frames);
        stacks[i] = (moda_stack){
            .frames = frames,
            .frame_count = made[i].count,
            .site_id = i + 1 < TINY_STACKS ? i + 1 : 0,
            .walk_end = made[i].count > 0 ? MOD_ALLOC_WALK_COMPLETE : MOD_ALLOC_WALK_NONE,
            .is_overflow = made[i].count == 0,
            .values = values_of(made[i].blocks, made[i].size, made[i].asked, made[i].live, made[i].at_peak,
                                made[i].own_peak, made[i].life_ns, made[i].blocks)};
    }
    stacks[2].values.of[MODA_VALUE_REMOTE_FREE_COUNT] = 3;
    report->stacks = stacks;
    report->stack_count = TINY_STACKS;
    moda_profile_process *const process = process_of(arena, 2000000000);
    sum_stacks(report, &process->totals);
    static const moda_timeline_sample timeline[] = {
        {0, 0, 0, 0, 0, 0},
        {500000000, 30000, 200, 33000, 240, 2097152},
        {1500000000, 68736, 428, 110000, 1250, 3145728},
        {2000000000, 42688, 25, 119928, 1321, 3145728},
    };
    process->timeline = timeline;
    process->timeline_count = 4;
    process->samples = 1321;
    process->dropped = 8;
    process->walks[MOD_ALLOC_WALK_COMPLETE] = 1313;
    process->walks[MOD_ALLOC_WALK_NONE] = 8;
    process->resident_bytes = process->resident_peak_bytes = 3145728;
    process->heap_committed_bytes = 1048576;
    process->region_resident_bytes = 262144;
    moda_profile_thread *const thread = get(arena, 1, sizeof *thread);
    *thread = (moda_profile_thread){.tid = 4711,
                                    .incarnation = 1,
                                    .name = "tiny",
                                    .stats = process->totals,
                                    .balance_bytes = (int64_t)process->totals.current_bytes,
                                    .balance_count = (int64_t)process->totals.live_count,
                                    .samples = 1321};
    profile->processes = process;
    profile->process_count = 1;
    profile->threads = thread;
    profile->thread_count = 1;
    profile->totals = process->totals;
    profile->site_totals = report->totals;
    profile->is_exact = true;
    profile->sample_bytes = 1;
    profile->size_classes[4] = 8;
    profile->size_classes[5] = 300;
    profile->size_classes[6] = 1000;
    profile->size_classes[10] = 3;
    profile->size_classes[12] = 10;
    report->addresses = LOCATIONS;
    report->addresses_named = LOCATIONS - 1;
    report->addresses_with_lines = 5;
    return report;
}

/* ---- large ones ---- */

static uint64_t random_next(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t below(uint64_t *state, size_t limit) {
    return (uint32_t)(random_next(state) % limit);
}

static void large_functions(moda_report *report, size_t count, uint64_t *state) {
    static const char *const spaces[] = {"http",     "json",  "sql::planner", "render",
                                         "net::tls", "index", "cache",        "io"};
    static const char *const classes[] = {"Parser",     "Buffer",
                                          "Session",    "Planner",
                                          "Arena",      "Table<Key, Value>",
                                          "Connection", "std::basic_string<char>",
                                          "Node",       "Request"};
    static const char *const verbs[] = {"grow",   "parse",       "insert", "append", "decode",
                                        "resize", "open",        "lookup", "merge",  "rehash",
                                        "clone",  "read_header", "flush",  "assign"};
    static const char *const modules[] = {"/opt/server/bin/server",
                                          "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
                                          "/usr/lib/x86_64-linux-gnu/libc.so.6",
                                          "/opt/server/lib/libengine.so",
                                          "/usr/lib/x86_64-linux-gnu/libssl.so.3",
                                          "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0"};
    moda_report_module *const own = get(report->arena, 6, sizeof *own);
    for (uint32_t i = 0; i < 6; i++)
        own[i] = (moda_report_module){.path = name(report->arena, modules[i]),
                                      .start = 0x550000000000 + i * 0x1000000,
                                      .end = 0x550000800000 + i * 0x1000000,
                                      .text_start = 0x550000000000 + i * 0x1000000,
                                      .text_end = 0x550000400000 + i * 0x1000000,
                                      .is_main = i == 0,
                                      .has_symbols = true,
                                      .has_lines = true,
                                      .has_inlines = true};
    report->modules = own;
    report->module_count = 6;
    moda_function *const functions = get(report->arena, count, sizeof *functions);
    moda_frame *const frames = get(report->arena, count * 2, sizeof *frames);
    moda_location *const locations = get(report->arena, count * 2, sizeof *locations);
    for (uint32_t i = 0; i < count; i++) {
        char text[200], file[100];
        const char *const space = spaces[below(state, 8)];
        snprintf(text, sizeof text, "%s::%s::%s_%u(std::basic_string_view<char>, unsigned long)", space,
                 classes[below(state, 10)], verbs[below(state, 14)], i);
        if (i == 0)
            snprintf(text, sizeof text, "main");
        snprintf(file, sizeof file, "/opt/server/src/%s/file_%u.cc", space, i / 7);
        functions[i] = (moda_function){.name = name(report->arena, text),
                                       .file = name(report->arena, file),
                                       .line = 10 + i % 400,
                                       .module = i == 0 ? 0 : below(state, 6),
                                       .is_named = true};
        for (uint32_t k = 0; k < 2; k++) { /* each function calls from two places */
            const uint32_t f = i * 2 + k;
            const uint64_t address = own[functions[i].module].text_start + (uint64_t)f * 64 + 5;
            locations[f] = (moda_location){address, f, 1, functions[i].module};
            frames[f] = (moda_frame){.function = functions[i].name,
                                     .file = functions[i].file,
                                     .line = functions[i].line + 3 + 9 * k,
                                     .location = f,
                                     .function_id = i,
                                     .module = functions[i].module,
                                     .address = address,
                                     .module_offset = (uint64_t)f * 64 + 4,
                                     .is_named = true};
        }
    }
    report->functions = functions;
    report->function_count = count;
    report->frames = frames;
    report->frame_count = report->location_count = count * 2;
    report->locations = locations;
}

/* Stacks branch off each other, as those of programs do: a stack takes over the outer part of an earlier one. */
static void large_stacks(moda_report *report, size_t sites, bool is_exact, uint64_t *state) {
    moda_stack *const stacks = get(report->arena, sites, sizeof *stacks);
    for (uint32_t i = 0; i < sites; i++) {
        uint32_t path[48], length = 0;
        path[length++] = 0;
        if (i > 0) {
            const moda_stack *const before = &stacks[below(state, i)];
            const uint32_t kept = below(state, before->frame_count) + 1;
            for (; length < kept; length++)
                path[length] = before->frames[before->frame_count - 1 - length];
        }
        const uint32_t deeper = 1 + below(state, length > 24 ? 3 : 12);
        for (uint32_t k = 0; k < deeper && length < 40; k++)
            path[length++] = below(state, report->frame_count);
        if (length > 1 && length < 41)
            path[length++] = below(state, report->frame_count); /* tell them apart */
        uint32_t *const frames = get(report->arena, length, sizeof *frames);
        for (uint32_t k = 0; k < length; k++)
            frames[k] = path[length - 1 - k];
        const int64_t size = 16 * (1 + (int64_t)below(state, 8)) << (below(state, 4) * below(state, 5));
        const int64_t blocks = 1 + ((int64_t)below(state, 4000) >> below(state, 10)) * (1 + below(state, 30));
        const int64_t live = below(state, 3) == 0 ? (int64_t)below(state, (size_t)blocks + 1) : 0;
        const int64_t at_peak = live + (blocks - live) / (2 + (int64_t)below(state, 6));
        stacks[i] =
            (moda_stack){.frames = frames,
                         .frame_count = length,
                         .site_id = i + 1,
                         .walk_end = below(state, 50) == 0 ? MOD_ALLOC_WALK_CUT : MOD_ALLOC_WALK_COMPLETE};
        stacks[i].values =
            values_of(blocks, size, size - below(state, 16), live, at_peak, at_peak + (blocks - at_peak) / 3,
                      (int64_t)1 << below(state, 34), is_exact ? blocks : 1 + blocks / 1000);
        stacks[i].values.of[MODA_VALUE_REMOTE_FREE_COUNT] = below(state, 5) == 0 ? (blocks - live) / 2 : 0;
        if (!is_exact) {
            const double bytes = (double)(blocks * size);
            stacks[i].values.variance[MODA_VARIANCE_ALLOCATED_BYTES] = bytes * 524288;
            stacks[i].values.variance[MODA_VARIANCE_ALLOCATED_COUNT] = (double)blocks;
        }
    }
    report->stacks = stacks;
    report->stack_count = sites;
}

moda_report *sample_report_large(size_t sites, bool is_exact) {
    uint64_t state = 42;
    moda_arena *const arena = moda_arena_new();
    if (arena == NULL)
        abort();
    moda_report *const report = get(arena, 1, sizeof *report);
    moda_profile *const profile = get(arena, 1, sizeof *profile);
    report->arena = profile->arena = arena;
    report->profile = profile;
    large_functions(report, sites < 200 ? 100 : sites / 2 > 6000 ? 6000 : sites / 2, &state);
    large_stacks(report, sites, is_exact, &state);
    moda_profile_process *const process = process_of(arena, UINT64_C(95000000000));
    process->executable = "/opt/server/bin/server";
    process->command_line =
        "/opt/server/bin/server --config /etc/server/server.conf --workers 8 --replay day.log";
    process->threads_ever = 9;
    process->sample_bytes = is_exact ? 1 : 524288;
    sum_stacks(report, &process->totals);
    process->resident_bytes = process->totals.current_bytes * 3 / 2;
    process->resident_peak_bytes = process->totals.peak_bytes * 5 / 4;
    process->heap_committed_bytes = process->totals.peak_bytes * 9 / 8;
    process->region_resident_bytes = 64 * sites;
    for (size_t i = 0; i < sites; i++) {
        const moda_values *const v = &report->stacks[i].values;
        process->samples += (uint64_t)v->of[MODA_VALUE_SAMPLES];
        process->walks[report->stacks[i].walk_end] += (uint64_t)v->of[MODA_VALUE_SAMPLES];
        unsigned class = 0;
        while ((INT64_C(1) << class) < v->of[MODA_VALUE_ALLOCATED_BYTES] / v->of[MODA_VALUE_ALLOCATED_COUNT])
            class ++;
        profile->size_classes[class] += (uint64_t)v->of[MODA_VALUE_ALLOCATED_COUNT];
    }
    moda_timeline_sample *const timeline = get(arena, 400, sizeof *timeline);
    const double top = (double)process->totals.peak_bytes;
    for (uint32_t i = 0; i < 400; i++) {
        const double x = i / 300.0, wave = (double)below(&state, 100) / 1000;
        const double level =
            x <= 1 ? x * (0.9 - wave) + (i == 300 ? 0.1 + wave : 0) : 1 - (x - 1) * 2 + wave / 3;
        timeline[i] =
            (moda_timeline_sample){.time_ns = process->duration_ns / 399 * i,
                                   .current_bytes = (uint64_t)(top * (level > 0 ? level : 0)),
                                   .live_count = process->totals.peak_live_count * i / 400,
                                   .resident_bytes = (uint64_t)(top * (0.1 + (x < 1 ? x : 1) * 1.1))};
    }
    process->timeline = timeline;
    process->timeline_count = 400;
    profile->processes = process;
    profile->process_count = 1;
    profile->totals = process->totals;
    profile->site_totals = report->totals;
    profile->is_exact = is_exact;
    profile->sample_bytes = process->sample_bytes;
    report->addresses = report->addresses_named = report->addresses_with_lines = report->location_count;
    return report;
}

void sample_report_free(moda_report *report) {
    moda_arena_free(report->arena);
}
