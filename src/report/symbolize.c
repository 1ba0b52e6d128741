/* SPDX-License-Identifier: MIT
 *
 * symbolize.c - address -> function, what was inlined there, file and line.
 *
 * rollup.c asks for all addresses of an object at once. Objects are opened with elfutils' libdwfl, one Dwfl
 * each, so that addresses are those of the file; it finds separate debug files by build id and debuglink, and
 * asks debuginfod if the user has set DEBUGINFOD_URLS. libdwfl's own look-ups (dwfl_module_addrsym,
 * dwfl_module_addrdie without .debug_aranges) walk the whole table each time; so here
 *   - function symbols are sorted once,
 *   - each compilation unit's ranges are read once from its first DIE,
 *   - addresses are looked up in the order of units: a unit is opened once, its functions listed once, and
 *     inlined calls are searched with all addresses of a function at the same time.
 * libdw keeps what it has read of a unit until its handle is closed: after some units the handle is opened
 * anew, which bounds memory.
 *
 * Laws
 *   1. a name is given only if the address lies inside the symbol's or DIE's extent, and the file's build id is
 *      the recorded one (where one was recorded).
 *   2. a result is kept: an address is looked up once in the life of a symbolizer.
 */
#include "report/symbolize.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libiberty/demangle.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Debug information read before the handle is opened anew. */
static const uint64_t reopen_after_bytes = (uint64_t)96 << 20;
enum { INLINE_DEPTH_MAX = 128, SCOPE_DEPTH_MAX = 256, LINKAGE_MAX = 4096 };

typedef struct text_symbol {
    uint64_t start, end; /* end: exclusive; furthest of this and all before is in `reach` */
    uint64_t reach;
    const char *name;
    uint32_t rank; /* of several at one place: the greatest */
} text_symbol;

typedef struct unit_range {
    uint64_t start, end, reach;
    uint32_t unit;
} unit_range;

typedef struct unit {
    Dwarf_Off die_offset; /* of its first DIE */
    uint64_t size;
} unit;

typedef struct result {
    uint64_t address; /* + 1: 0 is an empty place */
    const moda_symbol *symbols;
    uint32_t count;
} result;

typedef struct object {
    struct object *next;
    const char *path; /* as recorded */
    uint8_t build_id[32];
    uint32_t build_id_length;
    bool is_opened, is_usable;
    int fd; /* of the vDSO's copy, or -1 */
    char *file;
    Dwfl *dwfl;
    Dwfl_Module *module;
    Dwarf *dwarf;
    Dwarf_Addr dwarf_bias;
    uint64_t bytes_read; /* of debug information, with this handle */
    moda_object_facts facts;

    text_symbol *symbols;
    size_t symbol_count;
    unit *units;
    size_t unit_count;
    unit_range *ranges;
    size_t range_count;
    bool is_indexed;

    result *results; /* open addressing */
    size_t result_count, result_room;
} object;

typedef struct demangled {
    const char *linkage, *name;
} demangled;

typedef struct perf_symbol {
    uint64_t start, end, reach; /* reach: furthest end of this and all before */
    const char *name;
    size_t line;
} perf_symbol;

typedef struct perf_map {
    struct perf_map *next;
    uint32_t pid;
    uint64_t start_realtime_ns;
    perf_symbol *symbols;
    size_t count;
} perf_map;

struct moda_symbolizer {
    moda_symbolizer_options options;
    char *debug_path;
    char *root;
    Dwfl_Callbacks callbacks;
    moda_arena *arena;
    object *objects;
    perf_map *perf_maps;
    demangled *names; /* open addressing by the linkage name's pointer */
    size_t name_count, name_room;
};

static const moda_symbol nothing = {.function = NULL};

/* ---- the symbolizer ---- */

moda_symbolizer *moda_symbolizer_new(const moda_symbolizer_options *options, moda_error *error) {
    moda_symbolizer *const s = calloc(1, sizeof *s);
    if (s != NULL)
        s->arena = moda_arena_new();
    if (s == NULL || s->arena == NULL) {
        free(s);
        moda_error_set(error, "symbols: not enough memory");
        return NULL;
    }
    if (options != NULL)
        s->options = *options;
    if (s->options.debug_path != NULL)
        s->debug_path = strdup(s->options.debug_path);
    if (s->options.root != NULL)
        s->root = strdup(s->options.root);
    s->callbacks = (Dwfl_Callbacks){
        .find_elf = dwfl_build_id_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
        .debuginfo_path = s->debug_path != NULL ? &s->debug_path : NULL,
    };
    return s;
}

