/* SPDX-License-Identifier: MIT
 *
 * mod_alloc_report.h - reports from profiles of mod-alloc: with names, files and lines, in many formats.
 *
 * Link libmod_alloc_report beside libmod_alloc (or without it, to read profiles of other programs).
 *
 * Units        as in mod_alloc.h: bytes are block sizes unless named requested; times are nanoseconds.
 * Threads      every function may be called from any thread. A mod_alloc_profile is used by one thread at a
 *              time. None is signal-safe: all allocate, read files, and take as long as that takes (a first
 *              report of a large program: a second; it reads debug information).
 * Counting     what these functions allocate is not counted as the program's, nor is it profiled. What they
 *              return must be given back with the function named beside it, not with free().
 * Errors       functions that can fail take `error`: room for one line that says file, place and what was
 *              expected; it may be NULL. 0 is done, -1 is failed.
 */
#ifndef MOD_ALLOC_REPORT_H
#define MOD_ALLOC_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "mod_alloc.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mod_alloc_report_error {
    char text[1024]; /* "" = none */
} mod_alloc_report_error;

/* ------------------------------------------------------------------------------------------------
 * This process, while it runs
 */

/* One line of a stack. Code that was inlined into a function gives a line of its own, before that function's,
 * with the same address. */
typedef struct mod_alloc_frame {
    const char *function; /* demangled; "0xADDR (module+0xOFFSET)" where there is no name. Never NULL */
    const char *file;     /* source file; NULL where not known */
    const char *module;   /* path of the object; NULL where the address lies in none */
    uint32_t line;        /* 0 where not known */
    uint32_t column;      /* 0 where not known */
    uintptr_t address;    /* return address */
    int is_inlined;
    uint32_t reserved[3];
} mod_alloc_frame;

/* A call site with names. Sites that differ in nothing but what cannot be seen are one. */
typedef struct mod_alloc_symbolicated_site {
    mod_alloc_call_site site;      /* figures; `frames` in it are not set: see below */
    const mod_alloc_frame *frames; /* innermost first; valid during the visit, or until the array is freed */
    size_t frame_count;
    double alloc_bytes_error; /* one standard error of site.alloc_bytes; 0 = exact */
    double live_bytes_error;
    uint64_t reserved[4];
} mod_alloc_symbolicated_site;

/* Return 0 to go on, anything else to stop. What the visitor allocates counts as the program's. */
typedef int mod_alloc_symbolicated_visitor(const mod_alloc_symbolicated_site *site, void *context);

/* Visits the call sites of this process, largest allocated bytes first. Returns how many were visited, or -1. */
MOD_ALLOC_EXPORT long mod_alloc_symbolicated_report(mod_alloc_symbolicated_visitor *visitor, void *context,
                                                    mod_alloc_report_error *error);

/* The same as an array; NULL with *count = 0 where there is no site, or on failure (then error says why). */
MOD_ALLOC_EXPORT mod_alloc_symbolicated_site *mod_alloc_symbolicated_report_get(
    size_t *count, mod_alloc_report_error *error);
MOD_ALLOC_EXPORT void mod_alloc_symbolicated_report_free(mod_alloc_symbolicated_site *sites);

/* Writes a report of this process in one of the formats (mod_alloc_report_format) to a file, "-" = standard output.
 * The file appears when it is complete. */
MOD_ALLOC_EXPORT int mod_alloc_report_write(const char *format, const char *path,
                                            mod_alloc_report_error *error);
/* The same into memory, with a NUL after the end; give it back with mod_alloc_report_string_free. NULL = failed. */
MOD_ALLOC_EXPORT char *mod_alloc_report_string(const char *format, size_t *length,
                                               mod_alloc_report_error *error);
MOD_ALLOC_EXPORT void mod_alloc_report_string_free(char *text);

