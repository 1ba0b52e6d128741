/* SPDX-License-Identifier: MIT
 *
 * cmd_top.c - `mod-alloc top`: a running program's counters, rates and largest call sites, again and again.
 *
 * Each look reads the program's region from outside and makes a report of it; the symbolizer, which has the
 * names, is kept. Rates are the difference to the look before. The program is neither stopped nor asked.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/screen.h"
#include "cli/view.h"
#include "report/report.h"

typedef enum top_order { BY_LIVE, BY_ALLOCATED, BY_RATE, BY_BLOCKS, ORDERS } top_order;
static const char *const order_names[ORDERS] = {"live", "allocated", "rate",
                                                "blocks"}; /* as in options.def */

typedef struct top_site {
    uint64_t key; /* hash of the stack's names: the same site in every look */
    const moda_stack *stack;
    int64_t live, blocks, allocated;
    double rate; /* bytes a second */
} top_site;

/* One look at the program. */
typedef struct top_look {
    moda_profile *profile;
    moda_report *report;
    struct timespec when;
    top_site *sites;
    size_t site_count;
} top_look;

typedef struct top_state {
    moda_cli_args args;
    char *operand;
    double interval_s;
    top_order order;
    uint64_t looks; /* 0 = no end */
    size_t rows;    /* 0 = what the screen holds */
    bool has_rows, is_plain, is_paused;
    moda_symbolizer *symbolizer;
} top_state;

/* ---- a look ---- */

static uint64_t hash_text(uint64_t hash, const char *text) { /* FNV-1a */
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    }
    return (hash ^ 0xff) * 0x100000001b3u;
}

static uint64_t key_of(const moda_report *report, const moda_stack *stack) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        const moda_frame *const frame = &report->frames[stack->frames[i]];
        hash = hash_text(hash, frame->function);
        hash = (hash ^ frame->line) * 0x100000001b3u;
    }
    return hash;
}

static int by_key(const void *left, const void *right) {
    const uint64_t a = ((const top_site *)left)->key, b = ((const top_site *)right)->key;
    return (a > b) - (a < b);
}

static double seconds_between(const struct timespec *before, const struct timespec *after) {
    return (double)(after->tv_sec - before->tv_sec) + (double)(after->tv_nsec - before->tv_nsec) / 1e9;
}

static void look_free(top_look *look) {
    moda_report_free(look->report);
    moda_profile_free(look->profile);
    free(look->sites);
    memset(look, 0, sizeof *look);
}

/* Sites are left sorted by key, for the next look. */
static bool look_take(top_state *top, top_look *look, const top_look *before, moda_error *error) {
    memset(look, 0, sizeof *look);
    clock_gettime(CLOCK_MONOTONIC, &look->when);
    look->profile = moda_profile_read(top->operand, error);
    if (look->profile == NULL) {
        return false;
    }
    char root[32];
    const moda_symbolizer_options names = {.root = moda_cli_root_of(look->profile, root, sizeof root)};
    if (top->symbolizer == NULL) {
        top->symbolizer = moda_symbolizer_new(&names, error);
    }
    const moda_report_options options = {.symbolizer = top->symbolizer};
    look->report = top->symbolizer != NULL ? moda_report_build(look->profile, &options, error) : NULL;
    if (look->report == NULL) {
        look_free(look);
        return false;
    }
    look->sites = calloc(look->report->stack_count + 1, sizeof *look->sites);
    if (look->sites == NULL) {
        look_free(look);
        moda_error_set(error, "no memory");
        return false;
    }
    const double elapsed = before->sites != NULL ? seconds_between(&before->when, &look->when) : 0;
    for (size_t i = 0; i < look->report->stack_count; i++) {
        const moda_stack *const stack = &look->report->stacks[i];
        top_site *const one = &look->sites[look->site_count++];
        *one = (top_site){
            .key = key_of(look->report, stack),
            .stack = stack,
            .live = stack->values.of[MODA_VALUE_LIVE_BYTES],
            .blocks = stack->values.of[MODA_VALUE_LIVE_COUNT],
            .allocated = stack->values.of[MODA_VALUE_ALLOCATED_BYTES],
        };
        if (elapsed > 0 && before->sites != NULL) {
            const top_site *const old =
                bsearch(one, before->sites, before->site_count, sizeof *before->sites, by_key);
            one->rate = (double)(one->allocated - (old != NULL ? old->allocated : 0)) / elapsed;
        }
    }
    qsort(look->sites, look->site_count, sizeof *look->sites, by_key);
    return true;
}