static void close_handle(object *o) {
    if (o->dwfl != NULL)
        dwfl_end(o->dwfl);
    o->dwfl = NULL;
    o->module = NULL;
    o->dwarf = NULL;
    o->bytes_read = 0;
}

void moda_symbolizer_free(moda_symbolizer *s) {
    if (s == NULL)
        return;
    for (object *o = s->objects; o != NULL;) {
        object *const next = o->next;
        close_handle(o);
        if (o->fd >= 0)
            close(o->fd);
        free(o->file);
        free(o->symbols);
        free(o->units);
        free(o->ranges);
        free(o->results);
        free(o);
        o = next;
    }
    for (perf_map *m = s->perf_maps; m != NULL;) {
        perf_map *const next = m->next;
        free(m->symbols);
        free(m);
        m = next;
    }
    moda_arena_free(s->arena);
    free(s->names);
    free(s->debug_path);
    free(s->root);
    free(s);
}

/* ---- names ---- */

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

/* The name for people; `linkage` is interned. */
static const char *demangle(moda_symbolizer *s, const char *linkage) {
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

/* ---- opening ---- */

/* The file holds the recorded object, as far as can be told. */
static bool has_build_id(const object *o, Dwfl_Module *module) {
    if (o->build_id_length == 0)
        return true;
    const unsigned char *bits;
    GElf_Addr address;
    const int length = dwfl_module_build_id(module, &bits, &address);
    return length == (int)o->build_id_length && memcmp(bits, o->build_id, o->build_id_length) == 0;
}

static bool open_as(moda_symbolizer *s, object *o, const char *file, int fd) {
    o->dwfl = dwfl_begin(&s->callbacks);
    if (o->dwfl == NULL)
        return false;
    /* libdwfl takes the descriptor over. */
    const int own = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (own >= 0 && fstat(own, &status) == 0 && S_ISREG(status.st_mode))
        o->module = dwfl_report_elf(o->dwfl, file, file, own, 0, true);
    if (o->module == NULL && own >= 0)
        close(own);
    dwfl_report_end(o->dwfl, NULL, NULL);
    GElf_Addr bias = 0;
    if (o->module != NULL && dwfl_module_getelf(o->module, &bias) != NULL && bias == 0
        && has_build_id(o, o->module)) {
        o->facts.is_changed = o->facts.is_missing = false;
        return true;
    }
    close_handle(o);
    return false;
}

/* The kernel's object has no file: this process's copy, if it has the same build id. */
static int copy_vdso(void) {
    const uint8_t *const image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR); /* NOLINT */
    if (image == NULL)
        return -1;
    const ElfW(Ehdr) *const header = (const ElfW(Ehdr) *)(const void *)image;
    const size_t size = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    const int fd = memfd_create("vdso", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (write(fd, image, size) == (ssize_t)size)
        return fd;
    close(fd);
    return -1;
}

static char *join(const char *a, const char *b) {
    const size_t room = strlen(a) + strlen(b) + 1;
    char *const joined = malloc(room);
    if (joined != NULL)
        snprintf(joined, room, "%s%s", a, b);
    return joined;
}

/* The debug file that distributions install under the build id; it has all symbols. */
static char *build_id_file(const moda_symbolizer *s, const object *o) {
    if (o->build_id_length < 2)
        return NULL;
    char hex[65];
    for (uint32_t i = 0; i < o->build_id_length; i++)
        snprintf(hex + 2 * i, 3, "%02x", o->build_id[i]);
    char path[256];
    snprintf(path, sizeof path, "/usr/lib/debug/.build-id/%.2s/%s.debug", hex, hex + 2);
    return join(s->root != NULL ? s->root : "", path);
}

static bool open_object(moda_symbolizer *s, object *o) {
    if (o->file != NULL || o->fd >= 0)
        return open_as(s, o, o->file != NULL ? o->file : "[vdso]", o->fd);
    if (strcmp(o->path, "[vdso]") == 0) {
        o->fd = copy_vdso();
        return o->fd >= 0 && open_as(s, o, "[vdso]", o->fd);
    }
    if (o->path[0] != '/')
        return false;
    o->file = join(s->root != NULL ? s->root : "", o->path);
    if (o->file != NULL && open_as(s, o, o->file, -1))
        return true;
    o->facts.is_missing = o->file != NULL && access(o->file, F_OK) != 0;
    o->facts.is_changed = !o->facts.is_missing && o->build_id_length > 0;
    free(o->file);
    o->file = build_id_file(s, o);
    if (o->file != NULL && open_as(s, o, o->file, -1))
        return true;
    free(o->file);
    o->file = NULL;
    return false;
}

static object *object_for(moda_symbolizer *s, const moda_profile_module *module) {
    for (object *o = s->objects; o != NULL; o = o->next) {
        if (strcmp(o->path, module->path) == 0 && o->build_id_length == module->build_id_length
            && memcmp(o->build_id, module->build_id, o->build_id_length) == 0)
            return o;
    }
    object *const o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->fd = -1;
    o->path = moda_arena_intern(s->arena, module->path);
    if (o->path == NULL) {
        free(o);
        return NULL;
    }
    o->build_id_length = module->build_id_length;
    memcpy(o->build_id, module->build_id, sizeof o->build_id);
    o->next = s->objects;
    s->objects = o;
    return o;
}

/* ---- function symbols ---- */

static bool has_full_table(Elf *elf) {
    if (elf == NULL)
        return false;
    Elf_Scn *section = NULL;
    GElf_Shdr header;
    while ((section = elf_nextscn(elf, section)) != NULL)
        if (gelf_getshdr(section, &header) != NULL && header.sh_type == SHT_SYMTAB)
            return true;
    return false;
}

static int by_start(const void *a, const void *b) {
    const text_symbol *const x = a, *const y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return strcmp(x->name, y->name);
}

static uint32_t rank_of(const GElf_Sym *symbol, const char *name) {
    const unsigned binding = GELF_ST_BIND(symbol->st_info);
    uint32_t rank = binding == STB_GLOBAL ? 30 : binding == STB_WEAK ? 20 : 10;
    if (symbol->st_size > 0)
        rank += 100;
    if (GELF_ST_TYPE(symbol->st_info) != STT_NOTYPE)
        rank += 50;
    if (name[0] == '_')
        rank -= 5; /* of two names for one place people know the other */
    return rank;
}

static void load_symbols(moda_symbolizer *s, object *o) {
    const int count = dwfl_module_getsymtab(o->module);
    if (count <= 0)
        return;
    GElf_Addr bias;
    Dwarf_Addr dwarf_bias;
    Dwarf *const dwarf = s->options.no_lines ? NULL : dwfl_module_getdwarf(o->module, &dwarf_bias);
    /* A table of exported symbols alone has holes where static functions are: there a symbol without a size
     * says nothing about what follows it. */
    const bool is_full = has_full_table(dwfl_module_getelf(o->module, &bias))
                         || (dwarf != NULL && has_full_table(dwarf_getelf(dwarf)));
    o->symbols = calloc((size_t)count, sizeof *o->symbols);
    if (o->symbols == NULL)
        return;
    for (int i = 1; i < count; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        GElf_Word section;
        const char *const name =
            dwfl_module_getsym_info(o->module, i, &symbol, &address, &section, NULL, NULL);
        if (name == NULL || name[0] == 0 || section == SHN_UNDEF || section == SHN_ABS)
            continue;
        const unsigned type = GELF_ST_TYPE(symbol.st_info);
        const bool is_label = type == STT_NOTYPE && name[0] != '$' && name[0] != '.';
        if (type != STT_FUNC && type != STT_GNU_IFUNC && !is_label)
            continue;
        if (symbol.st_size == 0 && !is_full)
            continue;
        o->symbols[o->symbol_count++] = (text_symbol){
            .start = address,
            .end = address + symbol.st_size,
            .name = moda_arena_intern(s->arena, name),
            .rank = rank_of(&symbol, name),
        };
        if (o->symbols[o->symbol_count - 1].name == NULL)
            o->symbol_count--;
    }
    if (o->symbol_count > 1)
        qsort(o->symbols, o->symbol_count, sizeof *o->symbols, by_start);
    uint64_t next_start = UINT64_MAX;
    for (size_t i = o->symbol_count; i-- > 0;) { /* without a size: up to the next symbol, within reason */
        text_symbol *const t = &o->symbols[i];
        if (i + 1 < o->symbol_count && o->symbols[i + 1].start > t->start)
            next_start = o->symbols[i + 1].start;
        if (t->end == t->start && next_start != UINT64_MAX && next_start - t->start < 65536)
            t->end = next_start;
    }
    uint64_t reach = 0;
    for (size_t i = 0; i < o->symbol_count; i++) {
        if (o->symbols[i].end > reach)
            reach = o->symbols[i].end;
        o->symbols[i].reach = reach;
    }
    o->facts.has_symbols = o->symbol_count > 0;
}

static const text_symbol *find_symbol(const object *o, uint64_t address) {
    size_t low = 0, high = o->symbol_count; /* low: how many start at or before the address */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (o->symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    /* Innermost extent first: those that start last; the list is sorted so that the best of equals is last. */
    for (size_t i = low; i-- > 0 && o->symbols[i].reach > address;)
        if (address < o->symbols[i].end)
            return &o->symbols[i];
    return NULL;
}

/* ---- units ---- */

static int by_range_start(const void *a, const void *b) {
    const unit_range *const x = a, *const y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static bool grow(void **array, size_t count, size_t size) {
    if ((count & (count - 1)) != 0 || (count != 0 && count < 64))
        return true; /* room is a power of two */
    const size_t room = count == 0 ? 64 : count * 2;
    void *const grown = realloc(*array, room * size);
    if (grown == NULL)
        return false;
    *array = grown;
    return true;
}

static bool add_range(object *o, uint64_t start, uint64_t end, uint32_t which) {
    if (start >= end || start + o->dwarf_bias == 0)
        return true; /* functions the linker has dropped begin at 0 */
    if (!grow((void **)&o->ranges, o->range_count, sizeof *o->ranges))
        return false;
    o->ranges[o->range_count++] =
        (unit_range){.start = start + o->dwarf_bias, .end = end + o->dwarf_bias, .unit = which};
    return true;
}

/* A unit that does not say where its code is: its functions do. */
static void add_ranges_of_functions(object *o, Dwarf_Die *parent, uint32_t which, int depth) {
    Dwarf_Die die;
    if (depth > 8 || dwarf_child(parent, &die) != 0)
        return;
    do {
        const int tag = dwarf_tag(&die);
        if (tag == DW_TAG_namespace || tag == DW_TAG_module)
            add_ranges_of_functions(o, &die, which, depth + 1);
        if (tag != DW_TAG_subprogram)
            continue;
        Dwarf_Addr base, start, end;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0;)
            if (!add_range(o, start, end, which))
                return;
    } while (dwarf_siblingof(&die, &die) == 0);
}

static bool open_dwarf(object *o) {
    if (o->dwarf != NULL)
        return true;
    o->dwarf = dwfl_module_getdwarf(o->module, &o->dwarf_bias);
    return o->dwarf != NULL;
}

static void index_units(object *o) {
    o->is_indexed = true;
    if (!open_dwarf(o))
        return;
    Dwarf_CU *cu = NULL;
    Dwarf_Die die, split;
    uint8_t type;
    Dwarf_Off last = 0;
    while (dwarf_get_units(o->dwarf, cu, &cu, NULL, &type, &die, &split) == 0) {
        const Dwarf_Off offset = dwarf_dieoffset(&die);
        if (o->unit_count > 0)
            o->units[o->unit_count - 1].size = offset - last;
        last = offset;
        if (type != DW_UT_compile && type != DW_UT_skeleton)
            continue;
        if (!grow((void **)&o->units, o->unit_count, sizeof *o->units))
            return;
        const uint32_t which = (uint32_t)o->unit_count++;
        o->units[which] = (unit){.die_offset = offset};
        Dwarf_Addr base, start, end;
        const size_t before = o->range_count;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0;)
            if (!add_range(o, start, end, which))
                return;
        if (o->range_count == before && !dwarf_hasattr(&die, DW_AT_ranges)
            && !dwarf_hasattr(&die, DW_AT_low_pc))
            add_ranges_of_functions(o, &die, which, 0);
    }
    if (o->range_count > 1)
        qsort(o->ranges, o->range_count, sizeof *o->ranges, by_range_start);
    uint64_t reach = 0;
    for (size_t i = 0; i < o->range_count; i++) {
        if (o->ranges[i].end > reach)
            reach = o->ranges[i].end;
        o->ranges[i].reach = reach;
    }
    o->facts.has_lines = o->range_count > 0;
}

static uint32_t find_unit(const object *o, uint64_t address) {
    size_t low = 0, high = o->range_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (o->ranges[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i-- > 0 && o->ranges[i].reach > address;)
        if (address < o->ranges[i].end)
            return o->ranges[i].unit;
    return UINT32_MAX;
}

/* ---- one unit ---- */

/* A function, or a call of one that was inlined. */
typedef struct scope {
    struct scope *outer;
    Dwarf_Die die;
    uint32_t depth; /* how many are around it */
} scope;

typedef struct pending {
    uint64_t address; /* in the unit's terms: without bias */
    moda_lookup *lookup;
    uint32_t unit;
    scope *innermost;
} pending;

typedef struct unit_view {
    moda_symbolizer *symbolizer;
    object *object;
    Dwarf_Die die; /* of the unit; of its split half, where it has one */
    Dwarf_Die line_die;
    Dwarf_Files *files;
    size_t file_count;
    moda_arena *scopes; /* for as long as the unit is looked at */
} unit_view;

/* The addresses in [start, end) of a sorted slice. */
static void narrow(const pending *all, size_t low, size_t high, uint64_t start, uint64_t end, size_t *from,
                   size_t *to) {
    size_t a = low, b = high;
    while (a < b) {
        const size_t middle = a + (b - a) / 2;
        if (all[middle].address < start)
            a = middle + 1;
        else
            b = middle;
    }
    *from = a;
    b = high;
    while (a < b) {
        const size_t middle = a + (b - a) / 2;
        if (all[middle].address < end)
            a = middle + 1;
        else
            b = middle;
    }
    *to = a;
}

static scope *scope_new(unit_view *view, const Dwarf_Die *die, scope *outer) {
    scope *const made = moda_arena_alloc(view->scopes, sizeof *made);
    if (made != NULL)
        *made = (scope){.outer = outer, .die = *die, .depth = outer != NULL ? outer->depth + 1 : 0};
    return made;
}

/* Finds what was inlined at the addresses [low, high), all of which lie in `parent`. */
__attribute__((nonnull)) static void find_inlined(unit_view *view, Dwarf_Die *parent, scope *around,
                                                  pending *all, size_t low, size_t high, int depth) {
    Dwarf_Die die;
    if (depth > SCOPE_DEPTH_MAX || dwarf_child(parent, &die) != 0)
        return;
    do {
        const int tag = dwarf_tag(&die);
        const bool is_inlined = tag == DW_TAG_inlined_subroutine;
        if (!is_inlined && tag != DW_TAG_lexical_block && tag != DW_TAG_try_block
            && tag != DW_TAG_catch_block)
            continue;
        scope *inside = is_inlined ? NULL : around;
        bool has_code = false;
        Dwarf_Addr base, start, end;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(&die, at, &base, &start, &end)) > 0;) {
            has_code = true;
            size_t from, to;
            narrow(all, low, high, start, end, &from, &to);
            if (from == to)
                continue;
            if (inside == NULL)
                inside = around->depth < INLINE_DEPTH_MAX ? scope_new(view, &die, around) : around;
            if (inside == NULL)
                return;
            for (size_t i = from; i < to; i++)
                all[i].innermost = inside;
            find_inlined(view, &die, inside, all, from, to, depth + 1);
        }
        if (!has_code && !is_inlined)
            find_inlined(view, &die, around, all, low, high, depth + 1);
    } while (dwarf_siblingof(&die, &die) == 0);
}

