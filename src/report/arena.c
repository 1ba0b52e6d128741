/* SPDX-License-Identifier: MIT
 *
 * arena.c - memory that is freed all at once, with a table of interned strings.
 *
 * All of report/ uses it for what hangs from a profile or a report. One thread at a time. Memory is malloc's,
 * in chunks that double up to 1 MiB, since a profile of 100,000 sites makes millions of small records.
 */
#include "report/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(16) char bytes[];
} chunk;

struct moda_arena {
    chunk *newest;
    size_t chunk_size;
    /* interned strings: open addressing, a power of two, at most half full */
    const char **strings;
    uint32_t *hashes;
    size_t string_count, string_room;
};

moda_arena *moda_arena_new(void) {
    moda_arena *const arena = calloc(1, sizeof *arena);
    if (arena != NULL)
        arena->chunk_size = 16384;
    return arena;
}

static chunk *chunk_new(moda_arena *arena, size_t least) {
    const size_t size = least > arena->chunk_size ? least : arena->chunk_size;
    if (size > SIZE_MAX - sizeof(chunk))
        return NULL;
    chunk *const made = calloc(1, sizeof *made + size);
    if (made == NULL)
        return NULL;
    if (arena->chunk_size < 1u << 20)
        arena->chunk_size *= 2;
    made->size = size;
    /* A large record gets a chunk of its own behind the one that still has room. */
    if (arena->newest != NULL && least > arena->newest->size / 2 && least > 65536) {
        made->next = arena->newest->next;
        arena->newest->next = made;
    } else {
        made->next = arena->newest;
        arena->newest = made;
    }
    return made;
}

void *moda_arena_alloc(moda_arena *arena, size_t size) {
    if (size > SIZE_MAX - 16)
        return NULL;
    size = (size + 15) & ~(size_t)15;
    chunk *from = arena->newest;
    if (from == NULL || from->size - from->used < size)
        from = chunk_new(arena, size);
    if (from == NULL)
        return NULL;
    void *const memory = from->bytes + from->used;
    from->used += size;
    return memory;
}

char *moda_arena_copy(moda_arena *arena, const char *text, size_t length) {
    char *const copy = length < SIZE_MAX ? moda_arena_alloc(arena, length + 1) : NULL;
    if (copy != NULL && length > 0)
        memcpy(copy, text, length);
    return copy;
}

static uint32_t hash_text(const char *text) { /* FNV-1a */
    uint32_t hash = 2166136261u;
    for (; *text != 0; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

static bool strings_grow(moda_arena *arena) {
    const size_t room = arena->string_room == 0 ? 256 : arena->string_room * 2;
    const char **const strings = calloc(room, sizeof *strings);
    uint32_t *const hashes = calloc(room, sizeof *hashes);
    if (strings == NULL || hashes == NULL) {
        free(strings);
        free(hashes);
        return false;
    }
    for (size_t i = 0; i < arena->string_room; i++) {
        if (arena->strings[i] == NULL)
            continue;
        size_t at = arena->hashes[i] & (room - 1);
        while (strings[at] != NULL)
            at = (at + 1) & (room - 1);
        strings[at] = arena->strings[i];
        hashes[at] = arena->hashes[i];
    }
    free(arena->strings);
    free(arena->hashes);
    arena->strings = strings;
    arena->hashes = hashes;
    arena->string_room = room;
    return true;
}

const char *moda_arena_intern(moda_arena *arena, const char *text) {
    if (arena->string_count * 2 >= arena->string_room && !strings_grow(arena))
        return NULL;
    const uint32_t hash = hash_text(text);
    size_t at = hash & (arena->string_room - 1);
    for (; arena->strings[at] != NULL; at = (at + 1) & (arena->string_room - 1)) {
        if (arena->hashes[at] == hash && strcmp(arena->strings[at], text) == 0)
            return arena->strings[at];
    }
    const char *const copy = moda_arena_copy(arena, text, strlen(text));
    if (copy == NULL)
        return NULL;
    arena->strings[at] = copy;
    arena->hashes[at] = hash;
    arena->string_count++;
    return copy;
}

void moda_arena_free(moda_arena *arena) {
    if (arena == NULL)
        return;
    for (chunk *each = arena->newest; each != NULL;) {
        chunk *const next = each->next;
        free(each);
        each = next;
    }
    free(arena->strings);
    free(arena->hashes);
    free(arena);
}
