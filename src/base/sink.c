/* SPDX-License-Identifier: MIT
 *
 * sink.c - see sink.h.
 */
#include "base/sink.h"

#include "base/growing.h"

#include <string.h>

#define NUMBER_BYTES 24 /* 20 digits of 2^64, or 0x and 16 */

void moda_sink_to_fd(moda_sink *sink, int fd, char *buffer, size_t size) {
    *sink = (moda_sink){.buffer = buffer, .size = size, .fd = fd};
}

void moda_sink_to_buffer(moda_sink *sink, char *buffer, size_t size) {
    *sink = (moda_sink){.buffer = buffer, .size = size, .fd = -1};
}

/* By syscall: glibc's write is a cancellation point, and a thread that is cancelled inside malloc leaves it
 * half done. */
static bool write_all(int fd, const char *bytes, size_t count) {
    const int saved_errno = errno;
    bool is_done = true;
    while (count > 0 && is_done) {
        const long written = moda_call_growing(SYS_write, fd, (long)bytes, (long)count, 0);
        if (written > 0) {
            bytes += written;
            count -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            is_done = false;
        }
    }
    errno = saved_errno;
    return is_done;
}

bool moda_sink_flush(moda_sink *sink) {
    if (sink->fd >= 0 && sink->used > 0) {
        if (!write_all(sink->fd, sink->buffer, sink->used)) {
            sink->is_cut = true;
            sink->fd = -1;
        }
        sink->used = 0;
    }
    return !sink->is_cut;
}

const char *moda_sink_string(moda_sink *sink) {
    if (sink->size == 0) {
        return "";
    }
    if (sink->used == sink->size) {
        sink->used--;
        sink->is_cut = true;
    }
    sink->buffer[sink->used] = '\0';
    return sink->buffer;
}

void moda_sink_bytes(moda_sink *sink, const void *bytes, size_t count) {
    const char *from = bytes;
    while (count > 0) {
        const size_t room = sink->size - sink->used;
        const size_t part = count < room ? count : room;
        memcpy(sink->buffer + sink->used, from, part);
        sink->used += part;
        from += part;
        count -= part;
        if (count > 0) {
            if (sink->fd < 0 || sink->size == 0) {
                sink->is_cut = true;
                return;
            }
            moda_sink_flush(sink);
        }
    }
}

void moda_sink_text(moda_sink *sink, const char *text) {
    moda_sink_bytes(sink, text, strlen(text));
}

void moda_sink_char(moda_sink *sink, char c) {
    moda_sink_bytes(sink, &c, 1);
}

/* Writes the digits so that they end at `end`; returns where they begin. */
static char *digits_before(char *end, uint64_t value, unsigned base) {
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    return end;
}

void moda_sink_decimal(moda_sink *sink, uint64_t value) {
    char number[NUMBER_BYTES];
    char *const end = number + sizeof number;
    const char *const start = digits_before(end, value, 10);
    moda_sink_bytes(sink, start, (size_t)(end - start));
}

void moda_sink_signed(moda_sink *sink, int64_t value) {
    if (value < 0) {
        moda_sink_char(sink, '-');
        moda_sink_decimal(sink, 0 - (uint64_t)value);
    } else {
        moda_sink_decimal(sink, (uint64_t)value);
    }
}

void moda_sink_hex(moda_sink *sink, uint64_t value) {
    char number[NUMBER_BYTES];
    char *const end = number + sizeof number;
    const char *const start = digits_before(end, value, 16);
    moda_sink_text(sink, "0x");
    moda_sink_bytes(sink, start, (size_t)(end - start));
}

/* n * factor / 2^shift, to the nearest, of two as near the even one: as printf has it. */
static uint64_t scaled(uint64_t n, unsigned factor, unsigned shift) {
    const unsigned __int128 product = (unsigned __int128)n * factor;
    const unsigned __int128 twice_rest = (product << 1) & (((unsigned __int128)2 << shift) - 1);
    const uint64_t whole = (uint64_t)(product >> shift);
    const unsigned __int128 one = (unsigned __int128)1 << shift;
    return whole + (twice_rest > one || (twice_rest == one && whole % 2 != 0));
}

