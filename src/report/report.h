/* SPDX-License-Identifier: MIT
 *
 * report.h - what the report library is made of: a profile is read, its addresses are named, its sites are
 * summed to rows and trees, and a writer puts them out.
 *
 *     region --read*.c--> moda_profile --places.c, symbolize.c, build.c, rollup.c--> moda_report --write_*.c--> moda_out
 *        ^   (several: merge.c)  |     (filter.c: keep, drop, hide)              \--diff.c--> moda_diff
 *        +--------save.c---------+
 *
 * Who includes it: report/, cli/, tests. Programs include mod_alloc_report.h.
 * Memory       malloc's. What a function returns as `*` is freed by the function named beside it; all that
 *              hangs from it is freed with it. Strings are interned: equal strings are equal pointers inside
 *              one moda_report.
 * Threads      an object is used by one thread at a time; there are no globals.
 * Errors       functions that can fail return false (or NULL) and write one line into their moda_error:
 *              file, offset, what was expected and what was found. The first message stays.
 */
#ifndef MODA_REPORT_REPORT_H
#define MODA_REPORT_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "mod_alloc.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct moda_error {
    char text[1024]; /* one line without newline; "" = none */
} moda_error;

/* Keeps the first message only. Returns false, so that callers can `return moda_error_set(...)`. */
__attribute__((format(printf, 2, 3))) bool moda_error_set(moda_error *error, const char *format, ...);

/* ------------------------------------------------------------------------------------------------
 * Values: what a site, a row or a node of a tree has. All are integers; of a sampled profile they are
 * estimates, rounded once for each site, so that every sum over sites is the same in every writer.
 *
 * VALUE(name, key, unit, rule, label)
 *   name  MODA_VALUE_<name>
 *   key   stable name for --value, JSON and CSV
 *   unit  bytes, count or ns
 *   rule  how two are combined: sum, min, max. `peak` is a sum, too: the sum of the sites' own peaks, which
 *         were reached at different moments: an upper bound of the peak of the sum.
 */
#define MODA_VALUES(VALUE)                                                                                   \
    VALUE(ALLOCATED_BYTES, "allocated_bytes", BYTES, SUM, "allocated")                                       \
    VALUE(ALLOCATED_COUNT, "allocated_count", COUNT, SUM, "allocations")                                     \
    VALUE(REQUESTED_BYTES, "requested_bytes", BYTES, SUM, "requested")                                       \
    VALUE(WASTE_BYTES, "waste_bytes", BYTES, SUM, "waste") /* allocated - requested */                       \
    VALUE(FREED_BYTES, "freed_bytes", BYTES, SUM, "freed")                                                   \
    VALUE(FREED_COUNT, "freed_count", COUNT, SUM, "frees")                                                   \
    VALUE(LIVE_BYTES, "live_bytes", BYTES, SUM, "live") /* allocated - freed, never below 0 */               \
    VALUE(LIVE_COUNT, "live_count", COUNT, SUM, "live blocks")                                               \
    VALUE(LIVE_REQUESTED_BYTES, "live_requested_bytes", BYTES, SUM, "live requested")                        \
    VALUE(LIVE_WASTE_BYTES, "live_waste_bytes", BYTES, SUM, "live waste")                                    \
    VALUE(AT_PEAK_BYTES, "at_peak_bytes", BYTES, SUM, "live at the peak") /* at the process's peak */        \
    VALUE(AT_PEAK_COUNT, "at_peak_count", COUNT, SUM, "blocks at the peak")                                  \
    VALUE(AT_PEAK_REQUESTED_BYTES, "at_peak_requested_bytes", BYTES, SUM, "requested at the peak")           \
    VALUE(OWN_PEAK_BYTES, "own_peak_bytes", BYTES, SUM, "own peak") /* the site's own peak */                \
    VALUE(OWN_PEAK_COUNT, "own_peak_count", COUNT, SUM, "blocks at own peak")                                \
    VALUE(LIFETIME_COUNT, "lifetime_count", COUNT, SUM, "lives ended")                                       \
    VALUE(LIFETIME_NS, "lifetime_ns", NS, SUM, "lifetimes, summed")                                          \
    VALUE(LIFETIME_MIN_NS, "lifetime_min_ns", NS, MIN, "shortest life") /* INT64_MAX where none ended */     \
    VALUE(LIFETIME_MAX_NS, "lifetime_max_ns", NS, MAX, "longest life")                                       \
    VALUE(TEMPORARY_COUNT, "temporary_count", COUNT, SUM, "short-lived") /* below process.short_lived_ns */  \
    VALUE(REMOTE_FREE_COUNT, "remote_free_count", COUNT, SUM, "freed elsewhere") /* by another thread */     \
    VALUE(SAMPLES, "samples", COUNT, SUM, "samples") /* raw: how many were really seen */                    \
    VALUE(FREED_SAMPLES, "freed_samples", COUNT, SUM, "samples freed")

