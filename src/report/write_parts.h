/* SPDX-License-Identifier: MIT
 *
 * write_parts.h - what several writers share: a JSON emitter, the addresses of a stack, the names of stacks that
 * have no frames. Only write_*.c include it.
 */
#ifndef MODA_REPORT_WRITE_PARTS_H
#define MODA_REPORT_WRITE_PARTS_H

#include "report/report.h"

/* ---- JSON, in the order in which it is written: commas, keys, line ends ---- */

typedef struct moda_json {
    moda_out *out;
    unsigned depth;
    unsigned lines_to;   /* members down to this depth begin a line of their own */
    bool in_html;        /* '<' in a string is written as an escape, so that no </script> can appear */
    bool has_member[16]; /* by depth */
    char close[16];
} moda_json;

void moda_json_begin(moda_json *json, moda_out *out, unsigned lines_to,
                     bool in_html); /* the outermost object */
void moda_json_finish(moda_json *json);
/* `key` is NULL in arrays. */
void moda_json_object(moda_json *json, const char *key);
void moda_json_array(moda_json *json, const char *key);
void moda_json_end(moda_json *json);
void moda_json_string(moda_json *json, const char *key, const char *text); /* NULL: null */
void moda_json_int(moda_json *json, const char *key, int64_t number);
void moda_json_uint(moda_json *json, const char *key, uint64_t number);
void moda_json_real(moda_json *json, const char *key, double number); /* not finite: null */
void moda_json_bool(moda_json *json, const char *key, bool is_true);
void moda_json_null(moda_json *json, const char *key);

void moda_json_totals(moda_json *json, const mod_alloc_stats *totals); /* an object "totals" */

/* An object of all values under their keys, with standard errors where there are any; what is not known, by the mask of
 * values or by the value itself, is null. */
void moda_json_values(moda_json *json, const char *key, const moda_values *values, uint32_t known);
/* Members file, line and module of an object that stands for a frame. */
void moda_json_place(moda_json *json, const moda_report *report, const moda_frame *frame);

/* ---- csv (RFC 4180) and folded stacks ---- */

/* Quoted where it must be; line ends become spaces. NULL: an empty cell. */
void moda_out_csv_cell(moda_out *out, const char *text);
void moda_out_csv_text(moda_out *out, char *text, size_t length); /* valid UTF-8; `text` is changed */
/* A function's name without what separates stacks and lines. */
void moda_out_folded_name(moda_out *out, const char *name);

/* Decimal digits: a report of 50,000 sites is a million of them, and printf is most of the time then. */
void moda_out_int(moda_out *out, int64_t number);
void moda_out_uint(moda_out *out, uint64_t number);

/* JavaScript readers hold numbers exactly up to 2^53 - 1: beyond it, and below 0, the nearest such number. */
int64_t moda_javascript_int(int64_t number);

/* Slots of an open-addressing table for so many keys: a power of two, at least twice as many; all 0. NULL: no
 * memory. `mask` is their number less one. */
uint32_t *moda_slots_new(size_t keys, size_t *mask);

/* ---- stacks ---- */

/* What a stack without frames is called: the overflow site, or a stack all of whose frames were hidden. */
const char *moda_stack_stand_in(const moda_stack *stack);

/* The next address of a stack: its frames [*at, return value) are those of one location (a function and what
 * was inlined into it). `at` is a place in stack->frames; begin at 0, stop at frame_count. A function that calls
 * itself gives two equal locations in a row: they are told apart by the order of their frames. */
uint32_t moda_stack_location_end(const moda_report *report, const moda_stack *stack, uint32_t at);

/* Frames as a viewer shows them: by function, file and line. Ours differ in address, too, and the same line would
 * be many boxes side by side. */
typedef struct moda_shown_frames {
    uint32_t *number; /* of each report frame: its shown frame */
    uint32_t *first;  /* of each shown frame: the first report frame that is it */
    uint32_t count;
} moda_shown_frames;
bool moda_shown_frames_build(const moda_report *report, moda_shown_frames *frames); /* false: no memory */
void moda_shown_frames_free(moda_shown_frames *frames);

/* Path of a frame's module, "" where there is none. */
const char *moda_frame_module(const moda_report *report, const moda_frame *frame);

#endif