/* If the DIE of a function has code at some of the addresses, they get it as their outermost scope. */
static void place_function(unit_view *view, Dwarf_Die *die, pending *all, size_t count) {
    Dwarf_Addr base, start, end;
    scope *function = NULL;
    for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &start, &end)) > 0;) {
        size_t from, to;
        narrow(all, 0, count, start, end, &from, &to);
        if (from == to)
            continue;
        if (function == NULL)
            function = scope_new(view, die, NULL);
        if (function == NULL)
            return;
        for (size_t i = from; i < to; i++)
            all[i].innermost = function;
        if (!view->symbolizer->options.no_inlines)
            find_inlined(view, die, function, all, from, to, 0);
    }
}

/* Finds the functions in which the addresses lie; those inside of other functions (members of local types, as
 * lambdas are) only if asked to, since it takes a walk through all of the unit. */
static void find_functions(unit_view *view, Dwarf_Die *parent, pending *all, size_t count, bool is_thorough,
                           int depth) {
    Dwarf_Die die;
    if (depth > SCOPE_DEPTH_MAX || dwarf_child(parent, &die) != 0)
        return;
    do {
        bool is_parent = false;
        switch (dwarf_tag(&die)) {
        case DW_TAG_subprogram:
            place_function(view, &die, all, count);
            is_parent = is_thorough;
            break;
        case DW_TAG_namespace:
        case DW_TAG_module: is_parent = true; break;
        case DW_TAG_lexical_block:
        case DW_TAG_structure_type:
        case DW_TAG_class_type:
        case DW_TAG_union_type: is_parent = is_thorough; break;
        default: break;
        }
        if (is_parent)
            find_functions(view, &die, all, count, is_thorough, depth + 1);
    } while (dwarf_siblingof(&die, &die) == 0);
}