typedef enum moda_value {
#define MODA_VALUE_ENUM(name, key, unit, rule, label) MODA_VALUE_##name,
    MODA_VALUES(MODA_VALUE_ENUM)
#undef MODA_VALUE_ENUM
        MODA_VALUE_COUNT
} moda_value;

typedef enum moda_unit { MODA_UNIT_BYTES, MODA_UNIT_COUNT, MODA_UNIT_NS } moda_unit;
typedef enum moda_rule { MODA_RULE_SUM, MODA_RULE_MIN, MODA_RULE_MAX } moda_rule;

typedef struct moda_value_info {
    const char *key;
    moda_unit unit;
    moda_rule rule;
    const char *label;
} moda_value_info;

extern const moda_value_info moda_value_infos[MODA_VALUE_COUNT]; /* const: values.c */

/* By its key, or by a short form: allocated, live, peak (at_peak_bytes), requested, waste, count ... */
bool moda_value_parse(const char *text, moda_value *value);

/* Which values have a variance of their own; see moda_values_standard_error. */
enum {
    MODA_VARIANCE_ALLOCATED_BYTES,
    MODA_VARIANCE_ALLOCATED_COUNT,
    MODA_VARIANCE_LIVE_BYTES,
    MODA_VARIANCE_LIVE_COUNT,
    MODA_VARIANCE_AT_PEAK_BYTES,
    MODA_VARIANCE_AT_PEAK_COUNT,
    MODA_VARIANCES
};

typedef struct moda_values {
    int64_t of[MODA_VALUE_COUNT];
    double variance[MODA_VARIANCES]; /* of the estimate; 0 = exact */
} moda_values;

/* a + b, at most INT64_MAX and at least INT64_MIN: a damaged profile can hold any number. */
int64_t moda_values_sum(int64_t a, int64_t b);
uint64_t moda_count_sum(uint64_t a, uint64_t b); /* the same of counters: at most UINT64_MAX */
void moda_values_clear(moda_values *values); /* neutral for moda_values_add: zeroes, lifetime_min INT64_MAX */
void moda_values_add(moda_values *sum, const moda_values *more);
/* One standard error of the estimate; 0 where it is exact, -1 where it is not known. */
double moda_values_standard_error(const moda_values *values, moda_value value);
/* Mean lifetime, 0 where none ended. */
double moda_values_mean_lifetime_ns(const moda_values *values);

/* ------------------------------------------------------------------------------------------------
 * The profile, as read: addresses without names. One process, or several merged.
 */
typedef struct moda_profile_module {
    const char *path;    /* as the program saw it; "[vdso]" */
    uint64_t start, end; /* address range */
    uint64_t load_bias;  /* address = load_bias + the address in the object's file */
    uint64_t text_start, text_end, text_file_offset;
    uint32_t generation_mapped, generation_unmapped; /* 0 = still mapped */
    uint8_t build_id[32];
    uint32_t build_id_length;
} moda_profile_module;

