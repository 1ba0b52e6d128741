/* SPDX-License-Identifier: MIT
 *
 * symbolize.h - names for addresses of one object file; between symbolize*.c and build.c.
 */
#ifndef MODA_REPORT_SYMBOLIZE_H
#define MODA_REPORT_SYMBOLIZE_H

#include "report/report.h"

/* A named place. Strings live as long as the symbolizer. */
typedef struct moda_symbol {
    const char *function;     /* demangled; NULL = not known */
    const char *linkage_name; /* NULL = as `function`, or not known */
    const char *file;         /* NULL = not known */
    uint32_t line, column;
    uint32_t function_line; /* of its definition; 0 = not known */
    uint32_t inline_depth;  /* as moda_frame's */
} moda_symbol;

/* One address to look up: as in the object's file, already minus one. */
typedef struct moda_lookup {
    uint64_t address;
    const moda_symbol *symbols; /* out: innermost first */
    uint32_t symbol_count;      /* out: at least 1; symbols[0].function NULL where nothing is known */
} moda_lookup;

typedef struct moda_object_facts {
    bool has_symbols, has_lines, has_inlines;
    bool is_changed; /* its file is another build's by now: nothing in it is named */
    bool is_missing; /* there is no such file */
} moda_object_facts;

/* Looks up all, in any order; never fails: what cannot be named stays unnamed. `done` is how many addresses of
 * `total` had been looked up before, for the progress. */
void moda_symbolizer_look_up(moda_symbolizer *symbolizer, const moda_profile_module *module,
                             moda_lookup *lookups, size_t count, const moda_progress *progress, size_t done,
                             size_t total, moda_object_facts *facts);

/* Name of a run-time compiled function from /tmp/perf-PID.map, which must be newer than the process; NULL = none. */
const char *moda_symbolizer_perf_map_name(moda_symbolizer *symbolizer, const moda_profile_process *process,
                                          uint64_t address);

#endif