/* Looks again, more thoroughly, for the addresses that have no function though the symbol table knows one. */
static void find_missed_functions(unit_view *view, pending *all, size_t count) {
    pending *rest = NULL;
    size_t missed = 0;
    for (size_t i = 0; i < count; i++) {
        if (all[i].innermost != NULL
            || find_symbol(view->object, all[i].address + view->object->dwarf_bias) == NULL)
            continue;
        if (rest == NULL)
            rest = moda_arena_alloc(view->scopes, (count - i) * sizeof *rest);
        if (rest == NULL)
            return;
        rest[missed++] = all[i];
    }
    if (missed == 0)
        return;
    find_functions(view, &view->die, rest, missed, true, 0);
    for (size_t i = 0, k = 0; i < count && k < missed; i++)
        if (all[i].lookup == rest[k].lookup)
            all[i].innermost = rest[k++].innermost;
}

static const char *attribute_string(Dwarf_Die *die, unsigned name) {
    Dwarf_Attribute attribute;
    return dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
}

static uint32_t attribute_number(Dwarf_Die *die, unsigned name, bool is_integrated) {
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    Dwarf_Attribute *const found =
        is_integrated ? dwarf_attr_integrate(die, name, &attribute) : dwarf_attr(die, name, &attribute);
    return dwarf_formudata(found, &value) == 0 && value <= UINT32_MAX ? (uint32_t)value : 0;
}