static bool has_ended(const top_look *look) {
    const moda_profile_process *const process = &look->profile->processes[0];
    return process->exited_cleanly || (kill((pid_t)process->pid, 0) != 0 && errno == ESRCH);
}

/* ---- order ---- */

static int compare_values(double left, double right) { /* largest first */
    return (left < right) - (left > right);
}
static int by_allocated(const void *left, const void *right) {
    const top_site *const a = left, *const b = right;
    const int order = compare_values((double)a->allocated, (double)b->allocated);
    return order != 0 ? order : by_key(a, b); /* rows do not change places for nothing */
}
static int by_live(const void *left, const void *right) {
    const int order =
        compare_values((double)((const top_site *)left)->live, (double)((const top_site *)right)->live);
    return order != 0 ? order : by_allocated(left, right);
}
static int by_rate(const void *left, const void *right) {
    const int order = compare_values(((const top_site *)left)->rate, ((const top_site *)right)->rate);
    return order != 0 ? order : by_allocated(left, right);
}
static int by_blocks(const void *left, const void *right) {
    const int order =
        compare_values((double)((const top_site *)left)->blocks, (double)((const top_site *)right)->blocks);
    return order != 0 ? order : by_allocated(left, right);
}

/* ---- drawing ---- */

/* "1.23 MiB/s" */
static const char *rate_text(char text[MODA_HUMAN_SIZE + 4], double bytes) {
    moda_human_bytes(text, (int64_t)llround(bytes));
    return strcat(text, "/s");
}

typedef struct top_rates {
    bool is_known;
    double allocations, bytes, frees, growth;
} top_rates;

static top_rates rates_of(const top_look *before, const top_look *look) {
    if (before->profile == NULL) {
        return (top_rates){.is_known = false};
    }
    const double elapsed = seconds_between(&before->when, &look->when);
    const mod_alloc_stats *const a = &before->profile->totals, *const b = &look->profile->totals;
    if (elapsed <= 0 || b->alloc_count < a->alloc_count) { /* the program called mod_alloc_reset */
        return (top_rates){.is_known = false};
    }
    return (top_rates){
        .is_known = true,
        .allocations = (double)(b->alloc_count - a->alloc_count) / elapsed,
        .bytes = (double)(b->total_bytes - a->total_bytes) / elapsed,
        .frees = (double)(b->free_count - a->free_count) / elapsed,
        .growth = ((double)b->current_bytes - (double)a->current_bytes) / elapsed,
    };
}

static void print_site_name(moda_out *out, const moda_report *report, const moda_stack *stack) {
    if (stack->frame_count == 0) {
        moda_out_text(out, stack->is_overflow ? "(sites that found no room)" : "(no frames)");
        return;
    }
    const moda_frame *const inner = &report->frames[stack->frames[0]];
    moda_out_utf8(out, inner->function);
    if (inner->file != NULL) {
        moda_out_text(out, " (");
        moda_out_utf8(out, moda_base_name(inner->file));
        moda_out_format(out, ":%" PRIu32 ")", inner->line);
    }
    const char *last = inner->function;
    for (uint32_t i = 1; i < stack->frame_count && i < 12; i++) {
        const char *const function = report->frames[stack->frames[i]].function;
        if (function != last) { /* interned; a function inlined into itself is named once */
            moda_out_text(out, " < ");
            moda_out_utf8(out, function);
        }
        last = function;
    }
}