typedef struct moda_profile_thread {
    uint32_t process;         /* index into profile.processes */
    uint32_t index;           /* slot: threads that ended and the ones that took their slot share it */
    uint32_t tid;             /* of the newest */
    uint32_t incarnation;     /* how many threads had the slot */
    bool is_alive, is_orphan; /* orphan: what threads without a slot did */
    char name[16];
    mod_alloc_stats stats;                /* exact; peak_* 0; current_bytes may wrap below 0: use balance_* */
    uint64_t freed_bytes;                 /* also blocks of others */
    int64_t balance_bytes, balance_count; /* allocated - freed by this thread, also blocks of others */
    int64_t inherited_bytes, inherited_count; /* of the balance: from before the fork */
    uint64_t samples, dropped;
    uint64_t walks[6]; /* by mod_alloc_walk_end */
} moda_profile_thread;

typedef struct moda_profile_site {
    const uint64_t *addresses; /* return addresses, innermost first */
    uint32_t address_count;
    uint32_t process; /* index into profile.processes */
    uint32_t id;      /* 0 = overflow site: samples that found no room; no addresses */
    uint32_t thread;  /* index into profile.threads of the thread that first came here, or UINT32_MAX */
    uint32_t generation;
    uint8_t walk_end; /* mod_alloc_walk_end */
    uint8_t guessed;  /* frames found by a guess */
    /* of what is live: blocks that a forked child has from its parent; allocated_* are without them */
    int64_t inherited_bytes, inherited_count, inherited_requested_bytes;
    moda_values values;
} moda_profile_site;

typedef struct moda_timeline_sample {
    uint64_t time_ns; /* since the process's start */
    uint64_t current_bytes, live_count, total_bytes, alloc_count;
    uint64_t resident_bytes; /* 0 = not looked up */
} moda_timeline_sample;

typedef struct moda_profile_process {
    const char *source; /* file name, or "process 1234" */
    const char *executable;
    const char *command_line;
    uint32_t pid, parent_pid, fork_count;
    uint64_t start_realtime_ns;
    uint64_t duration_ns;                    /* from start to the newest moment known */
    uint64_t peak_ns;                        /* when the peak was reached, since the start; 0 = unknown */
    bool exited_cleanly, is_forked, is_live; /* live: read from a running process */
    bool has_exit_status;
    bool times_all_lives; /* where every allocation is recorded, too */
    uint32_t exit_status;
    char mod_alloc_version[17], mimalloc_version[17], machine[17];
    uint32_t unwinder, frames_max, page_size;
    uint64_t seed, short_lived_ns;

    mod_alloc_stats totals; /* exact */
    uint32_t threads_ever, threads_now;
    /* of a forked child: what was live at the fork, in current_bytes and the peak */
    int64_t inherited_bytes, inherited_count;
    bool is_growth; /* a forked child merged with its parent: what it inherited has been taken off */

    /* what to trust */
    uint64_t sample_bytes;   /* R; 0 = off, 1 = every allocation */
    uint64_t sample_changes; /* > 0: R was changed while it ran */
    uint64_t samples, dropped, dropped_disk;
    uint64_t walks[6]; /* by mod_alloc_walk_end */
    uint64_t torn;     /* records that changed under the reader, or had been left half written */

    /* memory as the system saw it, newest look; 0 = not known */
    uint64_t resident_bytes, resident_peak_bytes, heap_committed_bytes;
    uint64_t region_resident_bytes, region_used_bytes, region_max_bytes;

    const moda_profile_module *modules;
    size_t module_count;
    const moda_timeline_sample *timeline;
    size_t timeline_count;
} moda_profile_process;

#define MODA_PROFILE_SIZE_CLASSES 64

struct moda_out;

typedef struct moda_profile {
    const moda_profile_process *processes;
    size_t process_count; /* > 1: merged */
    const moda_profile_thread *threads;
    size_t thread_count;
    const moda_profile_site *sites;
    size_t site_count;

    mod_alloc_stats totals;  /* sums over processes, exact; the peak is the sum of the peaks */
    moda_values site_totals; /* sum over sites: what the samples account for */
    /* Estimated allocations by block size; class k: 2^(k-1) < size <= 2^k; class 0: size <= 1. */
    uint64_t size_classes[MODA_PROFILE_SIZE_CLASSES];
    bool is_exact;         /* every allocation was sampled, all the time */
    uint64_t sample_bytes; /* R of the first process that samples */

    struct moda_arena *arena; /* where all of it lives */
} moda_profile;

