/* SPDX-License-Identifier: MIT
 *
 * write_text.c - the report for people: totals, the largest rows, what to trust, how the figures add up to what
 * the system shows, block sizes. Its pieces are used one by one by run, stat, top and diff.
 *
 * Lines fit options->width columns where it is given; names are made short (short_name.c), numbers never.
 */
#include "report/report.h"

#include "region/layout.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TOP_DEFAULT = 20, TOP_SUMMARY = 10, DEPTH_DEFAULT = 24, DEPTH_SUMMARY = 6, BAR_WIDTH = 40 };

typedef struct page {
    const moda_report *report;
    const moda_write_options *options;
    moda_out *out;
    const char *bold, *dim, *plain;
} page;

static page page_of(const moda_report *report, const moda_write_options *options, moda_out *out) {
    const bool has_color = options->has_color;
    return (page){
        .report = report,
        .options = options,
        .out = out,
        .bold = has_color ? "\033[1m" : "",
        .dim = has_color ? "\033[2m" : "",
        .plain = has_color ? "\033[0m" : "",
    };
}

static void heading(const page *p, const char *text) {
    moda_out_format(p->out, "%s%s%s\n", p->bold, text, p->plain);
}

/* The text in at most `room` columns; what is cut is shown by "...". Control characters become "?". */
static void put_cut(moda_out *out, const char *text, size_t room) {
    const size_t all = moda_columns(text);
    size_t left = all <= room ? all : room > 3 ? room - 3 : 0;
    char piece[512];
    size_t n = 0;
    for (; *text != 0; text++) {
        const bool begins = ((unsigned char)*text & 0xc0) != 0x80;
        if (begins && left-- == 0)
            break;
        piece[n++] = (unsigned char)*text < 32 || *text == 127 ? '?' : *text;
        if (n + 8 > sizeof piece && ((unsigned char)text[1] & 0xc0) != 0x80) {
            piece[n] = 0;
            moda_out_utf8(out, piece);
            n = 0;
        }
    }
    piece[n] = 0;
    moda_out_utf8(out, piece);
    if (all > room && room > 3)
        moda_out_text(out, "...");
}

/* A function's name, or another row's. */
static void put_name(moda_out *out, const char *name, size_t room) {
    char buffer[MODA_SHORT_NAME_SIZE];
    put_cut(out, moda_short_name(name, room, buffer, sizeof buffer), room);
}

/* A line of prose, two columns in, broken at blanks where the terminal ends. */
__attribute__((format(printf, 2, 3))) static void put_note(const page *p, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const size_t width = p->options->width == 0 ? SIZE_MAX : p->options->width < 40 ? 40 : p->options->width;
    size_t column = 0;
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        const size_t length = moda_columns(word);
        const bool must_break = column > 0 && column + 1 + length > width;
        moda_out_text(p->out, column == 0 ? "  " : must_break ? "\n    " : " ");
        column = (column == 0 ? 2 : must_break ? 4 : column + 1) + length;
        moda_out_utf8(p->out, word); /* of a file's name, perhaps */
    }
    moda_out_char(p->out, '\n');
}

/* Columns left for a name after `used` ones. */
static size_t name_room(const page *p, size_t used) {
    if (p->options->width == 0)
        return SIZE_MAX;
    return p->options->width > used + 16 ? p->options->width - used : 16;
}

/* ---- totals ---- */

static void put_pair(const page *p, const char *left, const char *left_value, const char *right,
                     const char *right_value) {
    moda_out_format(p->out, "  %-14s %14s", left, left_value);
    if (right != NULL)
        moda_out_format(p->out, "    %-14s %12s", right, right_value);
    moda_out_char(p->out, '\n');
}

static bool is_any_growth(const moda_profile *profile) {
    for (size_t i = 0; i < profile->process_count; i++)
        if (profile->processes[i].is_growth)
            return true;
    return false;
}

static void put_title(const page *p) {
    const moda_profile *const profile = p->report->profile;
    const moda_profile_process *const first = &profile->processes[0];
    moda_out_text(p->out, p->bold);
    const char *title = p->options->title;
    if (title == NULL)
        title = first->command_line[0] != 0 ? first->command_line : first->executable;
    char *const line = strdup(title); /* a script on the command line has line ends */
    for (char *at = line; at != NULL && *at != 0; at++)
        if (*at == '\n' || *at == '\t')
            *at = ' ';
    put_cut(p->out, line != NULL ? line : title, name_room(p, 0));
    free(line);
    moda_out_format(p->out, "%s\n", p->plain);
    char text[MODA_HUMAN_SIZE];
    if (profile->process_count > 1) {
        moda_out_format(p->out, "  %zu processes; their peaks are added up: an upper bound\n",
                        profile->process_count);
        if (is_any_growth(profile))
            moda_out_text(p->out, "  forked children: without what they had from their parents\n");
        return;
    }
    moda_out_format(p->out, "  process %" PRIu32 ", %s", first->pid,
                    moda_human_ns(text, (double)first->duration_ns));
    if (first->is_live && !first->exited_cleanly)
        moda_out_text(p->out, ", running");
    else if (!first->exited_cleanly)
        moda_out_text(p->out, ", ended without exit (killed, crashed, or _exit)");
    else
        moda_out_format(p->out, ", exit status %" PRIu32, first->exit_status);
    moda_out_format(p->out, ", %" PRIu32 " thread%s\n", first->threads_ever,
                    first->threads_ever == 1 ? "" : "s");
}