static void print_sites(const top_state *top, const top_look *look, size_t rows, bool has_color,
                        moda_out *out) {
    static int (*const comparisons[ORDERS])(const void *, const void *) = {by_live, by_allocated, by_rate,
                                                                           by_blocks};
    char live[MODA_HUMAN_SIZE], blocks[MODA_HUMAN_SIZE], allocated[MODA_HUMAN_SIZE],
        rate[MODA_HUMAN_SIZE + 4];
    top_site *const sorted = calloc(look->site_count + 1, sizeof *sorted);
    if (sorted == NULL) {
        return;
    }
    memcpy(sorted, look->sites, look->site_count * sizeof *sorted);
    qsort(sorted, look->site_count, sizeof *sorted, comparisons[top->order]);
    moda_out_format(
        out, "%s%11s%12s%12s%14s  %s\n", has_color ? "\033[7m" : "", "live", "blocks", "allocated", "rate",
        "site (innermost first)                                                                 ");
    for (size_t i = 0; i < look->site_count && i < rows; i++) {
        moda_out_format(out, "%11s%12s%12s%14s  ", moda_human_bytes(live, sorted[i].live),
                        moda_human_count(blocks, sorted[i].blocks),
                        moda_human_bytes(allocated, sorted[i].allocated), rate_text(rate, sorted[i].rate));
        print_site_name(out, look->report, sorted[i].stack);
        moda_out_char(out, '\n');
    }
    free(sorted);
}

static void print_head(const top_look *look, moda_out *out) {
    char text[MODA_HUMAN_SIZE];
    const moda_profile_process *const process = &look->profile->processes[0];
    moda_out_utf8(out, process->executable != NULL ? moda_base_name(process->executable) : "?");
    moda_out_format(out, " (pid %" PRIu32 ")  threads %" PRIu32 " of %" PRIu32 " ever  up %s", process->pid,
                    process->threads_now, process->threads_ever,
                    moda_human_ns(text, (double)process->duration_ns));
}

static void print_totals(const top_look *look, const top_rates *rates, moda_out *out) {
    char a[MODA_HUMAN_SIZE], b[MODA_HUMAN_SIZE], c[MODA_HUMAN_SIZE], d[MODA_HUMAN_SIZE + 4];
    const mod_alloc_stats *const t = &look->profile->totals;
    const moda_profile_process *const process = &look->profile->processes[0];
    moda_out_format(out, "live       %12s in %s blocks", moda_human_bytes(a, (int64_t)t->current_bytes),
                    moda_human_count(b, (int64_t)t->live_count));
    if (rates->is_known) {
        moda_out_format(out, "   %s%s", rates->growth > 0 ? "+" : "", rate_text(d, rates->growth));
    }
    moda_out_format(out, "\npeak       %12s in %s blocks", moda_human_bytes(a, (int64_t)t->peak_bytes),
                    moda_human_count(b, (int64_t)t->peak_live_count));
    if (process->resident_bytes > 0) {
        moda_out_format(out, "   resident %s", moda_human_bytes(c, (int64_t)process->resident_bytes));
    }
    moda_out_format(out, "\nallocated  %12s in %s blocks", moda_human_bytes(a, (int64_t)t->total_bytes),
                    moda_human_count(b, (int64_t)t->alloc_count));
    if (rates->is_known) {
        moda_out_format(out, "   %s, %s allocations/s, %s frees/s", rate_text(d, rates->bytes),
                        moda_human_count(b, llround(rates->allocations)),
                        moda_human_count(c, llround(rates->frees)));
    }
    moda_out_char(out, '\n');
    if (process->sample_bytes > 1) {
        moda_out_format(out, "sites       estimated from %s samples, one in %s\n",
                        moda_human_count(a, (int64_t)process->samples),
                        moda_human_bytes(b, (int64_t)process->sample_bytes));
    } else {
        moda_out_text(out, process->sample_bytes == 1 ? "sites       every allocation is recorded\n"
                                                      : "sites       sampling is off\n");
    }
}

