/* SPDX-License-Identifier: MIT
 *
 * out.c - where writers put their bytes: a file, a descriptor or a buffer that grows.
 *
 * A file is written under a temporary name beside it and renamed at the end, so that a reader never sees half
 * a report. The first failure is kept; later writes do nothing.
 */
#include "report/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FLUSH_AT = 65536 };

static void fail(moda_out *out, int error_number) {
    if (!out->failed)
        out->error_number = error_number;
    out->failed = true;
}

void moda_out_to_buffer(moda_out *out) {
    *out = (moda_out){.fd = -1};
}

void moda_out_to_fd(moda_out *out, int fd, const char *name) {
    *out = (moda_out){.fd = fd, .path = name != NULL ? strdup(name) : NULL};
}

/* A device, a pipe or the like is written in place. */
static bool is_replaceable(const char *path) {
    struct stat status;
    return lstat(path, &status) != 0 || S_ISREG(status.st_mode);
}

bool moda_out_to_path(moda_out *out, const char *path, moda_error *error) {
    if (strcmp(path, "-") == 0) {
        moda_out_to_fd(out, STDOUT_FILENO, "standard output");
        return true;
    }
    *out = (moda_out){.fd = -1, .owns_fd = true, .path = strdup(path)};
    if (out->path != NULL && is_replaceable(path)) {
        const size_t room = strlen(path) + 24;
        out->temporary = malloc(room);
        if (out->temporary != NULL) {
            snprintf(out->temporary, room, "%s.%ld.tmp", path, (long)getpid());
            out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        }
    } else {
        out->fd = open(path, O_WRONLY | O_CLOEXEC);
    }
    if (out->fd >= 0)
        return true;
    const int error_number = errno;
    free(out->temporary);
    free(out->path);
    *out = (moda_out){.fd = -1};
    return moda_error_set(error, "%s: cannot be written: %s", path, strerror(error_number));
}

static void flush(moda_out *out) {
    size_t done = 0;
    while (!out->failed && done < out->length) {
        const ssize_t n = write(out->fd, out->buffer + done, out->length - done);
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            fail(out, errno);
    }
    out->length = 0;
}

static bool reserve(moda_out *out, size_t more) {
    if (more > SIZE_MAX / 2 - out->length - 1)
        return false;
    const size_t need = out->length + more + 1;
    if (need <= out->capacity)
        return true;
    size_t capacity = out->capacity < 4096 ? 4096 : out->capacity;
    while (capacity < need)
        capacity *= 2;
    char *const grown = realloc(out->buffer, capacity);
    if (grown == NULL)
        return false;
    out->buffer = grown;
    out->capacity = capacity;
    return true;
}

void moda_out_bytes(moda_out *out, const void *bytes, size_t length) {
    if (out->failed || length == 0)
        return;
    if (!reserve(out, length)) {
        fail(out, ENOMEM);
        return;
    }
    memcpy(out->buffer + out->length, bytes, length);
    out->length += length;
    out->buffer[out->length] = 0;
    out->written += length;
    if (out->fd >= 0 && out->length >= FLUSH_AT)
        flush(out);
}

void moda_out_text(moda_out *out, const char *text) {
    moda_out_bytes(out, text, strlen(text));
}

void moda_out_char(moda_out *out, char c) {
    moda_out_bytes(out, &c, 1);
}

void moda_out_format(moda_out *out, const char *format, ...) {
    char small[512];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof small) {
        char *const large = malloc((size_t)length + 1);
        if (large != NULL) {
            vsnprintf(large, (size_t)length + 1, format, again);
            moda_out_bytes(out, large, (size_t)length);
            free(large);
        } else {
            fail(out, ENOMEM);
        }
    } else if (length > 0) {
        moda_out_bytes(out, small, (size_t)length);
    }
    va_end(again);
}

/* Length of the UTF-8 sequence at `text`, 0 if there is none: no overlong forms, surrogates, or values above
 * U+10FFFF (RFC 3629). */
static size_t utf8_length(const unsigned char *text) {
    if (text[0] < 0x80)
        return 1;
    size_t length;
    unsigned char low = 0x80, high = 0xbf;
    if (text[0] >= 0xc2 && text[0] <= 0xdf)
        length = 2;
    else if (text[0] >= 0xe0 && text[0] <= 0xef)
        length = 3;
    else if (text[0] >= 0xf0 && text[0] <= 0xf4)
        length = 4;
    else
        return 0;
    if (text[0] == 0xe0)
        low = 0xa0;
    if (text[0] == 0xed)
        high = 0x9f;
    if (text[0] == 0xf0)
        low = 0x90;
    if (text[0] == 0xf4)
        high = 0x8f;
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (text[i] < 0x80 || text[i] > 0xbf)
            return 0;
    return length;
}

static void put_utf8(moda_out *out, const char *text, bool is_json) {
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *run = at; /* bytes not yet put that can go as they are */
    while (*at != 0) {
        const size_t length = utf8_length(at);
        const bool must_escape = is_json && (*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7f);
        if (length > 0 && !must_escape) {
            at += length;
            continue;
        }
        moda_out_bytes(out, run, (size_t)(at - run));
        if (length == 0)
            moda_out_text(out, "\xef\xbf\xbd");
        else if (*at == '"' || *at == '\\')
            moda_out_format(out, "\\%c", *at);
        else
            moda_out_format(out, "\\u%04x", *at);
        run = ++at;
    }
    moda_out_bytes(out, run, (size_t)(at - run));
}

void moda_out_utf8(moda_out *out, const char *text) {
    put_utf8(out, text, false);
}

void moda_out_json_string(moda_out *out, const char *text) {
    moda_out_char(out, '"');
    put_utf8(out, text, true);
    moda_out_char(out, '"');
}

bool moda_out_close(moda_out *out, moda_error *error) {
    if (out->fd >= 0)
        flush(out);
    if (out->owns_fd && out->fd >= 0 && close(out->fd) != 0)
        fail(out, errno);
    if (out->temporary != NULL) {
        if (!out->failed && rename(out->temporary, out->path) != 0)
            fail(out, errno);
        if (out->failed)
            unlink(out->temporary);
    }
    const bool is_done = !out->failed;
    if (!is_done)
        moda_error_set(error, "%s: cannot be written: %s", out->path != NULL ? out->path : "output",
                       strerror(out->error_number));
    const bool was_fd = out->fd >= 0 || out->temporary != NULL;
    free(out->temporary);
    free(out->path);
    out->temporary = out->path = NULL;
    if (was_fd) {
        free(out->buffer);
        out->buffer = NULL;
        out->length = out->capacity = 0;
    }
    out->fd = -1;
    return is_done;
}