static void name_function(unit_view *view, Dwarf_Die *die, moda_symbol *symbol) {
    moda_symbolizer *const s = view->symbolizer;
    const char *linkage = attribute_string(die, DW_AT_linkage_name);
    if (linkage == NULL)
        linkage = attribute_string(die, DW_AT_MIPS_linkage_name);
    const char *const name = linkage != NULL ? linkage : attribute_string(die, DW_AT_name);
    if (name == NULL)
        return;
    symbol->linkage_name = moda_arena_intern(s->arena, name);
    if (symbol->linkage_name == NULL)
        return;
    symbol->function = linkage != NULL ? demangle(s, symbol->linkage_name) : symbol->linkage_name;
    symbol->function_line = attribute_number(die, DW_AT_decl_line, true);
}

static void name_line(unit_view *view, uint64_t address, moda_symbol *symbol) {
    Dwarf_Line *const line = dwarf_getsrc_die(&view->line_die, address);
    if (line == NULL)
        return;
    int number = 0, column = 0;
    const char *const file = dwarf_linesrc(line, NULL, NULL);
    if (file == NULL || dwarf_lineno(line, &number) != 0)
        return;
    dwarf_linecol(line, &column);
    symbol->file = moda_arena_intern(view->symbolizer->arena, file);
    symbol->line = number > 0 ? (uint32_t)number : 0;
    symbol->column = column > 0 ? (uint32_t)column : 0;
}