static void draw(const top_state *top, const top_look *before, const top_look *look, bool is_over) {
    unsigned columns, rows;
    moda_cli_screen_size(&columns, &rows);
    moda_out out;
    moda_out_to_buffer(&out);
    const top_rates rates = rates_of(before, look);
    moda_out_text(&out, "\033[1m");
    print_head(look, &out);
    moda_out_format(&out, "\033[0m%s\n", is_over ? "  ended" : top->is_paused ? "  paused" : "");
    print_totals(look, &rates, &out);
    moda_out_char(&out, '\n');
    const unsigned used = 8; /* lines above and below the sites */
    const size_t room = rows > used ? rows - used : 0;
    print_sites(top, look, top->rows > 0 && top->rows < room ? top->rows : room, true, &out);
    moda_out_format(&out,
                    "order by \033[1m%s\033[0m: l live, a allocated, r rate, b blocks; space %s; q quit",
                    order_names[top->order], top->is_paused ? "goes on" : "pauses");
    if (!out.failed) {
        moda_cli_screen_show(out.buffer);
    }
    free(out.buffer);
}

/* ---- plain lines ---- */

/* False, without an error where the reader has gone, where it cannot be written. */
static bool print_plain(const top_state *top, const top_look *before, const top_look *look, bool is_first,
                        moda_error *error) {
    char live[MODA_HUMAN_SIZE], blocks[MODA_HUMAN_SIZE], peak[MODA_HUMAN_SIZE], allocated[MODA_HUMAN_SIZE];
    char per_second[MODA_HUMAN_SIZE + 4] = "-", allocations[MODA_HUMAN_SIZE] = "-", up[MODA_HUMAN_SIZE];
    moda_out out;
    moda_out_to_fd(&out, STDOUT_FILENO, "standard output");
    const mod_alloc_stats *const t = &look->profile->totals;
    const top_rates rates = rates_of(before, look);
    if (is_first) {
        print_head(look, &out);
        moda_out_format(&out, "\n%9s%12s%14s%12s%12s%14s%16s\n", "up", "live", "blocks", "peak", "allocated",
                        "rate", "allocations/s");
    }
    if (rates.is_known) {
        rate_text(per_second, rates.bytes);
        moda_human_count(allocations, llround(rates.allocations));
    }
    moda_out_format(&out, "%9s%12s%14s%12s%12s%14s%16s\n",
                    moda_human_ns(up, (double)look->profile->processes[0].duration_ns),
                    moda_human_bytes(live, (int64_t)t->current_bytes),
                    moda_human_count(blocks, (int64_t)t->live_count),
                    moda_human_bytes(peak, (int64_t)t->peak_bytes),
                    moda_human_bytes(allocated, (int64_t)t->total_bytes), per_second, allocations);
    if (top->rows > 0) {
        print_sites(top, look, top->rows, false, &out);
    }
    const bool is_written = moda_out_close(&out, error);
    if (out.error_number == EPIPE) {
        error->text[0] = '\0';
    }
    return is_written;
}

/* ---- the loop ---- */

static bool take_key(top_state *top, char key) {
    switch (key) {
    case 'q':
    case 'Q': return false;
    case 'l': top->order = BY_LIVE; break;
    case 'a': top->order = BY_ALLOCATED; break;
    case 'r': top->order = BY_RATE; break;
    case 'b': top->order = BY_BLOCKS; break;
    case 's': top->order = (top_order)((top->order + 1) % ORDERS); break;
    case ' ':
    case 'p': top->is_paused = !top->is_paused; break;
    default: break;
    }
    return true;
}