/* A region file. */
moda_profile *moda_profile_read_file(const char *path, moda_error *error);
/* A running process: its region file, or its anonymous region through /proc/PID/mem. */
moda_profile *moda_profile_read_process(pid_t pid, moda_error *error);
/* The region of this process. */
moda_profile *moda_profile_read_self(moda_error *error);
/* A region in memory; `source` names it in messages. Live: the bytes may change while they are read; then size
 * SIZE_MAX means as many as are in use. */
moda_profile *moda_profile_read_memory(const void *region, size_t size, const char *source, bool is_live,
                                       moda_error *error);
/* "1234" = process, else a file; for command lines. */
moda_profile *moda_profile_read(const char *file_or_pid, moda_error *error);
/* Several into one. The parts stay as they are and may be freed at once. A forked child whose parent is among them
 * counts only what it has beyond what it inherited, and no free of that (at sites it does): in a sum of processes each
 * block is live once, and freed once. What it freed of that its sites tell, where every allocation was recorded; else no
 * more is known than that it was as much as it has less than it inherited, and its own may be more than is shown. */
moda_profile *moda_profile_merge(const moda_profile *const *parts, size_t count, moda_error *error);
void moda_profile_free(moda_profile *profile);
/* As a profile again, which moda_profile_read_file reads: a merged one, one moment of a running process. Sites that
 * several processes have become one; all else stays. False with a message only where memory runs out. */
bool moda_profile_write(const moda_profile *profile, struct moda_out *out, moda_error *error);

/* ------------------------------------------------------------------------------------------------
 * Names for addresses.
 */

/* One line of a stack as shown. An address inside inlined code gives several frames, innermost first, with
 * equal `location`. */
typedef struct moda_frame {
    const char *function;     /* demangled; where unknown "0xADDR (module+0xOFFSET)" */
    const char *linkage_name; /* as in the symbol table; NULL where unknown */
    const char *file;         /* source file; NULL where unknown */
    uint32_t line, column;    /* 0 = unknown */
    uint32_t inline_depth;    /* 0 = a function of its own; n > 0: inlined, n levels deep in the next one */
    uint32_t location;        /* index into report.locations */
    uint32_t function_id;     /* index into report.functions */
    uint32_t module;          /* index into report.modules, or UINT32_MAX */
    uint64_t address;         /* return address as recorded (names were looked up at address - 1) */
    uint64_t module_offset;   /* address - 1 as an address in the object's file; 0 if no module */
    bool is_named;            /* function is a true name */
} moda_frame;

/* One address of one module: what pprof calls a location. */
typedef struct moda_location {
    uint64_t address;     /* return address, of the first process it was seen in */
    uint32_t first_frame; /* its frames: report.frames[first_frame .. + frame_count), innermost first */
    uint32_t frame_count;
    uint32_t module; /* or UINT32_MAX */
} moda_location;

typedef struct moda_function {
    const char *name; /* demangled, or as moda_frame.function says */
    const char *linkage_name;
    const char *file; /* where it is defined or first seen; NULL where unknown */
    uint32_t line;    /* of its definition; 0 where unknown */
    uint32_t module;  /* or UINT32_MAX */
    bool is_named;
} moda_function;

typedef struct moda_progress {
    /* done and total count addresses; called now and then while symbolizing. May be NULL. */
    void (*step)(void *context, size_t done, size_t total);
    void *context;
} moda_progress;

typedef struct moda_symbolizer moda_symbolizer; /* caches objects and names; usable for many profiles */
typedef struct moda_symbolizer_options {
    bool no_symbols;        /* addresses only */
    bool no_inlines;        /* one frame an address */
    bool no_lines;          /* functions from symbol tables only: quick */
    const char *debug_path; /* like gdb's debug-file-directory, ":" between; NULL = the default */
    const char *root;       /* put before module paths (profiles of containers); NULL = none */
} moda_symbolizer_options;
moda_symbolizer *moda_symbolizer_new(const moda_symbolizer_options *options, moda_error *error);
void moda_symbolizer_free(moda_symbolizer *symbolizer);