/* Where the function outside of an inlined one calls it. */
static void name_call(unit_view *view, Dwarf_Die *inlined, moda_symbol *caller) {
    const uint32_t file = attribute_number(inlined, DW_AT_call_file, false);
    if (file < view->file_count) {
        const char *const path = dwarf_filesrc(view->files, file, NULL, NULL);
        if (path != NULL && strcmp(path, "???") != 0)
            caller->file = moda_arena_intern(view->symbolizer->arena, path);
    }
    caller->line = attribute_number(inlined, DW_AT_call_line, false);
    caller->column = attribute_number(inlined, DW_AT_call_column, false);
}

static void name_by_symbol(moda_symbolizer *s, const object *o, uint64_t address, moda_symbol *symbol) {
    const text_symbol *const found = find_symbol(o, address);
    if (found == NULL)
        return;
    symbol->linkage_name = found->name;
    symbol->function = demangle(s, found->name);
}

/* gcc leaves the linkage name out for templates over local types; then DW_AT_name has no namespace. The symbol at
 * the function's place has it, and is taken if it is a mangled form of the same name. */
static void complete_name(moda_symbolizer *s, const object *o, uint64_t address, moda_symbol *symbol) {
    const char *const name = symbol->function;
    if (name == NULL || symbol->linkage_name != name)
        return;
    const text_symbol *const found = find_symbol(o, address);
    if (found == NULL || (strncmp(found->name, "_Z", 2) != 0 && strncmp(found->name, "_R", 2) != 0))
        return;
    const size_t length = strcspn(name, "<( ");
    if (length == 0 || memmem(found->name, strlen(found->name), name, length) == NULL)
        return;
    symbol->linkage_name = found->name;
    symbol->function = demangle(s, found->name);
}

