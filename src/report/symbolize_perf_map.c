/* SPDX-License-Identifier: MIT
 *
 * symbolize_perf_map.c - names of run-time compiled code, which compilers write to /tmp/perf-PID.map.
 *
 * build.c asks, for addresses that lie in no module. A process's map is read once in the life of a symbolizer.
 *
 * Laws
 *   1. a map older than its process is not believed: another of the same number has left it.
 *   2. of a place that was compiled more than once the newest line counts.
 */
#include "report/symbolize_parts.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

typedef struct perf_symbol {
    uint64_t start, end, reach; /* reach: furthest end of this and all before */
    const char *name;
    size_t line;
} perf_symbol;

typedef struct moda_perf_map {
    struct moda_perf_map *next;
    uint32_t pid;
    uint64_t start_realtime_ns;
    perf_symbol *symbols;
    size_t count;
} perf_map;

static int by_perf_start(const void *a, const void *b) {
    const perf_symbol *const x = a, *const y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* "START SIZE name" a line, hexadecimal: the format of linux/tools/perf/Documentation/jit-interface.txt. */
static void load_perf_map(moda_symbolizer *s, perf_map *map) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tmp/perf-%" PRIu32 ".map", s->root != NULL ? s->root : "", map->pid);
    FILE *const file = fopen(path, "re");
    if (file == NULL)
        return;
    struct stat status;
    /* One that is older than the process was left by another of the same number. */
    const bool is_fresh = fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode)
                          && (uint64_t)status.st_mtim.tv_sec * 1000000000u + (uint64_t)status.st_mtim.tv_nsec
                                 >= map->start_realtime_ns;
    char *line = NULL;
    size_t room = 0;
    while (is_fresh && getline(&line, &room, file) > 0) {
        uint64_t start, size;
        int at = 0;
        if (sscanf(line, "%" SCNx64 " %" SCNx64 " %n", &start, &size, &at) < 2 || at == 0 || size == 0
            || start > UINT64_MAX - size)
            continue;
        line[strcspn(line, "\r\n")] = 0;
        if (line[at] == 0 || !moda_symbolize_grow((void **)&map->symbols, map->count, sizeof *map->symbols))
            continue;
        const char *const name = moda_arena_intern(s->arena, line + at);
        if (name == NULL)
            continue;
        map->symbols[map->count] =
            (perf_symbol){.start = start, .end = start + size, .name = name, .line = map->count};
        map->count++;
    }
    free(line);
    fclose(file);
    if (map->count > 1)
        qsort(map->symbols, map->count, sizeof *map->symbols, by_perf_start);
    uint64_t reach = 0;
    for (size_t i = 0; i < map->count; i++) {
        if (map->symbols[i].end > reach)
            reach = map->symbols[i].end;
        map->symbols[i].reach = reach;
    }
}

void moda_symbolize_free_perf_maps(moda_symbolizer *s) {
    for (perf_map *m = s->perf_maps; m != NULL;) {
        perf_map *const next = m->next;
        free(m->symbols);
        free(m);
        m = next;
    }
}

/* NULL: no memory. */
static const perf_map *perf_map_of(moda_symbolizer *s, const moda_profile_process *process) {
    perf_map *map = s->perf_maps;
    while (map != NULL && (map->pid != process->pid || map->start_realtime_ns != process->start_realtime_ns))
        map = map->next;
    if (map != NULL)
        return map;
    map = calloc(1, sizeof *map);
    if (map == NULL)
        return NULL;
    map->pid = process->pid;
    map->start_realtime_ns = process->start_realtime_ns;
    load_perf_map(s, map);
    map->next = s->perf_maps;
    s->perf_maps = map;
    return map;
}

const char *moda_symbolizer_perf_map_name(moda_symbolizer *s, const moda_profile_process *process,
                                          uint64_t address) {
    if (s->options.no_symbols || process->pid == 0)
        return NULL;
    const perf_map *const map = perf_map_of(s, process);
    if (map == NULL)
        return NULL;
    size_t low = 0, high = map->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (map->symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const perf_symbol *newest = NULL;
    for (size_t i = low, tries = 0; i-- > 0 && map->symbols[i].reach > address && tries < 4096; tries++)
        if (address < map->symbols[i].end && (newest == NULL || map->symbols[i].line > newest->line))
            newest = &map->symbols[i];
    return newest != NULL ? newest->name : NULL;
}
