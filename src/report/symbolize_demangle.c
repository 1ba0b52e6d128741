/* SPDX-License-Identifier: MIT
 *
 * symbolize_demangle.c - the name for people of a linkage name, by libiberty.
 *
 * All symbolize_*.c that name functions call.
 *
 * Law
 *   a name is demangled once in the life of a symbolizer: found again by the pointer to its interned linkage name.
 */
#include "report/symbolize_parts.h"

#include <libiberty/demangle.h>
#include <string.h>

enum { LINKAGE_MAX = 4096 };

typedef struct moda_demangled {
    const char *linkage, *name;
} demangled;

static size_t hash_pointer(const void *pointer) {
    return (size_t)(((uint64_t)(uintptr_t)pointer >> 4) * 0x9e3779b97f4a7c15u >> 20);
}

static void grow_names(moda_symbolizer *s) {
    const size_t room = s->name_room == 0 ? 1024 : s->name_room * 2;
    demangled *const names = calloc(room, sizeof *names);
    if (names == NULL)
        return;
    for (size_t i = 0; i < s->name_room; i++) {
        if (s->names[i].linkage == NULL)
            continue;
        size_t at = hash_pointer(s->names[i].linkage) & (room - 1);
        while (names[at].linkage != NULL)
            at = (at + 1) & (room - 1);
        names[at] = s->names[i];
    }
    free(s->names);
    s->names = names;
    s->name_room = room;
}

/* libiberty refuses C++ names above 1024 bytes, which templates reach, since it takes 64 bytes of stack for each. Of
 * Rust's names the limit is one of depth, and stays. */
static int unlimited(const char *linkage) {
    return linkage[1] == 'Z' && strnlen(linkage, LINKAGE_MAX + 1) <= LINKAGE_MAX ? DMGL_NO_RECURSE_LIMIT : 0;
}

const char *moda_symbolize_demangle(moda_symbolizer *s, const char *linkage) {
    if (linkage[0] != '_')
        return linkage; /* _Z (C++, old Rust), _R (Rust) */
    if (s->name_count * 2 >= s->name_room)
        grow_names(s);
    size_t at = 0;
    if (s->name_room > 0) {
        at = hash_pointer(linkage) & (s->name_room - 1);
        for (; s->names[at].linkage != NULL; at = (at + 1) & (s->name_room - 1))
            if (s->names[at].linkage == linkage)
                return s->names[at].name;
    }
    const char *name = linkage;
    char *const text = cplus_demangle(linkage, DMGL_AUTO | DMGL_PARAMS | DMGL_ANSI | unlimited(linkage));
    if (text != NULL) {
        name = moda_arena_intern(s->arena, text);
        if (name == NULL)
            name = linkage;
        free(text);
    }
    if (s->name_count * 2 < s->name_room) {
        s->names[at] = (demangled){.linkage = linkage, .name = name};
        s->name_count++;
    }
    return name;
}
