/* SPDX-License-Identifier: MIT
 *
 * leak_gate.c - is more live at the end than is allowed?
 *
 * The sum is the counters' own live bytes, which are exact; of it goes what the samples say was allocated at
 * suppressed sites. So a gate without suppressions is exact whatever was sampled, but for forked children of a tree
 * (merge.c: without every allocation, frees of their parents' blocks are taken off their own); with suppressions
 * every allocation must have been sampled (cmd_run.c sees to that).
 */
#include "cli/leak_gate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- patterns ---- */

/* Does `text` begin with the pattern's piece up to `end`? Pieces have no * in them. */
static const char *find_piece(const char *text, const char *piece, size_t length, bool at_start,
                              bool at_end) {
    const size_t text_length = strlen(text);
    if (length > text_length) {
        return NULL;
    }
    if (at_end) {
        const char *const last = text + text_length - length;
        return (!at_start || last == text) && memcmp(last, piece, length) == 0 ? last + length : NULL;
    }
    for (const char *at = text; at <= text + text_length - length; at++) {
        if (memcmp(at, piece, length) == 0) {
            return at + length;
        }
        if (at_start) {
            break;
        }
    }
    return NULL;
}

/* Piece by piece from the left, each at its first place: with * alone between pieces the first place is as
 * good as any other, but for the last piece where it is held to the end, which is looked for there. */
bool moda_cli_suppression_matches(const char *pattern, const char *text) {
    bool at_start = pattern[0] == '^';
    if (at_start) {
        pattern++;
    }
    for (;;) {
        size_t length = strcspn(pattern, "*");
        const bool is_last = pattern[length] == '\0';
        const bool at_end = is_last && length > 0 && pattern[length - 1] == '$';
        length -= at_end;
        text = find_piece(text, pattern, length, at_start, at_end);
        if (text == NULL || is_last) {
            return text != NULL;
        }
        pattern += length + 1;
        at_start = false;
    }
}

/* ---- the file ---- */

static char *trim(char *line) {
    line += strspn(line, " \t");
    size_t length = strlen(line);
    while (length > 0 && strchr(" \t\r\n", line[length - 1]) != NULL) {
        line[--length] = '\0';
    }
    return line;
}

static bool add(moda_cli_suppressions *suppressions, const char *pattern, int line) {
    moda_cli_suppression *const grown =
        realloc(suppressions->row, (suppressions->count + 1) * sizeof *suppressions->row);
    if (grown == NULL) {
        return false;
    }
    suppressions->row = grown;
    char *const copy = strdup(pattern);
    if (copy == NULL) {
        return false;
    }
    suppressions->row[suppressions->count++] = (moda_cli_suppression){.pattern = copy, .line = line};
    return true;
}

bool moda_cli_suppressions_read(moda_cli_suppressions *suppressions, const char *path, moda_error *error) {
    FILE *const file = fopen(path, "re");
    if (file == NULL) {
        return moda_error_set(error, "%s: %s", path, strerror(errno));
    }
    char *buffer = NULL;
    size_t size = 0;
    bool is_good = true;
    for (int number = 1; is_good && getline(&buffer, &size, file) >= 0; number++) {
        char *const line = trim(buffer);
        if (line[0] == '\0' || line[0] == '#') {
            continue;
        }
        if (strncmp(line, "leak:", 5) != 0 || line[5] == '\0') {
            is_good = moda_error_set(error, "%s:%d: '%.80s' is not a line leak:PATTERN", path, number, line);
        } else if (!add(suppressions, line + 5, number)) {
            is_good = moda_error_set(error, "%s: no memory", path);
        }
    }
    if (is_good && ferror(file)) {
        is_good = moda_error_set(error, "%s: cannot be read", path);
    }
    free(buffer);
    fclose(file);
    return is_good;
}

void moda_cli_suppressions_free(moda_cli_suppressions *suppressions) {
    for (size_t i = 0; i < suppressions->count; i++) {
        free(suppressions->row[i].pattern);
    }
    free(suppressions->row);
    *suppressions = (moda_cli_suppressions){.row = NULL};
}

/* ---- the gate ---- */