/* Writes down what was found for one address. */
static void conclude(unit_view *view, pending *p) {
    moda_symbolizer *const s = view->symbolizer;
    const uint32_t count = p->innermost != NULL ? p->innermost->depth + 1 : 1;
    moda_symbol *const symbols = moda_arena_alloc(s->arena, count * sizeof *symbols);
    if (symbols == NULL)
        return;
    name_line(view, p->address, &symbols[0]);
    uint32_t at = 0;
    for (scope *each = p->innermost; each != NULL; each = each->outer, at++) {
        name_function(view, &each->die, &symbols[at]);
        symbols[at].inline_depth = each->depth;
        if (each->outer != NULL)
            name_call(view, &each->die, &symbols[at + 1]);
    }
    const uint64_t address = p->address + view->object->dwarf_bias;
    if (symbols[count - 1].function == NULL)
        name_by_symbol(s, view->object, address, &symbols[count - 1]);
    else
        complete_name(s, view->object, address, &symbols[count - 1]);
    if (count > 1)
        view->object->facts.has_inlines = true;
    p->lookup->symbols = symbols;
    p->lookup->symbol_count = count;
}

static void look_up_in_unit(moda_symbolizer *s, object *o, pending *all, size_t count) {
    unit_view view = {.symbolizer = s, .object = o, .scopes = moda_arena_new()};
    const unit *const u = &o->units[all[0].unit];
    if (view.scopes != NULL && dwarf_offdie(o->dwarf, u->die_offset, &view.line_die) != NULL) {
        view.die = view.line_die;
        Dwarf_Die die, split;
        if (dwarf_cu_info(view.line_die.cu, NULL, NULL, &die, &split, NULL, NULL, NULL) == 0
            && dwarf_tag(&split) != DW_TAG_invalid)
            view.die = split;
        if (dwarf_getsrcfiles(&view.line_die, &view.files, &view.file_count) != 0)
            view.file_count = 0;
        find_functions(&view, &view.die, all, count, false, 0);
        find_missed_functions(&view, all, count);
        for (size_t i = 0; i < count; i++)
            conclude(&view, &all[i]);
        o->bytes_read += u->size;
    }
    moda_arena_free(view.scopes);
}

/* ---- all addresses of an object ---- */

static size_t place_of(const object *o, uint64_t address) {
    size_t at = (size_t)((address + 1) * 0x9e3779b97f4a7c15u >> 24) & (o->result_room - 1);
    while (o->results[at].address != 0 && o->results[at].address != address + 1)
        at = (at + 1) & (o->result_room - 1);
    return at;
}

static const result *known(const object *o, uint64_t address) {
    if (o->result_room == 0)
        return NULL;
    const result *const found = &o->results[place_of(o, address)];
    return found->address != 0 ? found : NULL;
}

static void remember(object *o, const moda_lookup *lookup) {
    if (o->result_count * 2 >= o->result_room) {
        const size_t room = o->result_room == 0 ? 256 : o->result_room * 2;
        result *const old = o->results, *const fresh = calloc(room, sizeof *fresh);
        if (fresh == NULL)
            return;
        const size_t old_room = o->result_room;
        o->results = fresh;
        o->result_room = room;
        for (size_t i = 0; i < old_room; i++)
            if (old[i].address != 0)
                o->results[place_of(o, old[i].address - 1)] = old[i];
        free(old);
    }
    result *const to = &o->results[place_of(o, lookup->address)];
    if (to->address == 0)
        o->result_count++;
    *to = (result){.address = lookup->address + 1, .symbols = lookup->symbols, .count = lookup->symbol_count};
}

static int by_unit_and_address(const void *a, const void *b) {
    const pending *const x = a, *const y = b;
    if (x->unit != y->unit)
        return x->unit < y->unit ? -1 : 1;
    return (x->address > y->address) - (x->address < y->address);
}

/* What a long series of look-ups has done so far, for the progress. */
typedef struct tally {
    const moda_progress *progress;
    size_t done, total, last;
} tally;

static void count_done(tally *t, size_t more) {
    t->done += more;
    if (t->progress == NULL || t->progress->step == NULL)
        return;
    if (t->done < t->total && t->done - t->last < t->total / 200 + 1)
        return;
    t->last = t->done;
    t->progress->step(t->progress->context, t->done, t->total);
}

