/* SPDX-License-Identifier: MIT
 *
 * rollup.c - the stacks of a report summed up: rows by site, function, file, module and thread, and call trees.
 *
 * Laws
 *   1. the self values of all rows add up to the report's totals (rows by thread: to the exact totals).
 *   2. a row's total counts a stack once, however often its function is in it (recursion).
 *   3. order does not depend on addresses: equal values are ordered by name.
 */
#include "report/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char overflow_name[] = "[overflow site: samples that found no room]";
static const char empty_name[] = "[no frames]";
static const char no_file[] = "[no file known]";
static const char no_module_name[] = "[no module]";

static const char *stack_name(const moda_report *report, const moda_stack *stack) {
    if (stack->frame_count > 0)
        return report->frames[stack->frames[0]].function;
    return stack->is_overflow ? overflow_name : empty_name;
}

/* ---- rows ---- */

/* Rows keyed by a number: a function's, a module's, or a file's. */
typedef struct gathering {
    const moda_report *report;
    moda_by by;
    moda_table *table;
    uint32_t *row_of_key;    /* index + 1 */
    uint32_t *seen_in_stack; /* by row: number + 1 of the last stack counted */
    const uint32_t *file_of_frame;
    size_t key_count;
} gathering;

static uint32_t key_of(const gathering *g, const moda_stack *stack, uint32_t at) {
    const uint32_t last = (uint32_t)g->key_count - 1; /* "none" */
    if (at >= stack->frame_count)
        return last;
    const moda_frame *const frame = &g->report->frames[stack->frames[at]];
    switch (g->by) {
    case MODA_BY_FUNCTION: return frame->function_id;
    case MODA_BY_FILE: return g->file_of_frame[stack->frames[at]];
    case MODA_BY_MODULE: return frame->module != UINT32_MAX ? frame->module : last;
    default: return last;
    }
}

static const char *key_name(const gathering *g, const moda_stack *stack, uint32_t at) {
    if (at >= stack->frame_count)
        return stack_name(g->report, stack);
    const moda_frame *const frame = &g->report->frames[stack->frames[at]];
    switch (g->by) {
    case MODA_BY_FUNCTION: return frame->function;
    case MODA_BY_FILE: return frame->file != NULL ? frame->file : no_file;
    case MODA_BY_MODULE:
        return frame->module != UINT32_MAX ? g->report->modules[frame->module].path : no_module_name;
    default: return empty_name;
    }
}

static uint32_t row_for(gathering *g, const moda_stack *stack, uint32_t at) {
    const uint32_t key = key_of(g, stack, at);
    if (g->row_of_key[key] == 0) {
        moda_row *const row = &g->table->rows[g->table->row_count];
        row->name = key_name(g, stack, at);
        const bool is_none = key + 1 == g->key_count || g->by == MODA_BY_FILE;
        row->index = is_none ? UINT32_MAX : key;
        moda_values_clear(&row->self);
        moda_values_clear(&row->total);
        g->row_of_key[key] = (uint32_t)++g->table->row_count;
    }
    return g->row_of_key[key] - 1;
}

static void gather(gathering *g) {
    for (size_t i = 0; i < g->report->stack_count; i++) {
        const moda_stack *const stack = &g->report->stacks[i];
        moda_values_add(&g->table->rows[row_for(g, stack, 0)].self, &stack->values);
        const uint32_t count = stack->frame_count > 0 ? stack->frame_count : 1;
        for (uint32_t at = 0; at < count; at++) {
            const uint32_t row = row_for(g, stack, at);
            if (g->seen_in_stack[row] == (uint32_t)i + 1)
                continue;
            g->seen_in_stack[row] = (uint32_t)i + 1;
            moda_values_add(&g->table->rows[row].total, &stack->values);
        }
    }
}

static int by_file(const void *a, const void *b) {
    const moda_frame *const x = *(const moda_frame *const *)a, *const y = *(const moda_frame *const *)b;
    return (x->file > y->file) - (x->file < y->file); /* interned */
}

/* A number for each source file, by frame; "no file" is the last. */
static uint32_t *number_files(const moda_report *report, size_t *count) {
    uint32_t *const file_of_frame = malloc((report->frame_count + 1) * sizeof *file_of_frame);
    const moda_frame **const order = malloc((report->frame_count + 1) * sizeof *order);
    *count = 0;
    if (file_of_frame != NULL && order != NULL) {
        for (size_t i = 0; i < report->frame_count; i++)
            order[i] = &report->frames[i];
        if (report->frame_count > 1)
            qsort(order, report->frame_count, sizeof *order, by_file);
        const char *last = NULL;
        for (size_t i = 0; i < report->frame_count; i++) {
            if (order[i]->file == NULL)
                continue;
            if (order[i]->file != last)
                ++*count;
            last = order[i]->file;
            file_of_frame[order[i] - report->frames] = (uint32_t)*count - 1;
        }
        for (size_t i = 0; i < report->frame_count; i++)
            if (report->frames[i].file == NULL)
                file_of_frame[i] = (uint32_t)*count;
    }
    ++*count;
    free(order);
    return file_of_frame;
}

