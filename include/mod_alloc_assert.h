/* SPDX-License-Identifier: MIT
 *
 * mod_alloc_assert.h - assertions on what a block of code allocates. For tests, in C and C++ (gcc, clang).
 *
 *   MOD_ALLOC_ASSERT_ALLOCS(==, 3) { ... }          3 allocations
 *   MOD_ALLOC_ASSERT_NO_ALLOCS { ... }              none
 *   MOD_ALLOC_ASSERT_FREES(<=, 2) { ... }
 *   MOD_ALLOC_ASSERT_TOTAL_BYTES(<, 4096) { ... }   bytes allocated, freed again or not
 *   MOD_ALLOC_ASSERT_PEAK_BYTES(<=, 1024) { ... }   most bytes live at once, above what was live before
 *   MOD_ALLOC_ASSERT_NO_GROWTH { ... }              what was allocated is freed: blocks and bytes
 *   MOD_ALLOC_ASSERT_GROWTH(==, 48) { ... }         bytes more live after than before; may be negative
 *
 * The comparison is one of == != < <= > >=. The block may be left by break, return or goto; it is checked
 * all the same (not by longjmp, nor by exit). Blocks may be nested. Bytes are block sizes: see mod_alloc.h.
 *
 * Threads      what the calling thread allocates inside the block counts, and nothing else: tests that run
 *              in parallel do not disturb each other. Threads that the block starts are not counted.
 * Failure      a message goes to stderr and the process aborts; where Criterion's header was included before
 *              this one, the test fails instead. Or define MOD_ALLOC_ASSERT_FAIL(file, line, message) before.
 *              The message shows the call sites that allocated inside the block (all threads' that took part
 *              in them), named as far as the dynamic symbols go; with mod_alloc_report.h included before this
 *              header, and libmod_alloc_report linked, with functions, files and lines.
 * Sampling     for those call sites, a program that includes this header samples every allocation, from its
 *              start: no figure changes by that, and time only where next to nothing but malloc is done. Not so
 *              if MOD_ALLOC_SAMPLE is set in the environment, or MOD_ALLOC_ASSERT_SITES is defined as 0 before.
 * Inactive     if malloc is not mod-alloc's, nothing is counted and nothing can be asserted: that fails, too.
 */
#ifndef MOD_ALLOC_ASSERT_H
#define MOD_ALLOC_ASSERT_H

#include <dlfcn.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mod_alloc.h"

#ifndef MOD_ALLOC_ASSERT_FAIL
#ifdef cr_assert_fail
#define MOD_ALLOC_ASSERT_FAIL(file, line, message) cr_assert_fail("%s:%d: %s", file, line, message)
#else
#define MOD_ALLOC_ASSERT_FAIL(file, line, message)                                                           \
    (fprintf(stderr, "%s:%d: %s\n", file, line, message), abort())
#endif
#endif

#ifndef MOD_ALLOC_ASSERT_SITES
#define MOD_ALLOC_ASSERT_SITES 1
#endif

/* ------------------------------------------------------------------------------------------------
 * The assertions
 */