/* ------------------------------------------------------------------------------------------------
 * The report: what writers see.
 */
typedef enum moda_by {
    MODA_BY_SITE,     /* a row for each stack */
    MODA_BY_FUNCTION, /* self and total */
    MODA_BY_FILE,     /* source file, self and total */
    MODA_BY_MODULE,   /* self and total */
    MODA_BY_THREAD,   /* from the threads' own exact counters, not from samples */
    MODA_BY_COUNT
} moda_by;
bool moda_by_parse(const char *text, moda_by *by); /* "site", "function", ... */
const char *moda_by_name(moda_by by);

typedef struct moda_report_options {
    /* POSIX extended regular expressions, matched against "function", "file:line" and the module's path of
     * each frame. NULL or count 0: none. */
    const char *const *keep; /* a site stays if some frame matches one of these */
    size_t keep_count;
    const char *const *drop; /* a site goes if some frame matches one of these */
    size_t drop_count;
    const char *const *hide; /* such frames are taken out of the stacks */
    size_t hide_count;
    moda_symbolizer *symbolizer; /* NULL: one is made and freed */
    moda_progress progress;
} moda_report_options;

/* A stack with what was allocated there. Sites whose shown stacks are equal are one. */
typedef struct moda_stack {
    const uint32_t *frames; /* indexes into report.frames, innermost first, inlines expanded */
    uint32_t frame_count;   /* 0: the overflow site, or everything was hidden */
    uint32_t site_id;       /* of the first site in it; with its process */
    uint32_t process;
    uint32_t thread; /* that first came here: index into profile.threads or UINT32_MAX */
    uint8_t walk_end;
    uint8_t guessed;
    bool is_overflow;
    moda_values values;
} moda_stack;

typedef struct moda_report_module {
    const char *path;
    char build_id[65];                /* hex; "" = none */
    uint64_t start, end, file_offset; /* of the first process that had it; text segment's file offset */
    uint64_t text_start, text_end;
    uint64_t load_bias;
    bool is_main; /* the executable of the first process; it is modules[0] where known */
    bool has_symbols, has_lines, has_inlines; /* what was found */
    bool is_changed, is_missing;              /* its file is another build's by now; there is none */
} moda_report_module;

typedef struct moda_report {
    const moda_profile *profile; /* facts and exact totals; outlives the report */
    const moda_frame *frames;
    size_t frame_count;
    const moda_location *locations;
    size_t location_count;
    const moda_function *functions;
    size_t function_count;
    const moda_report_module *modules;
    size_t module_count;
    const moda_stack *stacks; /* ordered by allocated bytes, largest first; ties by stack */
    size_t stack_count;
    moda_values totals;  /* sum over stacks: after filters */
    moda_values dropped; /* what filters took away */
    bool is_filtered;
    size_t addresses, addresses_named, addresses_with_lines; /* distinct ones */
    struct moda_arena *arena;
} moda_report;

moda_report *moda_report_build(const moda_profile *profile, const moda_report_options *options,
                               moda_error *error);
void moda_report_free(moda_report *report);

/* Whether some site of a profile of every allocation had so many blocks that not each of their lives was timed. */
bool moda_report_estimates_lives(const moda_report *report);

/* Rows of a table. `total` of a function counts a stack once, however often the function is in it. */
typedef struct moda_row {
    const char *name;  /* function, file, module, thread's name; of a site the innermost function */
    uint32_t index;    /* into stacks, functions, modules or profile.threads; UINT32_MAX for files */
    moda_values self;  /* stacks whose innermost frame this is; of a site and a thread: all */
    moda_values total; /* stacks in which it appears; of a site and a thread: as self */
} moda_row;

typedef struct moda_table {
    moda_by by;
    moda_row *rows;
    size_t row_count;
    uint32_t known;  /* bit v set: value v is known in these rows (threads know only some) */
    moda_values sum; /* what shares are taken of */
} moda_table;

/* All rows, largest first by `value` (self, or total where `by_total`); equal ones by name. */
moda_table *moda_table_build(const moda_report *report, moda_by by, moda_value value, bool by_total,
                             moda_error *error);