static bool matches_frame(const char *pattern, const moda_report *report, const moda_frame *frame) {
    const char *const texts[] = {
        frame->function,
        frame->linkage_name,
        frame->file,
        frame->module < report->module_count ? report->modules[frame->module].path : NULL,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i] != NULL && moda_cli_suppression_matches(pattern, texts[i])) {
            return true;
        }
    }
    return false;
}

static moda_cli_suppression *suppression_of(const moda_cli_suppressions *suppressions,
                                            const moda_report *report, const moda_stack *stack) {
    for (size_t i = 0; i < suppressions->count; i++) {
        for (uint32_t f = 0; f < stack->frame_count; f++) {
            if (matches_frame(suppressions->row[i].pattern, report, &report->frames[stack->frames[f]])) {
                return &suppressions->row[i];
            }
        }
    }
    return NULL;
}

/* Leaves the rows that hold something live and are not suppressed; sums the others up. */
static int64_t suppress(const moda_cli_gate *gate, const moda_report *report, moda_table *table) {
    int64_t suppressed = 0;
    size_t kept = 0;
    for (size_t i = 0; i < table->row_count; i++) {
        const moda_row *const row = &table->rows[i];
        const int64_t bytes = row->self.of[MODA_VALUE_LIVE_BYTES];
        if (bytes <= 0 || row->index >= report->stack_count) {
            continue;
        }
        moda_cli_suppression *const by =
            suppression_of(&gate->suppressions, report, &report->stacks[row->index]);
        if (by == NULL) {
            table->rows[kept++] = *row;
            continue;
        }
        by->bytes += bytes;
        by->blocks += row->self.of[MODA_VALUE_LIVE_COUNT];
        suppressed += bytes;
    }
    table->row_count = kept;
    return suppressed;
}

static void print_suppressed(const moda_cli_gate *gate, moda_out *out) {
    char bytes[MODA_HUMAN_SIZE], blocks[MODA_HUMAN_SIZE];
    for (size_t i = 0; i < gate->suppressions.count; i++) {
        const moda_cli_suppression *const row = &gate->suppressions.row[i];
        if (row->blocks > 0) {
            moda_out_format(out, "  suppressed %s in %s blocks by leak:%s\n",
                            moda_human_bytes(bytes, row->bytes), moda_human_count(blocks, row->blocks),
                            row->pattern);
        }
    }
}

bool moda_cli_gate_passes(moda_cli_gate *gate, const moda_report *report, size_t top, bool is_quiet,
                          moda_out *out) {
    moda_error error = {.text = ""};
    char live_text[MODA_HUMAN_SIZE], allowed_text[MODA_HUMAN_SIZE];
    moda_table *const table = moda_table_build(report, MODA_BY_SITE, MODA_VALUE_LIVE_BYTES, false, &error);
    if (table == NULL) {
        moda_out_format(out, "mod-alloc run: leak gate: %s\n", error.text);
        return false;
    }
    const int64_t suppressed = suppress(gate, report, table);
    const int64_t live = (int64_t)report->profile->totals.current_bytes - suppressed;
    const bool passes = live <= 0 || (uint64_t)live <= gate->allowed_bytes;
    moda_human_bytes(live_text, live > 0 ? live : 0);
    moda_human_bytes(allowed_text, (int64_t)gate->allowed_bytes);
    if (!passes) {
        moda_out_format(out, "\nleak gate: %s live (%" PRId64 " bytes), %s allowed\n", live_text, live,
                        allowed_text);
        if (table->row_count == 0) {
            moda_out_text(out, "  no call site is known for them: nothing was sampled\n");
        }
        moda_write_options options;
        moda_write_options_default(&options);
        options.value = MODA_VALUE_LIVE_BYTES;
        options.top = top;
        if (table->row_count > 0) {
            moda_text_rows(report, table, &options, out);
        }
    } else if (!is_quiet) {
        moda_out_format(out, "leak gate: passed: %s live, %s allowed\n", live_text, allowed_text);
    }
    if (!passes || !is_quiet) {
        print_suppressed(gate, out);
    }
    moda_table_free(table);
    return passes;
}
