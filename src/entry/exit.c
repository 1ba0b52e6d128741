/* SPDX-License-Identifier: MIT
 *
 * exit.c - the counters as a table for people and as JSON for machines, without stdio and malloc: at exit
 * both may be half gone. The same form as the command line's (cli/print_stats.c).
 */
#include "entry/exit.h"

#include "base/options.h"
#include "base/sink.h"
#include "mod_alloc.h"
#include "os/os.h"
#include "region/region.h"
#include "shard/shard.h"

#include <fcntl.h>
#include <string.h>

enum { LABEL = 10, BLOCKS = 16, BYTES = 16, HUMAN = 12 }; /* with two spaces before the bytes */

static const char *program_name(void) {
    const char *path = moda_region()->executable;
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* 1234567 -> 1,234,567, right-aligned. */
static void grouped_right(moda_sink *sink, uint64_t n, size_t width) {
    char text[32];
    size_t at = sizeof text;
    unsigned digits = 0;
    text[--at] = '\0';
    do {
        if (digits && digits % 3 == 0) {
            text[--at] = ',';
        }
        text[--at] = (char)('0' + n % 10);
        digits++;
        n /= 10;
    } while (n);
    moda_sink_text_right(sink, text + at, width);
}

typedef struct row {
    const char *label;
    bool has_blocks;
    uint64_t blocks;
    uint64_t bytes;
} row;

static void print_row(moda_sink *sink, const row *r) {
    moda_sink_text(sink, "  ");
    moda_sink_text_left(sink, r->label, LABEL);
    if (r->has_blocks) {
        grouped_right(sink, r->blocks, BLOCKS);
    } else {
        moda_sink_text_right(sink, "", BLOCKS);
    }
    moda_sink_text(sink, "  ");
    grouped_right(sink, r->bytes, BYTES);
    moda_sink_size_right(sink, r->bytes, HUMAN);
    moda_sink_char(sink, '\n');
}

void moda_exit_print_table(int fd) {
    char buffer[1024];
    moda_sink sink;
    moda_sink_to_fd(&sink, fd, buffer, sizeof buffer);
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    const uint32_t threads = moda_region()->threads_ever;
    moda_sink_text(&sink, "mod-alloc: ");
    moda_sink_text(&sink, program_name());
    moda_sink_text(&sink, " (pid ");
    moda_sink_decimal(&sink, moda_os_pid());
    moda_sink_text(&sink, "), ");
    moda_sink_decimal(&sink, threads);
    moda_sink_text(&sink, threads == 1 ? " thread\n  " : " threads\n  ");
    moda_sink_text_left(&sink, "", LABEL);
    moda_sink_text_right(&sink, "blocks", BLOCKS);
    moda_sink_text(&sink, "  ");
    moda_sink_text_right(&sink, "bytes", BYTES);
    moda_sink_char(&sink, '\n');
    moda_totals totals;
    moda_totals_read(&totals); /* after a fork or a reset, freed is not total - current */
    const row rows[] = {
        {"allocated", true, stats.alloc_count, stats.total_bytes},
        {"requested", false, 0, stats.requested_bytes},
        {"freed", true, stats.free_count, totals.since.freed_bytes},
        {"live", true, stats.live_count, stats.current_bytes},
        {"peak", true, stats.peak_live_count, stats.peak_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_row(&sink, &rows[i]);
    }
    moda_sink_flush(&sink);
}

static void json_number(moda_sink *sink, const char *key, uint64_t value) {
    moda_sink_text(sink, ",\n  \"");
    moda_sink_text(sink, key);
    moda_sink_text(sink, "\": ");
    moda_sink_decimal(sink, value);
}

static void json_text(moda_sink *sink, const char *key, const char *value) {
    moda_sink_text(sink, ",\n  \"");
    moda_sink_text(sink, key);
    moda_sink_text(sink, "\": ");
    moda_sink_json(sink, value);
}

static bool print_json(int fd) {
    char buffer[1024];
    moda_sink sink;
    moda_sink_to_fd(&sink, fd, buffer, sizeof buffer);
    mod_alloc_stats stats;
    mod_alloc_snapshot(&stats);
    moda_sink_text(&sink, "{\n  \"mod_alloc\": ");
    moda_sink_json(&sink, mod_alloc_version());
    json_text(&sink, "mimalloc", mod_alloc_mimalloc_version());
    json_text(&sink, "program", moda_region()->executable);
    json_number(&sink, "pid", moda_os_pid());
    moda_sink_text(&sink, ",\n  \"exit_status\": null,\n  \"signal\": null");
    json_number(&sink, "threads", moda_region()->threads_ever);
    json_number(&sink, "alloc_count", stats.alloc_count);
    json_number(&sink, "free_count", stats.free_count);
    json_number(&sink, "total_bytes", stats.total_bytes);
    json_number(&sink, "current_bytes", stats.current_bytes);
    json_number(&sink, "peak_bytes", stats.peak_bytes);
    json_number(&sink, "live_count", stats.live_count);
    json_number(&sink, "peak_live_count", stats.peak_live_count);
    json_number(&sink, "requested_bytes", stats.requested_bytes);
    moda_sink_text(&sink, "\n}\n");
    return moda_sink_flush(&sink);
}

static bool is_for_stderr(void) {
    return moda_options.stats && strcmp(moda_options.stats, "stderr") == 0;
}

/* Many programs (all of coreutils) close stderr when they exit, before we write. Others (daemons) close every
 * descriptor, and may have opened a file of their own under our number since. */
static int kept_stderr = -1;
static moda_os_file_id stderr_id;

void moda_exit_keep_stderr(void) {
    if (moda_options.stats) { /* the table, or that the file can't be written */
        kept_stderr = fcntl(2, F_DUPFD_CLOEXEC, 64);
    }
    if (moda_options.stats || moda_options.profile) {
        (void)moda_os_identify(2, &stderr_id);
    }
}

/* The stderr that the process began with, by whichever number it still has; -1: it is gone. */
static int first_stderr(void) {
    const int candidates[] = {kept_stderr, 2};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        if (moda_os_is_file(candidates[i], &stderr_id)) {
            return candidates[i];
        }
    }
    return -1;
}

static void say(const char *before, const char *path, const char *behind) {
    char buffer[512];
    moda_sink sink;
    const int fd = first_stderr();
    if (fd < 0) {
        return;
    }
    moda_sink_to_fd(&sink, fd, buffer, sizeof buffer);
    moda_sink_text(&sink, before);
    moda_sink_text(&sink, path);
    moda_sink_text(&sink, behind);
    moda_sink_flush(&sink);
}

void moda_exit_report(void) {
    const char *pattern = moda_options.stats;
    if (!pattern || !mod_alloc_is_active()) {
        return; /* not the process's malloc: no zeros over what the copy that is writes */
    }
    if (is_for_stderr()) {
        const int fd = first_stderr();
        if (fd >= 0) {
            moda_exit_print_table(fd);
        }
        return;
    }
    char path[4096];
    const moda_region_header *header = moda_region();
    if (!moda_region_expand_path(pattern, program_name(), moda_os_pid(), header->fork_count,
                                 header->start_realtime_ns, path, sizeof path)) {
        say("mod-alloc: MOD_ALLOC_STATS: the path is too long: ", pattern, "\n");
        return;
    }
    moda_os_unlink_file(path);
    const int fd = moda_os_create(path);
    const bool is_written = fd >= 0 && print_json(fd);
    if (fd >= 0) {
        moda_os_close(fd);
    }
    if (!is_written) {
        if (fd >= 0) {
            moda_os_unlink_file(path); /* a part of it is no JSON */
        }
        say("mod-alloc: MOD_ALLOC_STATS: cannot write ", path, "; the counters are not kept\n");
    }
}

void moda_exit_say_not_active(void) {
    if (!moda_options.stats && !moda_options.profile) {
        return;
    }
    say("mod-alloc: not active: malloc is that of ", program_name(),
        " or of a library loaded before mod-alloc\n");
}