/* DHAT JSON version 2, for Valgrind's dh_view.html and the Firefox Profiler.
 * `tl`, the sum of lifetimes, is measured for blocks that were freed. For a block that is still live it is an estimate:
 * births are not summed by site, so that each counts with half of the time that the program has run; and one that
 * realloc took to another site, with the mean of those that ended at its first site (where none did, the same half):
 *   tl = lifetime_sum * gone / lifetime_count + run / 2 * live,   gone = allocated - live blocks
 * Where every block was freed, and timed (mod_alloc.h: Lifetimes), tl is exact. Valgrind adds the true ages of live blocks. */
MOD_ALLOC_EXPORT int mod_alloc_write_dhat_json(const char *path);
MOD_ALLOC_EXPORT char *mod_alloc_dhat_json_string(void); /* mod_alloc_report_string_free */

/* ------------------------------------------------------------------------------------------------
 * Profiles: files, running processes, this process
 */
typedef struct mod_alloc_profile mod_alloc_profile;

/* A file that MOD_ALLOC_PROFILE named, also of a program that still runs or was killed. */
MOD_ALLOC_EXPORT mod_alloc_profile *mod_alloc_profile_open(const char *path, mod_alloc_report_error *error);
/* A running process: through its profile's file, or through its memory, which takes the same user's rights. */
MOD_ALLOC_EXPORT mod_alloc_profile *mod_alloc_profile_open_process(long pid, mod_alloc_report_error *error);
MOD_ALLOC_EXPORT mod_alloc_profile *mod_alloc_profile_open_self(mod_alloc_report_error *error);
/* Several as one: a process tree, a fleet. The parts stay open. */
MOD_ALLOC_EXPORT mod_alloc_profile *mod_alloc_profile_merge(mod_alloc_profile *const *parts, size_t count,
                                                            mod_alloc_report_error *error);
MOD_ALLOC_EXPORT void mod_alloc_profile_close(mod_alloc_profile *profile);

/* The exact totals. */
MOD_ALLOC_EXPORT void mod_alloc_profile_stats(const mod_alloc_profile *profile, mod_alloc_stats *stats);
MOD_ALLOC_EXPORT void mod_alloc_profile_sampling(const mod_alloc_profile *profile,
                                                 mod_alloc_sampling_stats *stats);

/* Which part, and how it is shown. Zero everywhere is the default of each. */
typedef struct mod_alloc_report_options {
    size_t size;       /* sizeof(mod_alloc_report_options) */
    const char *by;    /* "site", "function", "file", "module", "thread" */
    const char *value; /* "peak", "live", "allocated", "count", "requested", "waste" ... */
    size_t top;        /* rows at most */
    unsigned width;    /* columns of the terminal; 0 = lines are not cut */
    /* POSIX extended regular expressions on function, file:line and module of each frame; NULL = none */
    const char *keep;       /* only sites with such a frame */
    const char *drop;       /* no sites with such a frame */
    const char *hide;       /* stacks without such frames */
    const char *debug_path; /* where separate debug files lie, as gdb's debug-file-directory */
    int no_symbols;         /* addresses only */
    int reserved[7];
} mod_alloc_report_options;

MOD_ALLOC_EXPORT long mod_alloc_profile_visit(const mod_alloc_profile *profile,
                                              const mod_alloc_report_options *options,
                                              mod_alloc_symbolicated_visitor *visitor, void *context,
                                              mod_alloc_report_error *error);
MOD_ALLOC_EXPORT int mod_alloc_profile_write(const mod_alloc_profile *profile, const char *format,
                                             const mod_alloc_report_options *options, const char *path,
                                             mod_alloc_report_error *error);

/* Beside these formats there is "profile": all of it as a file that mod_alloc_profile_open opens, for what was merged or
 * is still running; options do not count.
 * Name of the n-th format ("text", "dhat", "pprof" ...) and one line about it; NULL behind the last. */
MOD_ALLOC_EXPORT const char *mod_alloc_report_format(size_t n, const char **help);

#ifdef __cplusplus
}
#endif
#endif