#define MOD_ALLOC_ASSERT_ALLOCS(comparison, n)                                                               \
    MOD_ALLOC_ASSERT_(MOD_ALLOC_ASSERTED_ALLOCS, #comparison, n, "allocations")
#define MOD_ALLOC_ASSERT_NO_ALLOCS MOD_ALLOC_ASSERT_ALLOCS(==, 0)
#define MOD_ALLOC_ASSERT_FREES(comparison, n)                                                                \
    MOD_ALLOC_ASSERT_(MOD_ALLOC_ASSERTED_FREES, #comparison, n, "frees")
#define MOD_ALLOC_ASSERT_TOTAL_BYTES(comparison, bytes)                                                      \
    MOD_ALLOC_ASSERT_(MOD_ALLOC_ASSERTED_TOTAL, #comparison, bytes, "bytes allocated")
#define MOD_ALLOC_ASSERT_PEAK_BYTES(comparison, bytes)                                                       \
    MOD_ALLOC_ASSERT_(MOD_ALLOC_ASSERTED_PEAK, #comparison, bytes, "bytes at peak")
#define MOD_ALLOC_ASSERT_GROWTH(comparison, bytes)                                                           \
    MOD_ALLOC_ASSERT_(MOD_ALLOC_ASSERTED_GROWTH, #comparison, bytes, "bytes of growth")
#define MOD_ALLOC_ASSERT_NO_GROWTH                                                                           \
    MOD_ALLOC_ASSERT_(MOD_ALLOC_ASSERTED_NO_GROWTH, "==", 0, "blocks or bytes of growth")

/* A loop of one turn, whose variable is checked when it goes out of scope, whichever way. The variable has the
 * line in its name, so that nested blocks do not hide each other's. */
#define MOD_ALLOC_ASSERT_(what, comparison, wanted, unit)                                                    \
    MOD_ALLOC_ASSERT_AT_(what, comparison, wanted, unit, __LINE__)
#define MOD_ALLOC_ASSERT_AT_(what, comparison, wanted, unit, line)                                           \
    MOD_ALLOC_ASSERT_AS_(what, comparison, wanted, unit, line)
#define MOD_ALLOC_ASSERT_AS_(what, comparison, wanted, unit, line)                                           \
    for (mod_alloc_assert_scope mod_alloc_assert_at_##line __attribute__((cleanup(mod_alloc_assert_end))) =  \
             mod_alloc_assert_begin(what, comparison, (int64_t)(wanted), unit, __FILE__, line);              \
         mod_alloc_assert_turn(&mod_alloc_assert_at_##line);)

/* ------------------------------------------------------------------------------------------------
 * How they work
 */

typedef enum mod_alloc_asserted {
    MOD_ALLOC_ASSERTED_ALLOCS,
    MOD_ALLOC_ASSERTED_FREES,
    MOD_ALLOC_ASSERTED_TOTAL,
    MOD_ALLOC_ASSERTED_PEAK,
    MOD_ALLOC_ASSERTED_GROWTH,
    MOD_ALLOC_ASSERTED_NO_GROWTH
} mod_alloc_asserted;

typedef struct mod_alloc_assert_scope {
    mod_alloc_profiler window;
    mod_alloc_call_site *sites; /* at the start, if every allocation is sampled; memory of its own */
    size_t site_count;
    int has_sites; /* they were taken, though there may be none yet */
    const char *comparison, *unit, *file;
    int64_t wanted;
    mod_alloc_asserted what;
    int line;
    int is_running;
    int turns;
} mod_alloc_assert_scope;

#if MOD_ALLOC_ASSERT_SITES
__attribute__((constructor)) static void mod_alloc_assert_sample_all(void) {
    if (mod_alloc_is_active() && getenv("MOD_ALLOC_SAMPLE") == NULL) {
        mod_alloc_set_sampling(1); /* this thread takes it up with its next malloc, others begin with it */
    }
}
#endif

static inline int mod_alloc_assert_samples_all(void) {
    mod_alloc_sampling_stats sampling;
    mod_alloc_sampling(&sampling);
    return sampling.sample_bytes == 1;
}

static inline void mod_alloc_assert_start(mod_alloc_assert_scope *scope) {
    enum {
        BLOCKS_MAX = 1000
    }; /* looking at all call sites takes microseconds; a loop of blocks goes on without */
    static int blocks;
    if (mod_alloc_assert_samples_all() && __atomic_fetch_add(&blocks, 1, __ATOMIC_RELAXED) < BLOCKS_MAX) {
        scope->sites = mod_alloc_call_sites_get(&scope->site_count);
        scope->has_sites = 1;
    }
    mod_alloc_thread_profiler_start(&scope->window);
    scope->is_running = 1;
}

/* Returned as a value: the window of it is started in its final place, by the first turn. */
static inline mod_alloc_assert_scope mod_alloc_assert_begin(mod_alloc_asserted what, const char *comparison,
                                                            int64_t wanted, const char *unit,
                                                            const char *file, int line) {
    mod_alloc_assert_scope scope;
    memset(&scope, 0, sizeof scope);
    scope.what = what;
    scope.comparison = comparison;
    scope.wanted = wanted;
    scope.unit = unit;
    scope.file = file;
    scope.line = line;
    return scope;
}

static inline int mod_alloc_assert_turn(mod_alloc_assert_scope *scope) {
    if (scope->turns++ > 0) {
        return 0;
    }
    mod_alloc_assert_start(scope);
    return 1;
}

static inline int64_t mod_alloc_assert_figure(const mod_alloc_assert_scope *scope,
                                              const mod_alloc_stats *stats) {
    switch (scope->what) {
    case MOD_ALLOC_ASSERTED_ALLOCS: return (int64_t)stats->alloc_count;
    case MOD_ALLOC_ASSERTED_FREES: return (int64_t)stats->free_count;
    case MOD_ALLOC_ASSERTED_TOTAL: return (int64_t)stats->total_bytes;
    case MOD_ALLOC_ASSERTED_PEAK: return (int64_t)stats->peak_bytes;
    case MOD_ALLOC_ASSERTED_GROWTH: return scope->window.net_bytes;
    case MOD_ALLOC_ASSERTED_NO_GROWTH:
        return scope->window.net_bytes != 0 ? scope->window.net_bytes : scope->window.net_count;
    }
    return -1;
}

static inline int mod_alloc_assert_holds(const char *comparison, int64_t got, int64_t wanted) {
    const int or_equal = comparison[1] == '=';
    switch (comparison[0]) {
    case '<': return got < wanted || (or_equal && got == wanted);
    case '>': return got > wanted || (or_equal && got == wanted);
    case '!': return got != wanted;
    default: return got == wanted;
    }
}

/* ---- the message ---- */

typedef struct mod_alloc_assert_text {
    char text[8192];
    size_t length;
    const mod_alloc_assert_scope *scope;
    int sites;               /* shown */
    const uintptr_t *frames; /* of the site that is being shown */
    size_t frame_count;
} mod_alloc_assert_text;

__attribute__((format(printf, 2, 3))) static inline void mod_alloc_assert_add(mod_alloc_assert_text *t,
                                                                              const char *format, ...) {
    const size_t room = sizeof t->text - t->length;
    va_list list;
    va_start(list, format);
    const int wrote = vsnprintf(t->text + t->length, room, format, list);
    va_end(list);
    t->length += wrote < 0 ? 0 : (size_t)wrote < room ? (size_t)wrote : room - 1;
}

#ifdef MOD_ALLOC_REPORT_H
typedef struct mod_alloc_assert_search {
    mod_alloc_assert_text *text;
    uintptr_t address;
    int is_found;
} mod_alloc_assert_search;

static inline int mod_alloc_assert_look(const mod_alloc_symbolicated_site *site, void *context) {
    mod_alloc_assert_search *search = (mod_alloc_assert_search *)context;
    for (size_t i = 0; i < site->frame_count; i++) {
        const mod_alloc_frame *frame = &site->frames[i];
        if (frame->address != search->address) {
            continue;
        }
        /* inlined ones have the same address, and come first */
        mod_alloc_assert_add(search->text, "      %s", frame->function);
        if (frame->file) {
            mod_alloc_assert_add(search->text, " (%s:%u)", frame->file, (unsigned)frame->line);
        }
        mod_alloc_assert_add(search->text, "\n");
        search->is_found = 1;
    }
    return search->is_found;
}

static inline void mod_alloc_assert_name(mod_alloc_assert_text *t, uintptr_t address) {
    mod_alloc_assert_search search = {t, address, 0};
    mod_alloc_symbolicated_report(mod_alloc_assert_look, &search, NULL);
    if (!search.is_found) {
        mod_alloc_assert_add(t, "      0x%" PRIxPTR "\n", address);
    }
}
#else
static inline void mod_alloc_assert_name(mod_alloc_assert_text *t, uintptr_t address) {
#ifdef __USE_GNU
    Dl_info info;
    memset(&info, 0, sizeof info);
    /* a return address: what called is one byte before */
    if (dladdr((void *)(address - 1), &info) && info.dli_fname) {
        const char *const slash = strrchr(info.dli_fname, '/');
        const char *const module = slash ? slash + 1 : info.dli_fname;
        const uintptr_t offset = address - (uintptr_t)info.dli_fbase;
        if (info.dli_sname) {
            mod_alloc_assert_add(t, "      %s (%s+0x%" PRIxPTR ")\n", info.dli_sname, module, offset);
        } else {
            mod_alloc_assert_add(t, "      0x%" PRIxPTR " (%s+0x%" PRIxPTR ")\n", address, module, offset);
        }
        return;
    }
#endif
    mod_alloc_assert_add(t, "      0x%" PRIxPTR "\n", address);
}
#endif

static inline int mod_alloc_assert_site(const mod_alloc_call_site *site, void *context) {
    enum { SITES_MAX = 10, FRAMES_MAX = 8 };
    mod_alloc_assert_text *t = (mod_alloc_assert_text *)context;
    const mod_alloc_assert_scope *scope = t->scope;
    uint64_t count = site->alloc_count, bytes = site->alloc_bytes;
    for (size_t i = 0; i < scope->site_count; i++) {
        if (scope->sites[i].id == site->id) {
            count -= scope->sites[i].alloc_count;
            bytes -= scope->sites[i].alloc_bytes;
            break;
        }
    }
    if (count == 0 || t->sites++ >= SITES_MAX) {
        return 0;
    }
    mod_alloc_assert_add(t, "    %" PRIu64 " allocation%s, %" PRIu64 " bytes at\n", count,
                         count == 1 ? "" : "s", bytes);
    for (size_t i = 0; i < site->frame_count && i < FRAMES_MAX; i++) {
        mod_alloc_assert_name(t, site->frames[i]);
    }
    return 0;
}

static inline void mod_alloc_assert_report(mod_alloc_assert_scope *scope, const mod_alloc_stats *stats,
                                           int64_t got) {
    static mod_alloc_assert_text t; /* a failing test has no time to share it */
    memset(&t, 0, sizeof t);
    t.scope = scope;
    mod_alloc_assert_add(
        &t,
        "%" PRId64 " %s; wanted %s %" PRId64 "\n"
        "  inside the block this thread made %" PRIu64 " allocations of %" PRIu64 " bytes and %" PRIu64
        " frees; growth %" PRId64 " blocks, %" PRId64 " bytes; peak %" PRIu64 " bytes\n",
        got, scope->unit, scope->comparison, scope->wanted, stats->alloc_count, stats->total_bytes,
        stats->free_count, scope->window.net_count, scope->window.net_bytes, stats->peak_bytes);
    if (scope->has_sites) {
        mod_alloc_call_sites(mod_alloc_assert_site, &t);
    } else if (mod_alloc_assert_samples_all()) {
        mod_alloc_assert_add(&t, "  (call sites are kept for the first 1,000 blocks)\n");
    } else {
        mod_alloc_assert_add(&t, "  (run with MOD_ALLOC_SAMPLE=1 to see where)\n");
    }
    mod_alloc_call_sites_free(scope->sites);
    scope->sites = NULL;
    MOD_ALLOC_ASSERT_FAIL(scope->file, scope->line, t.text);
}

static inline void mod_alloc_assert_end(mod_alloc_assert_scope *scope) {
    mod_alloc_stats stats;
    if (!scope->is_running) {
        return;
    }
    scope->is_running = 0;
    mod_alloc_thread_profiler_stop(&scope->window, &stats);
    if (!mod_alloc_is_active()) {
        MOD_ALLOC_ASSERT_FAIL(scope->file, scope->line,
                              "malloc is not mod-alloc's here: nothing can be asserted");
        return;
    }
    const int64_t got = mod_alloc_assert_figure(scope, &stats);
    if (!mod_alloc_assert_holds(scope->comparison, got, scope->wanted)) {
        mod_alloc_assert_report(scope, &stats, got);
    }
    mod_alloc_call_sites_free(scope->sites);
    scope->sites = NULL;
}

#endif