void moda_table_free(moda_table *table);

/* Call tree: top-down from the outermost callers, or bottom-up from the allocating functions; nodes are
 * functions (or, where by_line, frames). nodes[0] is the root with the sums. Children are a list, largest
 * first by values[0]. */
typedef struct moda_node {
    uint32_t function; /* index into report.functions; UINT32_MAX for the root */
    uint32_t frame;    /* one of its frames: index into report.frames */
    uint32_t parent;
    uint32_t first_child, next_sibling; /* 0 = none */
    uint32_t depth;
} moda_node;

typedef struct moda_tree {
    moda_node *nodes;
    size_t node_count;
    size_t value_count;
    moda_value values[MODA_VALUE_COUNT];
    int64_t *self;  /* self[node * value_count + k]: stacks that end here */
    int64_t *total; /* with all below */
} moda_tree;
moda_tree *moda_tree_build(const moda_report *report, bool is_bottom_up, bool by_line,
                           const moda_value *values, size_t value_count, moda_error *error);
void moda_tree_free(moda_tree *tree);

/* ------------------------------------------------------------------------------------------------
 * Two profiles compared. Rows are matched by name: a site by its functions and modules (not lines and
 * addresses, which move when the program is built anew).
 */
typedef enum moda_change { MODA_NEW, MODA_GONE, MODA_GROWN, MODA_SHRUNK, MODA_SAME } moda_change;
typedef struct moda_diff_row {
    const char *name;
    moda_change change;                 /* by the chosen value */
    int64_t delta;                      /* after - before of the chosen value */
    double standard_error;              /* of delta, where sampled; 0 = exact */
    uint32_t before_index, after_index; /* row in before / after tables, or UINT32_MAX */
    moda_values before, after;
} moda_diff_row;
typedef struct moda_diff {
    const moda_report *before, *after;
    moda_table *before_table, *after_table;
    moda_by by;
    moda_value value;
    bool by_total;
    moda_diff_row *rows; /* largest |delta| first */
    size_t row_count;
    struct moda_arena *arena;
} moda_diff;
moda_diff *moda_diff_build(const moda_report *before, const moda_report *after, moda_by by, moda_value value,
                           bool by_total, moda_error *error);
void moda_diff_free(moda_diff *diff);
/* Formats: text, json, csv, folded (of a diff by site). False if `format` is none of them; diff NULL only asks. */
struct moda_write_options;
bool moda_diff_write(const moda_diff *diff, const char *format, const struct moda_write_options *options,
                     struct moda_out *out);

/* ------------------------------------------------------------------------------------------------
 * Bytes out. Errors stick: write on, and look at the end.
 */
typedef struct moda_out {
    int fd; /* -1: the buffer grows instead */
    bool owns_fd;
    bool failed;
    int error_number; /* errno of the first failure */
    char *buffer;     /* fd: what is not yet written; else all of it, NUL after the end */
    size_t length, capacity;
    uint64_t written; /* bytes ever put */
    char *path;       /* for messages; may be NULL */
    char *temporary;  /* path: written here and renamed when closed without failure */
} moda_out;

void moda_out_to_buffer(moda_out *out);
void moda_out_to_fd(moda_out *out, int fd, const char *name);
/* The file appears under its name only when moda_out_close succeeds. "-" = standard output. */
bool moda_out_to_path(moda_out *out, const char *path, moda_error *error);
void moda_out_bytes(moda_out *out, const void *bytes, size_t length);
void moda_out_text(moda_out *out, const char *text);
void moda_out_char(moda_out *out, char c);
__attribute__((format(printf, 2, 3))) void moda_out_format(moda_out *out, const char *format, ...);
/* The text with each byte that is not UTF-8 replaced by U+FFFD. */
void moda_out_utf8(moda_out *out, const char *text);
/* A JSON string with its quotes: escaped, valid UTF-8. */
void moda_out_json_string(moda_out *out, const char *text);
/* Flushes and closes; false (with a message) if anything failed. A buffer stays: free(out->buffer). */
bool moda_out_close(moda_out *out, moda_error *error);

