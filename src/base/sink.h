/* SPDX-License-Identifier: MIT
 *
 * sink.h - formatted bytes to a file descriptor or a buffer; no stdio, no malloc.
 *
 * For messages and the counters at exit (inside), and the command line's table of them. The buffer is the
 * caller's. A sink is one thread's; errno is kept; writing is no cancellation point.
 *
 * Laws
 *   1. what does not fit a buffer without fd is cut and `is_cut` set: never a byte behind its end;
 *   2. a write that fails sets `is_cut`; what follows is dropped.
 */
#ifndef MODA_BASE_SINK_H
#define MODA_BASE_SINK_H

#include "base/compiler.h"

typedef struct moda_sink {
    char *buffer;
    size_t size;
    size_t used;
    int fd; /* -1 = the buffer is all there is */
    bool is_cut;
} moda_sink;

void moda_sink_to_fd(moda_sink *sink, int fd, char *buffer, size_t size);
void moda_sink_to_buffer(moda_sink *sink, char *buffer, size_t size);

/* Hands to the fd what is in the buffer. True if nothing was ever lost. */
bool moda_sink_flush(moda_sink *sink);
/* The text in a buffer sink, NUL-terminated; the last byte is given up for it if the buffer is full. */
const char *moda_sink_string(moda_sink *sink);

void moda_sink_bytes(moda_sink *sink, const void *bytes, size_t count);
void moda_sink_text(moda_sink *sink, const char *text);
void moda_sink_char(moda_sink *sink, char c);
void moda_sink_decimal(moda_sink *sink, uint64_t value);
void moda_sink_signed(moda_sink *sink, int64_t value);
void moda_sink_hex(moda_sink *sink, uint64_t value); /* with 0x */
/* "0 B", "1023 B", "1.50 KiB", "12.3 MiB", "1023 GiB": three digits, rounded, in at most 8 characters, as the command
 * line has them (moda_human_bytes in report/values.c). */
void moda_sink_size(moda_sink *sink, uint64_t bytes);
/* A JSON string with its quotes; bytes that are no valid UTF-8 become U+FFFD. NULL becomes null. */
void moda_sink_json(moda_sink *sink, const char *text);

/* Columns: the text with spaces before (right) or behind (left), up to `width` characters. */
void moda_sink_text_left(moda_sink *sink, const char *text, size_t width);
void moda_sink_text_right(moda_sink *sink, const char *text, size_t width);
void moda_sink_decimal_right(moda_sink *sink, uint64_t value, size_t width);
void moda_sink_size_right(moda_sink *sink, uint64_t bytes, size_t width);

#endif
