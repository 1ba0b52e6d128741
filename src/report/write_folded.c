/* SPDX-License-Identifier: MIT
 *
 * write_folded.c - folded stacks: `outermost;...;innermost <value>`, a line a stack, for flamegraph.pl and the
 * tools that read its input (speedscope, inferno, Firefox Profiler).
 *
 * The format has no units and holds one value: the one that was chosen. Functions are all a line holds, so
 * stacks that differ in lines alone are one. ';' separates, and a line ends at its newline: in a name both are
 * replaced.
 */
#include "report/write_parts.h"

#include <stdlib.h>

/* Stacks without frames are not in the tree: their values are what the root has of its own. */
static void put_stand_ins(const moda_report *report, moda_value value, moda_out *out) {
    for (size_t i = 0; i < report->stack_count; i++) {
        const moda_stack *const stack = &report->stacks[i];
        if (stack->frame_count > 0 || stack->values.of[value] <= 0)
            continue;
        moda_out_text(out, moda_stack_stand_in(stack));
        moda_out_char(out, ' ');
        moda_out_int(out, stack->values.of[value]);
        moda_out_char(out, '\n');
    }
}

/* Names of the functions from the root down to `node`. Depth is at most MODA_FRAMES_MAX addresses with what
 * was inlined there, so the path is a list built on the way up. */
static bool put_path(const moda_report *report, const moda_tree *tree, uint32_t node, uint32_t *path,
                     moda_out *out) {
    uint32_t length = 0;
    for (uint32_t at = node; at != 0; at = tree->nodes[at].parent)
        path[length++] = at;
    while (length-- > 0) {
        const uint32_t function = tree->nodes[path[length]].function;
        if (function >= report->function_count)
            return false;
        moda_out_folded_name(out, report->functions[function].name);
        moda_out_char(out, length > 0 ? ';' : ' ');
    }
    return true;
}

static int write_folded(const moda_report *report, const moda_write_options *options, moda_out *out,
                        moda_error *error) {
    const moda_value value = options->value;
    moda_tree *const tree = moda_tree_build(report, false, false, &value, 1, error);
    if (tree == NULL)
        return -1;
    uint32_t deepest = 0;
    for (size_t i = 0; i < tree->node_count; i++)
        if (tree->nodes[i].depth > deepest)
            deepest = tree->nodes[i].depth;
    uint32_t *const path = calloc((size_t)deepest + 1, sizeof *path);
    bool is_done = path != NULL;
    if (!is_done)
        moda_error_set(error, "folded: out of memory");
    if (is_done)
        put_stand_ins(report, value, out);
    for (size_t i = 1; i < tree->node_count && is_done; i++) {
        if (tree->self[i] <= 0)
            continue;
        is_done = put_path(report, tree, (uint32_t)i, path, out)
                  || moda_error_set(error, "folded: a node of the call tree names no function");
        moda_out_int(out, tree->self[i]);
        moda_out_char(out, '\n');
    }
    free(path);
    moda_tree_free(tree);
    return is_done ? 0 : -1;
}

const moda_writer moda_writer_folded = {
    .name = "folded",
    .extension = "folded",
    .help = "folded stacks of one value, for flamegraph.pl and its like",
    .write = write_folded,
};
