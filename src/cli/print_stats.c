/* SPDX-License-Identifier: MIT
 *
 * print_stats.c - the counters of a process as a table for people and as JSON for machines.
 *
 * The table, as `run` and `stat` print it and as the allocator prints it for MOD_ALLOC_STATS=stderr:
 *
 *   mod-alloc: sqlite3 (pid 4711), exit status 0, 1 thread
 *                        blocks             bytes
 *     allocated         123,456        12,345,678    11.8 MiB
 *     requested                        11,000,000    10.5 MiB
 *     freed             123,000        12,000,000    11.4 MiB
 *     live                  456           345,678     338 KiB
 *     peak                1,234         2,345,678    2.24 MiB
 *     time   1.24 s   user 1.20 s   system 31.0 ms   resident 45.6 MiB
 *
 * Line by line:
 *   1. "mod-alloc: NAME (pid PID), HOW, N thread(s)"; NAME is the executable's name without directories;
 *      HOW is "running", "exit status N", "killed by signal N (NAME)", "ended with its reader (SIGPIPE)", or
 *      "ended" where it is not known; the allocator, which writes before the end, leaves it out.
 *   2. and on: two blanks, the label left-aligned in 10 columns, blocks right-aligned in 16, bytes
 *      right-aligned in 18, bytes for people right-aligned in 12. Digits are grouped by commas.
 *      allocated = alloc_count, total_bytes; requested = requested_bytes, no blocks; freed = free_count,
 *      what the threads freed (after a fork or a reset that is not total - current); live = live_count, current_bytes; peak = peak_live_count, peak_bytes.
 *   8. where several processes were added up: that the peak is an upper bound.
 *   9. time: from `run` alone. "resident" is the largest resident size of the program or of one of the
 *      children it waited for, as the system counts it (ru_maxrss).
 * Bytes for people: B without decimals, else three digits: 1.23 KiB, 12.3 KiB, 123 KiB (see
 * moda_human_bytes, and inside moda_sink_size: the next unit begins at 1023.995 of one).
 */
#include "cli/print_stats.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>

moda_cli_stats moda_cli_stats_of(const moda_profile *profile) {
    const moda_profile_process *const first = &profile->processes[0];
    moda_cli_stats stats = {
        .program = first->executable != NULL && first->executable[0] != '\0' ? first->executable : "?",
        .mod_alloc_version = first->mod_alloc_version,
        .mimalloc_version = first->mimalloc_version,
        .pid = first->pid,
        .processes = profile->process_count,
        .totals = profile->totals,
        .end = first->is_live ? MODA_CLI_RUNNING : MODA_CLI_ENDED,
    };
    if (first->has_exit_status && !first->is_live) {
        stats.end = MODA_CLI_EXITED;
        stats.exit_status = (int)first->exit_status;
    }
    for (size_t i = 0; i < profile->process_count; i++) {
        stats.threads += profile->processes[i].threads_ever;
    }
    for (size_t i = 0; i < profile->thread_count; i++) {
        stats.freed_bytes += profile->threads[i].freed_bytes;
    }
    return stats;
}

/* ---- table ---- */

static void print_row(moda_out *out, const char *label, bool has_blocks, uint64_t blocks, uint64_t bytes) {
    char blocks_text[MODA_HUMAN_SIZE] = "", bytes_text[MODA_HUMAN_SIZE], human[MODA_HUMAN_SIZE];
    if (has_blocks) {
        moda_human_count(blocks_text, (int64_t)blocks);
    }
    moda_human_count(bytes_text, (int64_t)bytes);
    moda_human_bytes(human, (int64_t)bytes);
    moda_out_format(out, "  %-10s %15s  %16s %11s\n", label, blocks_text, bytes_text, human);
}

static void print_end(moda_out *out, const moda_cli_stats *stats) {
    switch (stats->end) {
    case MODA_CLI_RUNNING: moda_out_text(out, "running"); break;
    case MODA_CLI_ENDED: moda_out_text(out, "ended"); break;
    case MODA_CLI_EXITED: moda_out_format(out, "exit status %d", stats->exit_status); break;
    case MODA_CLI_UNREAD: moda_out_text(out, "ended with its reader (SIGPIPE)"); break;
    case MODA_CLI_KILLED: {
        const char *const name = sigabbrev_np(stats->signal);
        moda_out_format(out, "killed by signal %d (%s%s)", stats->signal, name ? "SIG" : "",
                        name ? name : "?");
        break;
    }
    }
}

