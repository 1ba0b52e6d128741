/* SPDX-License-Identifier: MIT
 *
 * fatal.c - see fatal.h. One line through a sink on the stack, then abort.
 */
#include "base/fatal.h"

#include "base/sink.h"

#include <stdlib.h>
#include <unistd.h>

#define LINE_BYTES 512

static void begin(moda_sink *sink, char *line) {
    moda_sink_to_fd(sink, STDERR_FILENO, line, LINE_BYTES);
    moda_sink_text(sink, "mod-alloc: ");
}

static MODA_NORETURN void end(moda_sink *sink) {
    moda_sink_char(sink, '\n');
    moda_sink_flush(sink);
    abort();
}

static MODA_NORETURN void end_with_pointer(const char *function, const char *what, const void *pointer) {
    char line[LINE_BYTES];
    moda_sink sink;
    begin(&sink, line);
    moda_sink_text(&sink, function);
    moda_sink_text(&sink, "(): ");
    moda_sink_text(&sink, what);
    moda_sink_char(&sink, ' ');
    moda_sink_hex(&sink, (uint64_t)(uintptr_t)pointer);
    end(&sink);
}

void moda_fatal_invalid_pointer(const char *function, const void *pointer) {
    end_with_pointer(function, "not a block of this allocator:", pointer);
}

void moda_fatal_double_free(const char *function, const void *pointer) {
    end_with_pointer(function, "block is free already (double free):", pointer);
}

void moda_fatal_corrupted_header(const char *function, const void *pointer) {
    end_with_pointer(function, "the bytes before this block were overwritten:", pointer);
}

void moda_fatal_no_memory(const char *purpose, size_t bytes) {
    char line[LINE_BYTES];
    moda_sink sink;
    begin(&sink, line);
    moda_sink_text(&sink, "the system gave no memory for ");
    moda_sink_text(&sink, purpose);
    moda_sink_text(&sink, ", bytes: ");
    moda_sink_decimal(&sink, bytes);
    end(&sink);
}

void moda_fatal_new_failed(size_t bytes) {
    char line[LINE_BYTES];
    moda_sink sink;
    begin(&sink, line);
    moda_sink_text(&sink, "operator new found no memory, and there is no C++ library to throw"
                          " std::bad_alloc with; bytes: ");
    moda_sink_decimal(&sink, bytes);
    end(&sink);
}

void moda_fatal_check_failed(const char *law, const char *file, int line_number) {
    char line[LINE_BYTES];
    moda_sink sink;
    begin(&sink, line);
    moda_sink_text(&sink, file);
    moda_sink_char(&sink, ':');
    moda_sink_decimal(&sink, (uint64_t)line_number);
    moda_sink_text(&sink, ": this must hold: ");
    moda_sink_text(&sink, law);
    end(&sink);
}

void moda_fatal_lock_order(unsigned wanted, unsigned held) {
    char line[LINE_BYTES];
    moda_sink sink;
    begin(&sink, line);
    moda_sink_text(&sink, "lock order: lock ");
    moda_sink_decimal(&sink, wanted);
    moda_sink_text(&sink, " wanted while a lock at or above it is held; held (a bit each): ");
    moda_sink_hex(&sink, held);
    end(&sink);
}