static bool fill_gathered(const moda_report *report, moda_by by, moda_table *table) {
    gathering g = {.report = report, .by = by, .table = table};
    uint32_t *files = NULL;
    if (by == MODA_BY_FUNCTION)
        g.key_count = report->function_count + 1;
    else if (by == MODA_BY_MODULE)
        g.key_count = report->module_count + 1;
    else
        files = number_files(report, &g.key_count);
    g.file_of_frame = files;
    g.row_of_key = calloc(g.key_count, sizeof *g.row_of_key);
    g.seen_in_stack = calloc(g.key_count, sizeof *g.seen_in_stack);
    table->rows = malloc(g.key_count * sizeof *table->rows);
    const bool is_fine = g.row_of_key != NULL && g.seen_in_stack != NULL && table->rows != NULL
                         && (by != MODA_BY_FILE || files != NULL);
    if (is_fine)
        gather(&g);
    free(files);
    free(g.row_of_key);
    free(g.seen_in_stack);
    return is_fine;
}

static bool fill_sites(const moda_report *report, moda_table *table) {
    table->rows = malloc((report->stack_count + 1) * sizeof *table->rows);
    if (table->rows == NULL)
        return false;
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        table->rows[i] = (moda_row){.name = stack_name(report, stack),
                                    .index = (uint32_t)i,
                                    .self = stack->values,
                                    .total = stack->values};
    }
    table->row_count = report->stack_count;
    return true;
}