static void name_plainly(moda_symbolizer *s, const object *o, moda_lookup *lookup) {
    moda_symbol symbol = nothing;
    name_by_symbol(s, o, lookup->address, &symbol);
    if (symbol.function == NULL)
        return;
    moda_symbol *const kept = moda_arena_alloc(s->arena, sizeof *kept);
    if (kept == NULL)
        return;
    *kept = symbol;
    lookup->symbols = kept;
}

/* Addresses in order of units; a unit's together. */
static void look_up_pending(moda_symbolizer *s, object *o, pending *all, size_t count, tally *t) {
    if (count > 1)
        qsort(all, count, sizeof *all, by_unit_and_address);
    for (size_t from = 0; from < count;) {
        size_t to = from + 1;
        while (to < count && all[to].unit == all[from].unit)
            to++;
        const uint32_t which = all[from].unit;
        if (which != UINT32_MAX && o->bytes_read > reopen_after_bytes) {
            close_handle(o);
            if (!open_object(s, o))
                o->is_usable = false;
        }
        if (which != UINT32_MAX && o->is_usable && open_dwarf(o)) {
            for (size_t i = from; i < to; i++)
                all[i].address -= o->dwarf_bias;
            look_up_in_unit(s, o, all + from, to - from);
        } else {
            for (size_t i = from; i < to; i++)
                name_plainly(s, o, all[i].lookup);
        }
        for (size_t i = from; i < to; i++)
            remember(o, all[i].lookup);
        count_done(t, to - from);
        from = to;
    }
}

static bool make_ready(moda_symbolizer *s, object *o) {
    if (!o->is_opened) {
        o->is_opened = true;
        o->is_usable = !s->options.no_symbols && open_object(s, o);
        if (o->is_usable)
            load_symbols(s, o);
    }
    if (o->is_usable && o->dwfl == NULL && !open_object(s, o))
        o->is_usable = false;
    if (o->is_usable && !o->is_indexed && !s->options.no_lines)
        index_units(o);
    return o->is_usable;
}

void moda_symbolizer_look_up(moda_symbolizer *s, const moda_profile_module *module, moda_lookup *lookups,
                             size_t count, const moda_progress *progress, size_t done, size_t total,
                             moda_object_facts *facts) {
    tally t = {.progress = progress, .done = done, .total = total, .last = done};
    object *const o = object_for(s, module);
    pending *const all = o != NULL && count > 0 ? malloc(count * sizeof *all) : NULL;
    size_t open = 0;
    for (size_t i = 0; i < count; i++) {
        lookups[i].symbols = &nothing;
        lookups[i].symbol_count = 1;
        const result *const found = o != NULL ? known(o, lookups[i].address) : NULL;
        if (found != NULL) {
            lookups[i].symbols = found->symbols;
            lookups[i].symbol_count = found->count;
        } else if (all != NULL) {
            all[open++] = (pending){.address = lookups[i].address, .lookup = &lookups[i], .unit = UINT32_MAX};
        }
    }
    count_done(&t, count - open);
    if (open > 0 && make_ready(s, o)) {
        for (size_t i = 0; i < open; i++)
            all[i].unit = find_unit(o, all[i].address);
        look_up_pending(s, o, all, open, &t);
        /* A handle that has read much is not kept for the next report. */
        if (o->bytes_read > reopen_after_bytes / 4)
            close_handle(o);
    } else {
        count_done(&t, open);
    }
    if (facts != NULL)
        *facts = o != NULL ? o->facts : (moda_object_facts){.has_symbols = false};
    free(all);
}

/* ---- run-time compiled code ---- */

static int by_perf_start(const void *a, const void *b) {
    const perf_symbol *const x = a, *const y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* "START SIZE name" a line, hexadecimal: the format of linux/tools/perf/Documentation/jit-interface.txt. Of a
 * place that was compiled more than once the newest line counts. */
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
        if (line[at] == 0 || !grow((void **)&map->symbols, map->count, sizeof *map->symbols))
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

const char *moda_symbolizer_perf_map_name(moda_symbolizer *s, const moda_profile_process *process,
                                          uint64_t address) {
    if (s->options.no_symbols || process->pid == 0)
        return NULL;
    perf_map *map = s->perf_maps;
    while (map != NULL && (map->pid != process->pid || map->start_realtime_ns != process->start_realtime_ns))
        map = map->next;
    if (map == NULL) {
        map = calloc(1, sizeof *map);
        if (map == NULL)
            return NULL;
        map->pid = process->pid;
        map->start_realtime_ns = process->start_realtime_ns;
        load_perf_map(s, map);
        map->next = s->perf_maps;
        s->perf_maps = map;
    }
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