static int64_t as_int(uint64_t value) {
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

void moda_text_totals(const moda_report *report, const moda_write_options *options, moda_out *out) {
    const page p = page_of(report, options, out);
    const mod_alloc_stats *const t = &report->profile->totals;
    char a[MODA_HUMAN_SIZE], b[MODA_HUMAN_SIZE];
    put_title(&p);
    put_pair(&p, "allocations", moda_human_count(a, as_int(t->alloc_count)), "allocated",
             moda_human_bytes(b, as_int(t->total_bytes)));
    put_pair(&p, "frees", moda_human_count(a, as_int(t->free_count)), "requested",
             moda_human_bytes(b, as_int(t->requested_bytes)));
    put_pair(&p, "live blocks", moda_human_count(a, as_int(t->live_count)), "live",
             moda_human_bytes(b, as_int(t->current_bytes)));
    put_pair(&p, "at the peak", moda_human_count(a, as_int(t->peak_live_count)), "peak",
             moda_human_bytes(b, as_int(t->peak_bytes)));
    const moda_profile_process *const first = &report->profile->processes[0];
    if (report->profile->process_count == 1 && first->peak_ns > 0 && !options->is_summary)
        moda_out_format(out, "  the peak was reached after %s\n", moda_human_ns(a, (double)first->peak_ns));
}

/* ---- rows ---- */

typedef struct share {
    int64_t whole;
    double sum;
} share;

static double percent(int64_t part, int64_t whole) {
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

/* "+-" the standard error, in per cent of the value. */
static void put_error(const page *p, const moda_values *values, moda_value value) {
    if (p->report->profile->is_exact)
        return;
    const double error = moda_values_standard_error(values, value);
    const int64_t of = values->of[value];
    char text[16] = "";
    if (error < 0 || of <= 0)
        snprintf(text, sizeof text, "%s", of == 0 ? "" : "+-?");
    else
        snprintf(text, sizeof text, "+-%.0f%%", fmin(999, 100 * error / (double)of));
    moda_out_format(p->out, " %6s", text);
}

static void put_value(const page *p, const moda_values *values, moda_value value, share *s) {
    char text[MODA_HUMAN_SIZE];
    const int64_t of = values->of[value];
    const double part = percent(of, s->whole);
    s->sum += part;
    moda_out_format(p->out, "%s%11s%s", p->bold, moda_human_value(text, moda_value_infos[value].unit, of),
                    p->plain);
    put_error(p, values, value);
    moda_out_format(p->out, " %5.1f%%", part);
}

/* What goes beside the chosen value: blocks of the same kind. */
static moda_value count_beside(moda_value value) {
    switch (value) {
    case MODA_VALUE_LIVE_BYTES:
    case MODA_VALUE_LIVE_REQUESTED_BYTES:
    case MODA_VALUE_LIVE_WASTE_BYTES: return MODA_VALUE_LIVE_COUNT;
    case MODA_VALUE_AT_PEAK_BYTES:
    case MODA_VALUE_AT_PEAK_REQUESTED_BYTES: return MODA_VALUE_AT_PEAK_COUNT;
    case MODA_VALUE_OWN_PEAK_BYTES: return MODA_VALUE_OWN_PEAK_COUNT;
    case MODA_VALUE_FREED_BYTES: return MODA_VALUE_FREED_COUNT;
    default: return MODA_VALUE_ALLOCATED_COUNT;
    }
}

static void put_place(const page *p, const moda_frame *frame, size_t used) {
    moda_out *const out = p->out;
    char place[600] = "";
    const char *const file = frame->file == NULL      ? NULL
                             : p->options->width == 0 ? frame->file
                                                      : moda_base_name(frame->file);
    if (file != NULL && frame->line > 0)
        snprintf(place, sizeof place, "%.500s:%" PRIu32, file, frame->line);
    else if (file != NULL)
        snprintf(place, sizeof place, "%.500s", file);
    else if (frame->is_named && frame->module != UINT32_MAX)
        snprintf(place, sizeof place, "%.500s", moda_base_name(p->report->modules[frame->module].path));
    const char *const inlined = frame->inline_depth > 0 ? " [inlined]" : "";
    const size_t room = name_room(p, used);
    const size_t beside = moda_columns(place) + (place[0] != 0 ? 2 : 0) + moda_columns(inlined);
    put_name(out, frame->function, room == SIZE_MAX ? room : room > beside + 24 ? room - beside : 24);
    if (place[0] != 0 || inlined[0] != 0) {
        moda_out_format(out, "%s%s", p->dim, place[0] != 0 ? "  " : "");
        moda_out_utf8(out, place);
        moda_out_format(out, "%s%s", inlined, p->plain);
    }
    moda_out_char(out, '\n');
}

static const char *walk_note(const moda_stack *stack) {
    switch (stack->walk_end) {
    case MOD_ALLOC_WALK_CUT: return "(cut here: MOD_ALLOC_FRAMES frames are kept)";
    case MOD_ALLOC_WALK_UNKNOWN: return "(the walk ended in code without unwind tables)";
    case MOD_ALLOC_WALK_GUESSED: return "(some frames were found by guess)";
    case MOD_ALLOC_WALK_BROKEN: return "(the stack could not be walked further)";
    default: return NULL;
    }
}

static void put_stack(const page *p, const moda_stack *stack) {
    static const size_t indent = 8;
    const size_t most = p->options->depth > 0    ? p->options->depth
                        : p->options->is_summary ? DEPTH_SUMMARY
                                                 : DEPTH_DEFAULT;
    for (uint32_t i = 0; i < stack->frame_count && i < most; i++) {
        moda_out_format(p->out, "%*s", (int)indent, "");
        put_place(p, &p->report->frames[stack->frames[i]], indent);
    }
    if (stack->frame_count > most)
        moda_out_format(p->out, "%*s%s... %zu more%s\n", (int)indent, "", p->dim, stack->frame_count - most,
                        p->plain);
    else if (walk_note(stack) != NULL && !p->options->is_summary)
        moda_out_format(p->out, "%*s%s%s%s\n", (int)indent, "", p->dim, walk_note(stack), p->plain);
}

/* What else is worth knowing of a site, on its first line. Lives that ended: where these are not the `shown` blocks, how many
 * they are; of live blocks none has ended, though they may be as many. */
static void put_site_facts(const page *p, const moda_values *v, moda_value value, size_t used) {
    char text[MODA_HUMAN_SIZE];
    moda_out facts, *const out = &facts;
    moda_out_to_buffer(out);
    const int64_t ended = v->of[MODA_VALUE_LIFETIME_COUNT], temporary = v->of[MODA_VALUE_TEMPORARY_COUNT];
    const moda_value beside = count_beside(value);
    if (ended > 0 && (ended != v->of[beside] || beside == MODA_VALUE_LIVE_COUNT))
        moda_out_format(out, "; %s freed", moda_human_count(text, ended));
    if (v->of[MODA_VALUE_LIFETIME_NS] > 0) /* 0: none of them was timed */
        moda_out_format(out, ", mean life %s", moda_human_ns(text, moda_values_mean_lifetime_ns(v)));
    if (ended > 0 && temporary > ended / 2)
        moda_out_format(out, ", %.0f%% short-lived", percent(temporary, ended));
    const int64_t remote = v->of[MODA_VALUE_REMOTE_FREE_COUNT], frees = v->of[MODA_VALUE_FREED_COUNT];
    if (frees > 0 && remote > frees / 10)
        moda_out_format(out, ", %.0f%% freed by other threads", percent(remote, frees));
    if (value == MODA_VALUE_WASTE_BYTES || value == MODA_VALUE_REQUESTED_BYTES)
        moda_out_format(out, ", of %s allocated", moda_human_bytes(text, v->of[MODA_VALUE_ALLOCATED_BYTES]));
    if (facts.buffer != NULL)
        put_cut(p->out, facts.buffer, name_room(p, used));
    free(facts.buffer);
}

static void put_site_row(const page *p, const moda_row *row, share *s) {
    const moda_stack *const stack = &p->report->stacks[row->index];
    const moda_value value = p->options->value, beside = count_beside(value);
    char text[MODA_HUMAN_SIZE];
    put_value(p, &row->self, value, s);
    moda_human_count(text, row->self.of[beside]);
    moda_out_format(p->out, " %5.1f%%  %s %s", s->sum, text, row->self.of[beside] == 1 ? "block" : "blocks");
    put_site_facts(p, &row->self, value, 34 + moda_columns(text) + (p->report->profile->is_exact ? 0 : 7));
    moda_out_char(p->out, '\n');
    if (stack->frame_count == 0)
        moda_out_format(p->out, "        %s\n", row->name);
    put_stack(p, stack);
}

static bool has_two_values(const moda_table *table) {
    return table->by == MODA_BY_FUNCTION || table->by == MODA_BY_FILE || table->by == MODA_BY_MODULE;
}

static void put_plain_row(const page *p, const moda_table *table, const moda_row *row, share *s) {
    const moda_value value = p->options->value, beside = count_beside(value);
    const bool is_by_total = has_two_values(table) && p->options->by_total;
    const moda_values *const main_values = is_by_total ? &row->total : &row->self;
    char text[MODA_HUMAN_SIZE];
    size_t used = 18 + (p->report->profile->is_exact ? 0 : 7);
    put_value(p, main_values, value, s);
    if (has_two_values(table)) {
        const moda_values *const other = is_by_total ? &row->self : &row->total;
        moda_out_format(p->out, " %11s %5.1f%%",
                        moda_human_value(text, moda_value_infos[value].unit, other->of[value]),
                        percent(other->of[value], s->whole));
        used += 19;
    } else {
        moda_out_format(p->out, " %5.1f%%", s->sum);
        used += 7;
    }
    moda_out_format(p->out, " %12s  ", moda_human_count(text, main_values->of[beside]));
    used += 15;
    put_name(p->out, row->name, name_room(p, used));
    moda_out_char(p->out, '\n');
}

static void put_row_heads(const page *p, const moda_table *table) {
    const moda_value value = p->options->value;
    const moda_value_info *const info = &moda_value_infos[value];
    const char *const error = p->report->profile->is_exact ? "" : "  error";
    const char *const head = info->unit == MODA_UNIT_BYTES ? "bytes" : info->label;
    const size_t word = strcspn(head, ","); /* of "lifetimes, summed" */
    const int head_length = word < 11 ? (int)word : 11;
    moda_out_text(p->out, p->dim);
    if (table->by == MODA_BY_SITE)
        moda_out_format(p->out, "%11.*s%s  share    sum\n", head_length, head, error);
    else if (has_two_values(table))
        moda_out_format(p->out, "%11s%s  share %11s  share %12s  %s\n",
                        p->options->by_total ? "total" : "self", error,
                        p->options->by_total ? "self" : "total", "blocks", moda_by_name(table->by));
    else
        moda_out_format(p->out, "%11.*s%s  share    sum %12s  %s\n", head_length, head, error, "blocks",
                        moda_by_name(table->by));
    moda_out_text(p->out, p->plain);
}

void moda_text_rows(const moda_report *report, const moda_table *table, const moda_write_options *options,
                    moda_out *out) {
    const page p = page_of(report, options, out);
    const moda_value value = options->value;
    const size_t top = options->top > 0 ? options->top : options->is_summary ? TOP_SUMMARY : TOP_DEFAULT;
    if (!(table->known >> value & 1)) {
        moda_out_format(out, "%s is not known by %s, only what was allocated, freed and is live\n",
                        moda_value_infos[value].label, moda_by_name(table->by));
        return;
    }
    size_t with_value = 0;
    for (size_t i = 0; i < table->row_count; i++) {
        const moda_row *const row = &table->rows[i];
        with_value += (options->by_total ? &row->total : &row->self)->of[value] != 0;
    }
    const size_t shown = with_value < top ? with_value : top;
    moda_out_format(out, "%sBy %s: %s%s", p.bold, moda_by_name(table->by), moda_value_infos[value].label,
                    p.plain);
    if (shown == 0) {
        moda_out_format(out, ": none%s\n",
                        report->profile->sample_bytes == 0 && table->by != MODA_BY_THREAD
                            ? " (call sites were not sampled: MOD_ALLOC_SAMPLE=0)"
                        : report->is_filtered ? " (after filters)"
                                              : "");
        return;
    }
    char text[MODA_HUMAN_SIZE];
    moda_out_format(
        out, ", %zu of %s, of %s in all%s\n", shown, moda_human_count(text, (int64_t)with_value),
        moda_human_value((char[MODA_HUMAN_SIZE]){0}, moda_value_infos[value].unit, table->sum.of[value]),
        report->is_filtered && table->by != MODA_BY_THREAD ? " (after filters)" : "");
    put_row_heads(&p, table);
    share s = {.whole = table->sum.of[value]};
    for (size_t i = 0, n = 0; i < table->row_count && n < shown; i++) {
        const moda_row *const row = &table->rows[i];
        if ((options->by_total ? &row->total : &row->self)->of[value] == 0)
            continue;
        if (table->by == MODA_BY_SITE)
            put_site_row(&p, row, &s);
        else
            put_plain_row(&p, table, row, &s);
        n++;
    }
}

/* ---- the call tree ---- */

typedef struct tree_lines {
    page p;
    const moda_tree *tree;
    size_t left; /* lines that may still be put */
    int64_t least;
} tree_lines;

static void put_node(tree_lines *lines, uint32_t index) {
    const moda_tree *const t = lines->tree;
    const moda_node *const node = &t->nodes[index];
    const page *const p = &lines->p;
    const int64_t total = t->total[index * t->value_count];
    char text[MODA_HUMAN_SIZE];
    const size_t indent = node->depth > 40 ? 40 : node->depth;
    moda_out_format(p->out, "%s%11s%s %5.1f%%  %*s", p->bold,
                    moda_human_value(text, moda_value_infos[t->values[0]].unit, total), p->plain,
                    percent(total, t->total[0]), (int)indent - 1, "");
    put_name(p->out, p->report->functions[node->function].name, name_room(p, 20 + indent));
    moda_out_char(p->out, '\n');
    lines->left--;
}

/* Depth first without recursion: stacks can be 512 frames deep, with inlines more. */
static void put_tree(tree_lines *lines) {
    const moda_tree *const t = lines->tree;
    uint32_t at = t->nodes[0].first_child;
    while (at != 0 && lines->left > 0) {
        const bool is_shown =
            t->total[at * t->value_count] >= lines->least && t->total[at * t->value_count] > 0;
        if (is_shown)
            put_node(lines, at);
        if (is_shown && t->nodes[at].first_child != 0) {
            at = t->nodes[at].first_child;
            continue;
        }
        while (at != 0 && t->nodes[at].next_sibling == 0)
            at = t->nodes[at].parent;
        if (at != 0)
            at = t->nodes[at].next_sibling;
    }
}

static bool put_tree_section(const page *p, moda_error *error) {
    const moda_value value = p->options->value;
    moda_tree *const tree = moda_tree_build(p->report, p->options->is_bottom_up, false, &value, 1, error);
    if (tree == NULL)
        return false;
    tree_lines lines = {.p = *p, .tree = tree, .left = p->options->top > 0 ? p->options->top : 100};
    lines.least = p->options->top > 0 ? 0 : tree->total[0] / 200;
    moda_out_format(p->out, "%sCall tree, %s: %s%s\n", p->bold,
                    p->options->is_bottom_up ? "from the allocating functions up" : "from the top down",
                    moda_value_infos[value].label, p->plain);
    put_tree(&lines);
    moda_tree_free(tree);
    return true;
}

/* ---- what to trust ---- */

static void put_walks(const page *p, const uint64_t walks[6]) {
    static const char *const names[6] = {
        [MOD_ALLOC_WALK_COMPLETE] = "complete",
        [MOD_ALLOC_WALK_CUT] = "cut",
        [MOD_ALLOC_WALK_UNKNOWN] = "ended in code without tables",
        [MOD_ALLOC_WALK_GUESSED] = "partly guessed",
        [MOD_ALLOC_WALK_BROKEN] = "broken",
        [MOD_ALLOC_WALK_NONE] = "not walked",
    };
    uint64_t all = 0;
    for (int i = 0; i < 6; i++)
        all += walks[i];
    if (all == 0)
        return;
    char text[400] = "stacks:";
    size_t length = strlen(text);
    const char *separator = " ";
    for (int i = 0; i < 6; i++) {
        if (walks[i] == 0)
            continue;
        const double part = 100.0 * (double)walks[i] / (double)all;
        char share_text[16] = "<0.1%";
        if (part >= 0.1)
            snprintf(share_text, sizeof share_text, "%.*f%%", part > 99.95 ? 0 : 1, part);
        length +=
            (size_t)snprintf(text + length, sizeof text - length, "%s%s %s", separator, share_text, names[i]);
        separator = ", ";
    }
    put_note(p, "%s", text);
}

static void put_sampling(const page *p) {
    const moda_profile *const profile = p->report->profile;
    char a[MODA_HUMAN_SIZE], b[MODA_HUMAN_SIZE];
    uint64_t samples = 0, changes = 0;
    for (size_t i = 0; i < profile->process_count; i++) {
        samples += profile->processes[i].samples;
        changes += profile->processes[i].sample_changes;
    }
    moda_human_count(a, as_int(samples));
    if (profile->is_exact) {
        put_note(p, "every allocation was recorded (%s): figures by site are exact", a);
        if (moda_report_estimates_lives(p->report))
            put_note(
                p, "but lifetimes at sites of more than %u blocks: estimates, one block in %u is timed there",
                MODA_LIVES_ALL, MODA_LIVES_STRIDE);
    } else if (profile->sample_bytes == 0 && samples == 0) {
        put_note(p, "call sites were not sampled; the totals are exact");
    } else {
        put_note(p,
                 "%s samples, one each %s on average; the totals are exact, figures by site are"
                 " estimates, +- their standard error",
                 a, moda_human_bytes(b, as_int(profile->sample_bytes)));
        const double error = moda_values_standard_error(&p->report->totals, MODA_VALUE_ALLOCATED_BYTES);
        const int64_t sum = p->report->totals.of[MODA_VALUE_ALLOCATED_BYTES];
        if (error > 0 && sum > 0 && !p->report->is_filtered)
            put_note(p,
                     "sites add up to %s +-%.1f%% allocated, %s by the totals (which count of a realloc"
                     " only the growth)",
                     moda_human_bytes(a, sum), 100 * error / (double)sum,
                     moda_human_bytes(b, as_int(profile->totals.total_bytes)));
        if (changes > 0)
            put_note(p, "the sampling rate was changed %" PRIu64 " times while it ran", changes);
    }
}

/* A block that realloc moves is allocated anew at the site that called realloc; the totals count its growth. */
static void put_realloc(const page *p) {
    const int64_t sites = p->report->profile->site_totals.of[MODA_VALUE_ALLOCATED_BYTES];
    const int64_t total = as_int(p->report->profile->totals.total_bytes);
    char text[MODA_HUMAN_SIZE];
    if (!p->report->profile->is_exact || sites <= total)
        return;
    put_note(p,
             "sites add up to %s allocated, more than the total: realloc counts the whole block at"
             " its site, and only the growth in the total",
             moda_human_bytes(text, sites));
}

/* Why there are addresses in place of names: most often the program has been built anew since. */
static void put_lost_files(const page *p) {
    enum { SHOWN = 5 };
    size_t lost = 0;
    for (size_t i = 0; i < p->report->module_count; i++) {
        const moda_report_module *const module = &p->report->modules[i];
        if ((module->is_changed || module->is_missing) && lost++ < SHOWN)
            put_note(p, "no names in %s: %s", module->path,
                     module->is_missing ? "there is no such file here"
                                        : "the file has changed since the program ran");
    }
    if (lost > SHOWN)
        put_note(p, "and in %zu more", lost - SHOWN);
}

void moda_text_trust(const moda_report *report, const moda_write_options *options, moda_out *out) {
    const page p = page_of(report, options, out);
    const moda_profile *const profile = report->profile;
    char a[MODA_HUMAN_SIZE], b[MODA_HUMAN_SIZE];
    uint64_t walks[6] = {0}, dropped = 0, dropped_disk = 0, torn = 0;
    uint32_t most_threads = 0;
    for (size_t i = 0; i < profile->process_count; i++) {
        const moda_profile_process *const process = &profile->processes[i];
        for (int k = 0; k < 6; k++)
            walks[k] += process->walks[k];
        dropped += process->dropped;
        dropped_disk += process->dropped_disk;
        torn += process->torn;
        if (process->threads_ever > most_threads)
            most_threads = process->threads_ever;
    }
    heading(&p, "What to trust");
    put_sampling(&p);
    put_realloc(&p);
    put_walks(&p, walks);
    if (report->addresses > 0)
        put_note(&p, "names: %s of %s addresses, %.0f%% with file and line",
                 moda_human_count(a, (int64_t)report->addresses_named),
                 moda_human_count(b, (int64_t)report->addresses),
                 percent((int64_t)report->addresses_with_lines, (int64_t)report->addresses));
    put_lost_files(&p);
    if (dropped > 0)
        put_note(&p, "%s samples found no room for their stack (%s): they are in the overflow site",
                 moda_human_count(a, as_int(dropped)),
                 dropped_disk > 0 ? "the disk that the profile lies on was full" : "MOD_ALLOC_MEMORY");
    else if (dropped_disk > 0)
        put_note(&p, "%s records found no room on the disk", moda_human_count(a, as_int(dropped_disk)));
    if (torn > 0)
        put_note(&p,
                 "%s records were being changed when they were read: they may be off by one"
                 " allocation",
                 moda_human_count(a, as_int(torn)));
    if (most_threads > 1)
        put_note(&p, "%" PRIu32 " threads: the peak may be low by up to %s", most_threads,
                 moda_human_bytes(a, (int64_t)(most_threads - 1) * MOD_ALLOC_PEAK_SLACK));
    if (report->is_filtered)
        put_note(&p, "filters took away %s in %s allocations",
                 moda_human_bytes(a, report->dropped.of[MODA_VALUE_ALLOCATED_BYTES]),
                 moda_human_count(b, report->dropped.of[MODA_VALUE_ALLOCATED_COUNT]));
}

/* ---- requested -> block -> committed -> resident ---- */

static void put_sum(const page *p, const char *sign, const char *label, int64_t bytes, const char *note) {
    char text[MODA_HUMAN_SIZE];
    moda_out_format(p->out, "  %1s %12s  %-36s%s%s%s\n", sign, moda_human_bytes(text, bytes), label, p->dim,
                    note, p->plain);
}

void moda_text_reconciliation(const moda_report *report, const moda_write_options *options, moda_out *out) {
    const page p = page_of(report, options, out);
    const moda_profile *const profile = report->profile;
    uint64_t committed = 0, resident = 0, region = 0;
    for (size_t i = 0; i < profile->process_count; i++) {
        committed += profile->processes[i].heap_committed_bytes;
        resident += profile->processes[i].resident_bytes;
        region += profile->processes[i].region_resident_bytes;
    }
    const int64_t live = as_int(profile->totals.current_bytes);
    /* Live requested bytes are known by site only: of the whole, the share that the sites have. */
    const moda_values *const sites = &profile->site_totals;
    const int64_t site_live = sites->of[MODA_VALUE_LIVE_BYTES];
    const int64_t site_requested = sites->of[MODA_VALUE_LIVE_REQUESTED_BYTES];
    int64_t requested = -1;
    if (profile->is_exact && site_live == live) {
        requested = site_requested;
    } else if (site_live > 0) {
        const double scaled = (double)live * ((double)site_requested / (double)site_live);
        requested = scaled < (double)live ? (int64_t)scaled : live;
    }
    heading(&p, "From what was asked for to what the system shows (now, or at the end)");
    if (requested >= 0) {
        put_sum(&p, "", "asked for, in live blocks", requested, profile->is_exact ? "" : "estimate");
        put_sum(&p, "+", "rounding up to block sizes", live - requested, "");
    }
    put_sum(&p, "=", "live blocks", live, "exact");
    if (committed > 0) {
        put_sum(&p, "+", "free blocks and headers of the heap", as_int(committed) - live,
                "kept for later allocations");
        put_sum(&p, "=", "heap, committed", as_int(committed), "");
    }
    if (resident > 0) {
        const bool is_heap_known = committed > 0;
        const int64_t heap = is_heap_known ? as_int(committed) : live;
        const int64_t others = moda_values_sum(as_int(resident) - heap, -as_int(region));
        const char *const untouched = is_heap_known ? "committed but never touched" : "never touched";
        const char *const more =
            is_heap_known ? "code, stacks, other mappings" : "free blocks, code, stacks, other mappings";
        put_sum(&p, "+", "this profile", as_int(region), "");
        put_sum(&p, others < 0 ? "-" : "+", others < 0 ? untouched : more,
                others == INT64_MIN ? INT64_MAX
                : others < 0        ? -others
                                    : others,
                "");
        put_sum(&p, "=", "resident (RSS)", as_int(resident), "as the system counts");
    } else {
        moda_out_text(out, "    the resident size was not looked up\n");
    }
}

/* ---- block sizes ---- */

void moda_text_sizes(const moda_report *report, const moda_write_options *options, moda_out *out) {
    const page p = page_of(report, options, out);
    const uint64_t *const classes = report->profile->size_classes;
    uint64_t most = 0, all = 0;
    int first = -1, last = -1;
    for (int k = 0; k < MODA_PROFILE_SIZE_CLASSES; k++) {
        if (classes[k] == 0)
            continue;
        if (first < 0)
            first = k;
        last = k;
        all += classes[k];
        if (classes[k] > most)
            most = classes[k];
    }
    if (all == 0)
        return;
    moda_out_format(out, "%sBlock sizes, allocations%s%s\n", p.bold,
                    report->profile->is_exact ? "" : " (estimated)", p.plain);
    unsigned bar = BAR_WIDTH;
    if (options->width > 0 && options->width < 46 + BAR_WIDTH)
        bar = options->width > 56 ? options->width - 46 : 10;
    for (int k = first; k <= last; k++) {
        char size[MODA_HUMAN_SIZE], count[MODA_HUMAN_SIZE];
        moda_human_bytes(size, k < 63 ? (int64_t)1 << k : INT64_MAX);
        const unsigned length = (unsigned)((double)classes[k] / (double)most * bar + 0.5);
        moda_out_format(out, "  up to %10s %15s %5.1f%%  ", size, moda_human_count(count, as_int(classes[k])),
                        100.0 * (double)classes[k] / (double)all);
        for (unsigned i = 0; i < length; i++)
            moda_out_char(out, '#');
        moda_out_char(out, '\n');
    }
}

/* ---- differences ---- */

static const char *change_name(moda_change change) {
    static const char *const names[] = {[MODA_NEW] = "new",
                                        [MODA_GONE] = "gone",
                                        [MODA_GROWN] = "grown",
                                        [MODA_SHRUNK] = "shrunk",
                                        [MODA_SAME] = "same"};
    return names[change];
}

static void put_signed(char *text, moda_unit unit, int64_t value) {
    text[0] = value > 0 ? '+' : 0;
    moda_human_value(text + (value > 0), unit, value);
}

static void put_total_change(const page *p, const char *label, uint64_t before, uint64_t after,
                             moda_unit unit) {
    char a[MODA_HUMAN_SIZE], b[MODA_HUMAN_SIZE], c[MODA_HUMAN_SIZE + 1];
    put_signed(c, unit, moda_values_sum(as_int(after), -as_int(before)));
    moda_out_format(p->out, "  %-12s %14s -> %14s %14s", label, moda_human_value(a, unit, as_int(before)),
                    moda_human_value(b, unit, as_int(after)), c);
    if (before > 0)
        moda_out_format(p->out, " %+7.1f%%", 100 * ((double)after - (double)before) / (double)before);
    moda_out_char(p->out, '\n');
}

/* Two standard errors: what chance alone gives in one of twenty rows. */
static bool is_within_error(const moda_diff_row *row) {
    return row->standard_error > 0 && fabs((double)row->delta) < 2 * row->standard_error;
}

static void put_diff_row(const page *p, const moda_diff *diff, const moda_diff_row *row) {
    const moda_unit unit = moda_value_infos[diff->value].unit;
    char a[MODA_HUMAN_SIZE], b[MODA_HUMAN_SIZE], c[MODA_HUMAN_SIZE + 1];
    put_signed(c, unit, row->delta);
    moda_out_format(p->out, "%s%12s%s %-6s %11s -> %11s", p->bold, c, p->plain, change_name(row->change),
                    moda_human_value(a, unit, row->before.of[diff->value]),
                    moda_human_value(b, unit, row->after.of[diff->value]));
    size_t used = 46;
    if (is_within_error(row)) {
        moda_out_text(p->out, " (within error)");
        used += 15;
    }
    moda_out_text(p->out, "  ");
    const bool is_after = row->after_index != UINT32_MAX;
    const moda_report *const report = is_after ? diff->after : diff->before;
    const moda_table *const table = is_after ? diff->after_table : diff->before_table;
    const moda_row *const source = &table->rows[is_after ? row->after_index : row->before_index];
    if (diff->by != MODA_BY_SITE) {
        put_name(p->out, row->name, name_room(p, used));
        moda_out_char(p->out, '\n');
        return;
    }
    moda_out_char(p->out, '\n');
    page own = *p;
    own.report = report;
    const moda_stack *const stack = &report->stacks[source->index];
    if (stack->frame_count == 0)
        moda_out_format(p->out, "        %s\n", row->name);
    put_stack(&own, stack);
}

void moda_text_diff(const moda_diff *diff, const moda_write_options *options, moda_out *out) {
    const page p = page_of(diff->after, options, out);
    const mod_alloc_stats *const before = &diff->before->profile->totals, *const after =
                                                                              &diff->after->profile->totals;
    heading(&p, "Totals, before -> after (exact)");
    put_total_change(&p, "allocations", before->alloc_count, after->alloc_count, MODA_UNIT_COUNT);
    put_total_change(&p, "allocated", before->total_bytes, after->total_bytes, MODA_UNIT_BYTES);
    put_total_change(&p, "requested", before->requested_bytes, after->requested_bytes, MODA_UNIT_BYTES);
    put_total_change(&p, "live", before->current_bytes, after->current_bytes, MODA_UNIT_BYTES);
    put_total_change(&p, "peak", before->peak_bytes, after->peak_bytes, MODA_UNIT_BYTES);
    size_t counts[5] = {0}, within_error = 0;
    for (size_t i = 0; i < diff->row_count; i++) {
        counts[diff->rows[i].change]++;
        within_error += diff->rows[i].change != MODA_SAME && is_within_error(&diff->rows[i]);
    }
    moda_out_format(out, "\n%sBy %s: %s%s, %zu new, %zu gone, %zu grown, %zu shrunk, %zu the same\n", p.bold,
                    moda_by_name(diff->by), moda_value_infos[diff->value].label, p.plain, counts[MODA_NEW],
                    counts[MODA_GONE], counts[MODA_GROWN], counts[MODA_SHRUNK], counts[MODA_SAME]);
    if (within_error > 0)
        moda_out_format(
            out, "  %zu of these changes are within the error of sampling: chance alone can be all of each\n",
            within_error);
    const size_t top = options->top > 0 ? options->top : TOP_DEFAULT;
    for (size_t i = 0; i < diff->row_count && i < top; i++)
        if (diff->rows[i].change != MODA_SAME)
            put_diff_row(&p, diff, &diff->rows[i]);
}

/* ---- the whole report ---- */

static int write_text(const moda_report *report, const moda_write_options *options, moda_out *out,
                      moda_error *error) {
    const page p = page_of(report, options, out);
    moda_text_totals(report, options, out);
    moda_out_char(out, '\n');
    if (options->has_tree) {
        if (!put_tree_section(&p, error))
            return -1;
    } else {
        moda_table *const table =
            moda_table_build(report, options->by, options->value, options->by_total, error);
        if (table == NULL)
            return -1;
        moda_text_rows(report, table, options, out);
        moda_table_free(table);
    }
    moda_out_char(out, '\n');
    moda_text_trust(report, options, out);
    if (options->is_summary)
        return 0;
    moda_out_char(out, '\n');
    moda_text_reconciliation(report, options, out);
    moda_out_char(out, '\n');
    moda_text_sizes(report, options, out);
    return 0;
}

const moda_writer moda_writer_text = {
    .name = "text",
    .extension = "txt",
    .help = "totals, largest rows, what to trust, and where the memory is",
    .write = write_text,
};