/* Columns a text takes: its characters (wide ones are rare in symbol names and count as one). */
size_t moda_columns(const char *text);
/* A function's name in at most `room` columns, where it can be made so short: argument types go first, then those
 * of templates, then the middle. `name` itself if it fits, or is longer than `size`; else `buffer`. */
enum { MODA_SHORT_NAME_SIZE = 4096 };
const char *moda_short_name(const char *name, size_t room, char *buffer, size_t size);

/* What comes after the last '/'; the whole path where nothing does. */
const char *moda_base_name(const char *path);

/* Numbers for people; `text` has room for MODA_HUMAN_SIZE bytes and is returned. */
#define MODA_HUMAN_SIZE 32
char *moda_human_bytes(char *text, int64_t bytes); /* "1.50 MiB" */
char *moda_human_count(char *text, int64_t count); /* "12,345,678" */
char *moda_human_ns(char *text, double ns);        /* "12.3 us" */
char *moda_human_value(char *text, moda_unit unit, int64_t value);

/* ------------------------------------------------------------------------------------------------
 * Writers: each is a file with one object of this type and a row in writers.def; they differ in syntax
 * alone.
 */
typedef struct moda_write_options {
    moda_by by;       /* rows of text, json, csv */
    moda_value value; /* rows are ordered by it; folded writes it alone; viewers open with it */
    bool by_total;    /* order functions by total instead of self */
    size_t top;       /* rows at most; 0 = the writer's default (text: 20; others: all) */
    size_t depth;     /* frames of a stack at most in text; 0 = the writer's default */
    unsigned width;   /* of the terminal, in columns; 0 = do not cut lines */
    bool has_color;
    bool has_tree; /* text: a call tree instead of rows */
    bool is_bottom_up;
    bool is_summary; /* text: only the totals and the top rows (`run` prints this) */
    const char *title;
} moda_write_options;
void moda_write_options_default(moda_write_options *options); /* by site, at_peak_bytes .. see writers.c */

typedef struct moda_writer {
    const char *name;      /* "dhat" */
    const char *extension; /* "json", without dot */
    const char *help;      /* one line */
    bool is_binary;        /* not to be put on a terminal */
    int (*write)(const moda_report *report, const moda_write_options *options, moda_out *out,
                 moda_error *error); /* 0 = done */
} moda_writer;

/* writers.def: WRITER(text) WRITER(dhat) ... ; each defines `const moda_writer moda_writer_<name>`. */
extern const moda_writer moda_writer_text;             /* write_text.c */
const moda_writer *moda_writer_find(const char *name); /* NULL = none */
const moda_writer *const *moda_writers(size_t *count); /* all, in the order of writers.def */

/* Pieces of the text report, for run, stat, top and diff. */
void moda_text_totals(const moda_report *report, const moda_write_options *options, moda_out *out);
void moda_text_rows(const moda_report *report, const moda_table *table, const moda_write_options *options,
                    moda_out *out);
void moda_text_trust(const moda_report *report, const moda_write_options *options, moda_out *out);
void moda_text_reconciliation(const moda_report *report, const moda_write_options *options, moda_out *out);
void moda_text_sizes(const moda_report *report, const moda_write_options *options, moda_out *out);
void moda_text_diff(const moda_diff *diff, const moda_write_options *options, moda_out *out);

/* ------------------------------------------------------------------------------------------------
 * Memory that is freed at once, and interned strings. Running out ends in NULL; moda_report_build and the
 * others turn that into a message.
 */
typedef struct moda_arena moda_arena;
moda_arena *moda_arena_new(void);
void *moda_arena_alloc(moda_arena *arena, size_t size);                    /* zeroed, aligned to 16 */
char *moda_arena_copy(moda_arena *arena, const char *text, size_t length); /* NUL-terminated copy */
const char *moda_arena_intern(moda_arena *arena, const char *text);        /* equal text, equal pointer */
void moda_arena_free(moda_arena *arena);

/* What this thread allocates between the two is not the program's. Does not nest; without mod-alloc it does nothing. */
void moda_report_pause(void);
void moda_report_resume(void);

#ifdef __cplusplus
}
#endif
#endif