static int milliseconds_until(const struct timespec *last, double interval_s) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double left = interval_s - seconds_between(last, &now);
    return left > 0 ? (int)(left * 1000) + 1 : 0;
}

/* Until the next look is due; false = end. */
static bool wait_for_next(top_state *top, const top_look *before, const top_look *look, bool is_over) {
    for (;;) {
        char key = 0;
        const int left = is_over || top->is_paused ? -1 : milliseconds_until(&look->when, top->interval_s);
        switch (moda_cli_screen_wait(left, &key)) {
        case MODA_CLI_WAKE_QUIT: return false;
        case MODA_CLI_WAKE_KEY:
            if (!take_key(top, key)) {
                return false;
            }
            break;
        case MODA_CLI_WAKE_TIME: return true;
        case MODA_CLI_WAKE_REDRAW: break;
        }
        if (!top->is_plain) {
            draw(top, before, look, is_over);
        }
    }
}

/* The program has ended and its profile is gone: the last look stays on the screen until a key. */
static void watch(top_state *top) {
    top_look before = {.profile = NULL}, now;
    moda_error error = {.text = ""};
    if (!look_take(top, &now, &before, &error)) {
        moda_cli_fail(&top->args, MODA_CLI_MISUSE, "%s", error.text);
    }
    moda_cli_screen_catch_signals();
    if (!top->is_plain) {
        moda_cli_screen_enter();
    }
    for (uint64_t count = 1;; count++) {
        const bool is_over = has_ended(&now);
        if (!top->is_plain) {
            draw(top, &before, &now, is_over);
        } else if (!print_plain(top, &before, &now, count == 1, &error)) {
            if (error.text[0] != '\0') {
                moda_cli_fail(&top->args, MODA_CLI_MISUSE, "%s", error.text);
            }
            break;
        }
        if (count == top->looks || (is_over && top->is_plain)
            || !wait_for_next(top, &before, &now, is_over)) {
            break;
        }
        top_look next;
        error.text[0] = '\0';
        if (!look_take(top, &next, &now, &error)) {
            if (top->is_plain) {
                break; /* ended between two looks */
            }
            draw(top, &before, &now, true);
            wait_for_next(top, &before, &now, true);
            break;
        }
        look_free(&before);
        before = now;
        now = next;
    }
    moda_cli_screen_leave();
    look_free(&before);
    look_free(&now);
}

int moda_cli_top(int argc, char **argv) {
    top_state top = {.args = moda_cli_args_begin(MODA_CLI_COMMAND_top, argc, argv), .interval_s = 1};
    moda_cli_args *const args = &top.args;
    char *end;
    for (int option; (option = moda_cli_args_next(args)) >= 0;) {
        switch (option) {
        case MODA_CLI_OPTION_top_interval:
            top.interval_s = strtod(args->value, &end);
            if (*end != '\0' || !(top.interval_s >= 0.05 && top.interval_s <= 86400)) {
                moda_cli_misuse(args, "--interval: '%s' is not a number of seconds from 0.05 to 86400",
                                args->value);
            }
            break;
        case MODA_CLI_OPTION_top_sort: top.order = (top_order)moda_cli_args_choice(args, option); break;
        case MODA_CLI_OPTION_top_looks: top.looks = moda_cli_args_number(args, option, 1, UINT64_MAX); break;
        case MODA_CLI_OPTION_top_top:
            top.rows = (size_t)moda_cli_args_number(args, option, 1, 1000000);
            break;
        case MODA_CLI_OPTION_top_plain: top.is_plain = true; break;
        default: break;
        }
    }
    if (args->operand_count != 1) {
        moda_cli_misuse(args, "which program? The pid of one that runs on mod-alloc, or its profile");
    }
    top.operand = args->operand[0];
    top.is_plain = top.is_plain || !moda_cli_screen_is_possible();
    watch(&top);
    moda_symbolizer_free(top.symbolizer);
    return MODA_CLI_DONE;
}