void moda_sink_size(moda_sink *sink, uint64_t bytes) {
    static const char *const unit[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned step = bytes >= 1024; /* from there on 100 times as many fit in 64 bits */
    while (step < 6 && scaled(bytes, 100, 10 * step) >= 102400) {
        step++;
    }
    unsigned factor = step == 0 ? 1 : 100; /* 10 to the power of the decimals: three digits in all */
    while (factor > 1 && scaled(bytes, factor, 10 * step) >= 1000) {
        factor /= 10;
    }
    const uint64_t shown = scaled(bytes, factor, 10 * step);
    moda_sink_decimal(sink, shown / factor);
    if (factor > 1) {
        moda_sink_char(sink, '.');
    }
    for (unsigned digit = factor / 10; digit != 0; digit /= 10) {
        moda_sink_decimal(sink, shown / digit % 10);
    }
    moda_sink_text(sink, unit[step]);
}

/* Length of the UTF-8 sequence at `text` (RFC 3629: no overlong forms, no surrogates), 0 if there is none. */
static size_t utf8_length(const unsigned char *text) {
    const unsigned char lead = text[0];
    if (lead < 0x80) {
        return 1;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) { /* stops at the NUL, which is no continuation */
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    const bool is_overlong = (lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90);
    const bool is_outside = (lead == 0xed && text[1] >= 0xa0) || (lead == 0xf4 && text[1] >= 0x90);
    return is_overlong || is_outside ? 0 : length;
}

static void put_json_escape(moda_sink *sink, unsigned char c) {
    static const char short_form[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof short_form; i += 2) {
        if ((unsigned char)short_form[i] == c) {
            const char escape[2] = {'\\', short_form[i + 1]};
            moda_sink_bytes(sink, escape, 2);
            return;
        }
    }
    const char escape[6] = {'\\', 'u', '0', '0', "0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15]};
    moda_sink_bytes(sink, escape, 6);
}

void moda_sink_json(moda_sink *sink, const char *text) {
    if (text == NULL) {
        moda_sink_text(sink, "null");
        return;
    }
    moda_sink_char(sink, '"');
    for (const unsigned char *at = (const unsigned char *)text; *at != 0;) {
        const size_t length = utf8_length(at);
        if (length == 0) {
            moda_sink_text(sink, "\\ufffd");
        } else if (*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7f) {
            put_json_escape(sink, *at);
        } else {
            moda_sink_bytes(sink, at, length);
        }
        at += length == 0 ? 1 : length;
    }
    moda_sink_char(sink, '"');
}

static void put_spaces(moda_sink *sink, size_t width, size_t taken) {
    for (; taken < width; taken++) {
        moda_sink_char(sink, ' ');
    }
}

void moda_sink_text_left(moda_sink *sink, const char *text, size_t width) {
    moda_sink_text(sink, text);
    put_spaces(sink, width, strlen(text));
}

void moda_sink_text_right(moda_sink *sink, const char *text, size_t width) {
    put_spaces(sink, width, strlen(text));
    moda_sink_text(sink, text);
}

void moda_sink_decimal_right(moda_sink *sink, uint64_t value, size_t width) {
    char number[NUMBER_BYTES];
    moda_sink text;
    moda_sink_to_buffer(&text, number, sizeof number);
    moda_sink_decimal(&text, value);
    moda_sink_text_right(sink, moda_sink_string(&text), width);
}

void moda_sink_size_right(moda_sink *sink, uint64_t bytes, size_t width) {
    char number[NUMBER_BYTES];
    moda_sink text;
    moda_sink_to_buffer(&text, number, sizeof number);
    moda_sink_size(&text, bytes);
    moda_sink_text_right(sink, moda_sink_string(&text), width);
}