static int64_t as_int(uint64_t value) {
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

static const moda_value thread_values[] = {
    MODA_VALUE_ALLOCATED_BYTES, MODA_VALUE_ALLOCATED_COUNT, MODA_VALUE_REQUESTED_BYTES,
    MODA_VALUE_WASTE_BYTES,     MODA_VALUE_FREED_BYTES,     MODA_VALUE_FREED_COUNT,
    MODA_VALUE_LIVE_BYTES,      MODA_VALUE_LIVE_COUNT,      MODA_VALUE_SAMPLES,
};

static const char *thread_name(const moda_report *report, const moda_profile_thread *thread, char *text,
                               size_t room) {
    char process[40] = "";
    if (report->profile->process_count > 1)
        snprintf(process, sizeof process, "%" PRIu32 ": ", report->profile->processes[thread->process].pid);
    if (thread->is_orphan)
        snprintf(text, room, "%s[ended and foreign threads]", process);
    else
        snprintf(text, room, "%s%s (%" PRIu32 ")%s", process, thread->name[0] != 0 ? thread->name : "thread",
                 thread->tid, thread->incarnation > 1 ? " and earlier ones" : "");
    return text;
}

/* A balance below 0 (a thread that frees what others allocated) is shown as it is. */
static bool fill_threads(const moda_report *report, moda_table *table) {
    const moda_profile *const profile = report->profile;
    table->rows = malloc((profile->thread_count + 1) * sizeof *table->rows);
    if (table->rows == NULL)
        return false;
    table->known = 0;
    for (size_t i = 0; i < sizeof thread_values / sizeof thread_values[0]; i++)
        table->known |= 1u << thread_values[i];
    moda_values_clear(&table->sum);
    for (size_t i = 0; i < profile->thread_count; i++) {
        const moda_profile_thread *const thread = &profile->threads[i];
        char text[80];
        moda_row row = {.name =
                            moda_arena_intern(report->arena, thread_name(report, thread, text, sizeof text)),
                        .index = (uint32_t)i};
        if (row.name == NULL)
            return false;
        moda_values_clear(&row.self);
        int64_t *const of = row.self.of;
        of[MODA_VALUE_ALLOCATED_BYTES] = as_int(thread->stats.total_bytes);
        of[MODA_VALUE_ALLOCATED_COUNT] = as_int(thread->stats.alloc_count);
        of[MODA_VALUE_REQUESTED_BYTES] = as_int(thread->stats.requested_bytes);
        of[MODA_VALUE_WASTE_BYTES] = of[MODA_VALUE_ALLOCATED_BYTES] - of[MODA_VALUE_REQUESTED_BYTES];
        of[MODA_VALUE_FREED_BYTES] = as_int(thread->freed_bytes);
        of[MODA_VALUE_FREED_COUNT] = as_int(thread->stats.free_count);
        of[MODA_VALUE_LIVE_BYTES] = thread->balance_bytes;
        of[MODA_VALUE_LIVE_COUNT] = thread->balance_count;
        of[MODA_VALUE_SAMPLES] = as_int(thread->samples);
        row.total = row.self;
        moda_values_add(&table->sum, &row.self);
        table->rows[table->row_count++] = row;
    }
    return true;
}

typedef struct order {
    const moda_table *table;
    moda_value value;
    bool by_total;
} order;

static int compare_rows(const void *a, const void *b, void *context) {
    const order *const o = context;
    const moda_row *const x = a, *const y = b;
    const int64_t p = (o->by_total ? &x->total : &x->self)->of[o->value];
    const int64_t q = (o->by_total ? &y->total : &y->self)->of[o->value];
    if (p != q)
        return p > q ? -1 : 1;
    const int names = strcmp(x->name, y->name);
    if (names != 0)
        return names;
    return (x->index > y->index) - (x->index < y->index);
}

moda_table *moda_table_build(const moda_report *report, moda_by by, moda_value value, bool by_total,
                             moda_error *error) {
    moda_table *const table = calloc(1, sizeof *table);
    if (table != NULL) {
        table->by = by;
        table->known = UINT32_MAX;
        table->sum = report->totals;
        const bool is_fine = by == MODA_BY_SITE     ? fill_sites(report, table)
                             : by == MODA_BY_THREAD ? fill_threads(report, table)
                                                    : fill_gathered(report, by, table);
        if (is_fine) {
            order o = {.table = table, .value = value, .by_total = by_total};
            if (table->row_count > 1)
                qsort_r(table->rows, table->row_count, sizeof *table->rows, compare_rows, &o);
            return table;
        }
    }
    moda_table_free(table);
    moda_error_set(error, "report: not enough memory");
    return NULL;
}

void moda_table_free(moda_table *table) {
    if (table == NULL)
        return;
    free(table->rows);
    free(table);
}

/* ---- trees ---- */

typedef struct planter {
    const moda_report *report;
    moda_tree *tree;
    size_t node_room;
    uint32_t *table; /* node, 0 = empty: by parent and key */
    size_t table_room;
    bool by_line;
} planter;

static uint64_t node_hash(uint32_t parent, uint32_t key) {
    uint64_t x = ((uint64_t)parent << 32 | key) * 0x9e3779b97f4a7c15u;
    x ^= x >> 31;
    return x * 0xbf58476d1ce4e5b9u >> 16;
}

static uint32_t node_key(const planter *p, const moda_node *node) {
    return p->by_line ? node->frame : node->function;
}

static bool grow_tree(planter *p) {
    moda_tree *const t = p->tree;
    if (t->node_count == p->node_room) {
        const size_t room = p->node_room == 0 ? 1024 : p->node_room * 2;
        moda_node *const nodes = realloc(t->nodes, room * sizeof *nodes);
        if (nodes != NULL)
            t->nodes = nodes;
        int64_t *const self = realloc(t->self, room * t->value_count * sizeof *self);
        if (self != NULL)
            t->self = self;
        int64_t *const total = realloc(t->total, room * t->value_count * sizeof *total);
        if (total != NULL)
            t->total = total;
        if (nodes == NULL || self == NULL || total == NULL)
            return false;
        p->node_room = room;
    }
    if (t->node_count * 2 < p->table_room)
        return true;
    const size_t room = p->table_room == 0 ? 4096 : p->table_room * 2;
    uint32_t *const table = calloc(room, sizeof *table);
    if (table == NULL)
        return false;
    for (uint32_t i = 1; i < t->node_count; i++) {
        size_t at = node_hash(t->nodes[i].parent, node_key(p, &t->nodes[i])) & (room - 1);
        while (table[at] != 0)
            at = (at + 1) & (room - 1);
        table[at] = i;
    }
    free(p->table);
    p->table = table;
    p->table_room = room;
    return true;
}

static uint32_t add_node(planter *p, uint32_t parent, uint32_t function, uint32_t frame) {
    moda_tree *const t = p->tree;
    const uint32_t made = (uint32_t)t->node_count++;
    t->nodes[made] = (moda_node){
        .function = function,
        .frame = frame,
        .parent = parent,
        .depth = made == 0 ? 0 : t->nodes[parent].depth + 1,
    };
    memset(&t->self[made * t->value_count], 0, t->value_count * sizeof *t->self);
    memset(&t->total[made * t->value_count], 0, t->value_count * sizeof *t->total);
    return made;
}

/* The child of a node for a frame; UINT32_MAX = no memory. */
static uint32_t child_for(planter *p, uint32_t parent, uint32_t frame) {
    if (!grow_tree(p))
        return UINT32_MAX;
    moda_tree *const t = p->tree;
    const uint32_t function = p->report->frames[frame].function_id;
    const uint32_t key = p->by_line ? frame : function;
    size_t at = node_hash(parent, key) & (p->table_room - 1);
    for (; p->table[at] != 0; at = (at + 1) & (p->table_room - 1)) {
        const moda_node *const other = &t->nodes[p->table[at]];
        if (other->parent == parent && node_key(p, other) == key)
            return p->table[at];
    }
    return p->table[at] = add_node(p, parent, function, frame);
}

static void add_values(moda_tree *t, int64_t *to, uint32_t node, const moda_values *values) {
    for (size_t k = 0; k < t->value_count; k++) {
        int64_t *const sum = &to[node * t->value_count + k];
        *sum = moda_values_sum(*sum, values->of[t->values[k]]);
    }
}

static bool plant(planter *p, const moda_stack *stack, bool is_bottom_up) {
    moda_tree *const t = p->tree;
    bool has_value = false;
    for (size_t k = 0; k < t->value_count; k++)
        has_value |= stack->values.of[t->values[k]] != 0;
    if (!has_value)
        return true;
    uint32_t node = 0;
    add_values(t, t->total, 0, &stack->values);
    for (uint32_t i = 0; i < stack->frame_count; i++) {
        node = child_for(p, node, stack->frames[is_bottom_up ? i : stack->frame_count - 1 - i]);
        if (node == UINT32_MAX)
            return false;
        add_values(t, t->total, node, &stack->values);
    }
    add_values(t, t->self, node, &stack->values);
    return true;
}

static int compare_nodes(const void *a, const void *b, void *context) {
    const planter *const p = context;
    const moda_tree *const t = p->tree;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (t->nodes[x].parent != t->nodes[y].parent)
        return t->nodes[x].parent < t->nodes[y].parent ? -1 : 1;
    const int64_t v = t->total[x * t->value_count], w = t->total[y * t->value_count];
    if (v != w)
        return v > w ? -1 : 1;
    const int names = strcmp(p->report->functions[t->nodes[x].function].name,
                             p->report->functions[t->nodes[y].function].name);
    return names != 0 ? names : (x > y) - (x < y);
}

static bool link_children(planter *p) {
    moda_tree *const t = p->tree;
    uint32_t *const nodes = malloc(t->node_count * sizeof *nodes);
    if (nodes == NULL)
        return false;
    for (uint32_t i = 1; i < t->node_count; i++)
        nodes[i - 1] = i;
    const size_t count = t->node_count - 1;
    if (count > 1)
        qsort_r(nodes, count, sizeof *nodes, compare_nodes, p);
    for (size_t i = 0; i < count; i++) {
        moda_node *const node = &t->nodes[nodes[i]];
        const bool is_first = i == 0 || t->nodes[nodes[i - 1]].parent != node->parent;
        if (is_first)
            t->nodes[node->parent].first_child = nodes[i];
        else
            t->nodes[nodes[i - 1]].next_sibling = nodes[i];
    }
    free(nodes);
    return true;
}

moda_tree *moda_tree_build(const moda_report *report, bool is_bottom_up, bool by_line,
                           const moda_value *values, size_t value_count, moda_error *error) {
    moda_tree *const tree = calloc(1, sizeof *tree);
    planter p = {.report = report, .tree = tree, .by_line = by_line};
    bool is_fine = tree != NULL;
    if (is_fine) {
        tree->value_count = value_count < MODA_VALUE_COUNT ? value_count : MODA_VALUE_COUNT;
        memcpy(tree->values, values, tree->value_count * sizeof *values);
        is_fine = grow_tree(&p);
    }
    if (is_fine)
        add_node(&p, 0, UINT32_MAX, UINT32_MAX);
    for (size_t i = 0; is_fine && i < report->stack_count; i++)
        is_fine = plant(&p, &report->stacks[i], is_bottom_up);
    is_fine = is_fine && link_children(&p);
    free(p.table);
    if (is_fine)
        return tree;
    moda_tree_free(tree);
    moda_error_set(error, "report: not enough memory");
    return NULL;
}

void moda_tree_free(moda_tree *tree) {
    if (tree == NULL)
        return;
    free(tree->nodes);
    free(tree->self);
    free(tree->total);
    free(tree);
}