static void print_usage(moda_out *out, const moda_cli_stats *stats) {
    char elapsed[MODA_HUMAN_SIZE], user[MODA_HUMAN_SIZE], system[MODA_HUMAN_SIZE], size[MODA_HUMAN_SIZE];
    moda_out_format(out, "  time   %s   user %s   system %s   resident %s\n",
                    moda_human_ns(elapsed, (double)stats->elapsed_ns),
                    moda_human_ns(user, (double)stats->user_ns),
                    moda_human_ns(system, (double)stats->system_ns),
                    moda_human_bytes(size, (int64_t)stats->max_resident_bytes));
}

void moda_cli_print_stats(moda_out *out, const moda_cli_stats *stats) {
    const mod_alloc_stats *const t = &stats->totals;
    moda_out_text(out, "mod-alloc: ");
    moda_out_utf8(out, moda_base_name(stats->program));
    moda_out_format(out, " (pid %ld", stats->pid);
    if (stats->processes > 1) {
        moda_out_format(out, " and %zu more", stats->processes - 1);
    }
    moda_out_text(out, "), ");
    print_end(out, stats);
    moda_out_format(out, ", %" PRIu32 " thread%s\n", stats->threads, stats->threads == 1 ? "" : "s");
    moda_out_format(out, "  %-10s%16s%18s\n", "", "blocks", "bytes");
    print_row(out, "allocated", true, t->alloc_count, t->total_bytes);
    print_row(out, "requested", false, 0, t->requested_bytes);
    print_row(out, "freed", true, t->free_count, stats->freed_bytes);
    print_row(out, "live", true, t->live_count, t->current_bytes);
    print_row(out, "peak", true, t->peak_live_count, t->peak_bytes);
    if (stats->processes > 1) {
        moda_out_text(out, "  the peak is the sum of the processes' own: an upper bound\n");
    }
    if (stats->has_usage) {
        print_usage(out, stats);
    }
}

/* ---- JSON ---- */

static void print_number(moda_out *out, const char *key, uint64_t value) {
    moda_out_format(out, ",\n  \"%s\": %" PRIu64, key, value);
}

static void print_number_or_null(moda_out *out, const char *key, bool is_known, int value) {
    if (is_known) {
        moda_out_format(out, ",\n  \"%s\": %d", key, value);
    } else {
        moda_out_format(out, ",\n  \"%s\": null", key);
    }
}

void moda_cli_print_stats_json(moda_out *out, const moda_cli_stats *stats) {
    const mod_alloc_stats *const t = &stats->totals;
    moda_out_text(out, "{\n  \"mod_alloc\": ");
    moda_out_json_string(out, stats->mod_alloc_version);
    moda_out_text(out, ",\n  \"mimalloc\": ");
    moda_out_json_string(out, stats->mimalloc_version);
    moda_out_text(out, ",\n  \"program\": ");
    moda_out_json_string(out, stats->program);
    moda_out_format(out, ",\n  \"pid\": %ld", stats->pid);
    print_number_or_null(out, "exit_status", stats->end == MODA_CLI_EXITED, stats->exit_status);
    print_number_or_null(out, "signal", stats->end == MODA_CLI_KILLED || stats->end == MODA_CLI_UNREAD,
                         stats->signal);
    print_number(out, "threads", stats->threads);
    print_number(out, "alloc_count", t->alloc_count);
    print_number(out, "free_count", t->free_count);
    print_number(out, "total_bytes", t->total_bytes);
    print_number(out, "current_bytes", t->current_bytes);
    print_number(out, "peak_bytes", t->peak_bytes);
    print_number(out, "live_count", t->live_count);
    print_number(out, "peak_live_count", t->peak_live_count);
    print_number(out, "requested_bytes", t->requested_bytes);
    if (stats->has_usage) {
        print_number(out, "elapsed_ns", stats->elapsed_ns);
        print_number(out, "user_ns", stats->user_ns);
        print_number(out, "system_ns", stats->system_ns);
        print_number(out, "max_resident_bytes", stats->max_resident_bytes);
    }
    moda_out_text(out, "\n}\n");
}

bool moda_cli_write_stats_json(const char *path, const moda_cli_stats *stats, moda_error *error) {
    moda_out out;
    if (!moda_out_to_path(&out, path, error)) {
        return false;
    }
    moda_cli_print_stats_json(&out, stats);
    return moda_out_close(&out, error);
}
