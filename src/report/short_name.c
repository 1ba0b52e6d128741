/* SPDX-License-Identifier: MIT
 *
 * short_name.c - a function's name in as many columns as there are. What a reader needs least goes first:
 *
 *   std::vector<int, std::allocator<int> >::_M_realloc_insert<int const&>(int*, int const&)
 *   1. the types of the arguments    ...::_M_realloc_insert<int const&>(...)
 *   2. those of the templates        std::vector<...>::_M_realloc_insert<...>(...)
 *   3. the middle                    std::vector<...>...alloc_insert<...>(...)
 *
 * C++ as libiberty demangles it, and Rust; any other text goes through step 3 alone. A group that does not end is left
 * as it is.
 */
#include "report/report.h"

#include <string.h>

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* What follows the word "operator": symbols that open and close nothing. */
static size_t operator_length(const char *at) {
    static const char *const symbols[] = {"()", "<=>", "<<=", ">>=", "->*", "<<",
                                          ">>", "<=",  ">=",  "->",  "<",   ">"};
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        if (begins(at, symbols[i]))
            return strlen(symbols[i]);
    return 0;
}

static char closing(char opening) {
    return opening == '(' ? ')' : opening == '<' ? '>' : opening == '{' ? '}' : opening == '[' ? ']' : 0;
}

/* The end of the group that begins here, behind its closing bracket; NULL if it has none. */
static const char *end_of_group(const char *at) {
    enum { DEEPEST = 64 };
    char open[DEEPEST];
    size_t depth = 0;
    for (; *at != 0; at++) {
        if (begins(at, "operator"))
            at += 8 + operator_length(at + 8);
        if (begins(at, "->")) {
            at++;
        } else if (closing(*at) != 0) {
            if (depth == DEEPEST)
                return NULL;
            open[depth++] = closing(*at);
        } else if (depth > 0 && *at == open[depth - 1]) {
            if (--depth == 0)
                return at + 1;
        }
        if (*at == 0)
            return NULL;
    }
    return NULL;
}

static bool is_worth_it(const char *group, size_t length) {
    static const char anonymous[] = "(anonymous namespace)";
    return length > strlen("(...)") && !begins(group, anonymous);
}

/* Copies the name with each outermost group of this kind made short; never longer than it was. */
static void make_short(const char *name, char opening, char *to) {
    while (*name != 0) {
        if (begins(name, "operator")) {
            const size_t length = 8 + operator_length(name + 8);
            memcpy(to, name, length);
            name += length;
            to += length;
            continue;
        }
        const char *const end = closing(*name) != 0 ? end_of_group(name) : NULL;
        const size_t length = end != NULL ? (size_t)(end - name) : 1;
        if (end != NULL && *name == opening && is_worth_it(name, length)) {
            *to++ = opening;
            memcpy(to, "...", 3);
            to += 3;
            *to++ = closing(opening);
        } else {
            memcpy(to, name, length);
            to += length;
        }
        name += length;
    }
    *to = 0;
}

static bool is_first_byte(char c) {
    return ((unsigned char)c & 0xc0) != 0x80;
}

size_t moda_columns(const char *text) {
    size_t n = 0;
    for (; *text != 0; text++)
        n += is_first_byte(*text);
    return n;
}

/* The text's byte at that column. */
static const char *at_column(const char *text, size_t column) {
    for (; *text != 0; text++)
        if (is_first_byte(*text) && column-- == 0)
            break;
    return text;
}

/* Two fifths from the front, the rest from the end: there the function's own name is. */
static void cut_middle(char *name, size_t room) {
    const size_t all = moda_columns(name);
    if (all <= room || room < 8)
        return;
    const size_t front = (room - 3) * 2 / 5, back = room - 3 - front;
    char *const gap = name + (at_column(name, front) - name);
    const char *const rest = at_column(name, all - back);
    memset(gap, '.', 3);
    memmove(gap + 3, rest, strlen(rest) + 1);
}

const char *moda_short_name(const char *name, size_t room, char *buffer, size_t size) {
    char other[MODA_SHORT_NAME_SIZE];
    const size_t length = strlen(name);
    if (moda_columns(name) <= room || length >= size || length >= sizeof other)
        return name;
    make_short(name, '(', buffer);
    if (moda_columns(buffer) <= room)
        return buffer;
    make_short(buffer, '<', other);
    memcpy(buffer, other, strlen(other) + 1);
    cut_middle(buffer, room);
    return buffer;
}
