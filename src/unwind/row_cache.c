/* SPDX-License-Identifier: MIT
 *
 * row_cache.c - address -> row, remembered for ever, without locks; and which objects the rows came from.
 *
 * Slow half of row_cache.h: entered on a miss, which costs 0.3 us with the tables in memory. Objects are
 * found with glibc's _dl_find_object (lock-free, signal-safe; glibc 2.35), by weak reference: where it is
 * missing there are no rows, and walkers have frame pointers only.
 *
 *   moda_rows.table --> newest --older--> table --older--> first
 *
 * A new table starts empty; what the one before it holds is taken over one row at a time, when asked for, so
 * that growing never makes one walk slow. Slots past the end: each table has MODA_ROW_PROBES_MAX extra slots
 * instead of wrapping around.
 */
#include "unwind/row_cache.h"
#include "unwind/stack.h"
#include "unwind/unwind.h"

#include <string.h>
#include <sys/auxv.h>

moda_row_cache moda_rows;

static moda_unwind_memory *take_memory;

/* The beginning of a struct link_map. */
typedef struct loaded_object {
    uintptr_t load_bias;
    const char *name;
    const void *dynamic, *next, *previous;
} loaded_object;

/* glibc's struct dl_find_object and function, declared here under our own name so that older systems'
 * headers will do. */
struct found_object {
    unsigned long long flags;
    void *map_start;
    void *map_end;
    const loaded_object *link_map;
    void *eh_frame_hdr;
    unsigned long long reserved[7];
};
extern int _dl_find_object(void *address, struct found_object *result) MODA_WEAK;

/* The System V ABI's struct r_debug, which ld.so fills in for debuggers: where ld.so itself lies, whoever has started it. */
struct loader_state {
    int version;
    const loaded_object *first;
    uintptr_t breakpoint;
    int state;
    uintptr_t loader_bias;
};
extern struct loader_state _r_debug MODA_WEAK;

/* ---- which link_maps rows came from ---- */

enum { LINK_MAPS = 1024, LINK_MAP_PROBES = 16, LINK_MAP_GONE = 1 };
static uintptr_t link_maps[LINK_MAPS + LINK_MAP_PROBES];

static uintptr_t *link_map_home(uintptr_t link_map) {
    return &link_maps[moda_row_index(link_map, 10)];
}

static void note_link_map(uintptr_t link_map) {
    uintptr_t *home = link_map_home(link_map);
    for (int i = 0; i < LINK_MAP_PROBES; i++) {
        if (moda_load_relaxed(&home[i]) == link_map) {
            return;
        }
    }
    for (int i = 0; i < LINK_MAP_PROBES; i++) {
        uintptr_t seen = moda_load_relaxed(&home[i]);
        if (seen > LINK_MAP_GONE) {
            continue;
        }
        if (__atomic_compare_exchange_n(&home[i], &seen, link_map, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
            return;
        }
        if (seen == link_map) {
            return;
        }
    }
    /* No room (a program with more than a thousand libraries): its unloading goes unnoticed. */
}

bool moda_unwind_knows_link_map(const void *block) {
    uintptr_t *home = link_map_home((uintptr_t)block);
    for (int i = 0; i < LINK_MAP_PROBES; i++) {
        uintptr_t seen = moda_load_relaxed(&home[i]);
        if (seen == 0) {
            return false;
        }
        if (seen == (uintptr_t)block) {
            return __atomic_compare_exchange_n(&home[i], &seen, LINK_MAP_GONE, false, __ATOMIC_ACQ_REL,
                                               __ATOMIC_RELAXED);
        }
    }
    return false;
}

/* ---- computing a row ---- */

typedef struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_headers, section_headers;
    uint32_t flags;
    uint16_t size, program_header_size, program_header_count, padding[3];
} elf_header;

typedef struct program_header {
    uint32_t type, flags;
    uint64_t offset, address, physical, file_size, memory_size, align;
} program_header;

_Static_assert(sizeof(elf_header) == 64 && sizeof(program_header) == 56, "layouts of ELF64");

/* An object's program headers: those in its first page, where an ELF header is there, or for the main
 * program those that the kernel told of. 0 = not found. */
static uint32_t find_program_headers(const struct found_object *found, const program_header **headers) {
    const uintptr_t load_bias = found->link_map->load_bias;
    const uintptr_t main_headers = getauxval(AT_PHDR);
    uintptr_t start = (uintptr_t)found->map_start;
    elf_header elf;
    /* glibc gives the executable segment alone where there are holes between an object's segments. */
    if ((uintptr_t)found->eh_frame_hdr < start || found->eh_frame_hdr >= found->map_end) {
        const bool is_program = found->link_map->previous == NULL;
        if (load_bias == 0 && is_program) { /* or a library that lies where it was linked to lie */
            *headers = (const program_header *)main_headers;
            return main_headers == 0 ? 0 : (uint32_t)getauxval(AT_PHNUM);
        }
        start = load_bias;
        if (start == 0 || !moda_stack_page_is_readable(start)) {
            return 0;
        }
    }
    memcpy(&elf, (const void *)start, sizeof elf);
    if (memcmp(elf.ident, "\177ELF\2\1", 6) != 0 || elf.program_header_size != sizeof(program_header)
        || elf.program_headers + elf.program_header_count * sizeof(program_header) > MODA_PAGE_BYTES) {
        return 0;
    }
    *headers = (const program_header *)(start + elf.program_headers);
    return elf.program_header_count;
}

static bool find_mapped(uintptr_t pc, struct found_object *found) {
    return _dl_find_object != NULL && _dl_find_object((void *)pc, found) == 0 && found->link_map != NULL;
}

/* The loaded segment that an address lies in, or NULL; *low is where it begins. */
static const program_header *find_segment(const struct found_object *found, uintptr_t address,
                                          uintptr_t *low) {
    const program_header *headers, *in = NULL;
    const uint32_t count = find_program_headers(found, &headers);
    const uintptr_t load_bias = found->link_map->load_bias;
    for (uint32_t i = 0; i < count; i++) {
        const uintptr_t start = load_bias + headers[i].address;
        if (headers[i].type == 1 && address - start < headers[i].file_size) { /* PT_LOAD */
            in = &headers[i];
            *low = start;
        }
    }
    return in;
}

/* Ranges of objects, by their tables: an object's ELF and program headers lie in pages that little else comes to. One that
 * is torn between two writers does not bear its sum; an object of another epoch may be another one. */
typedef struct known_object {
    uintptr_t header, low, high, sum;
} known_object;
static known_object known_objects[16];

static known_object *known_home(uintptr_t header) {
    return &known_objects[moda_row_index(header, 4)];
}

static uintptr_t known_sum(const moda_cfi_object *o, uint32_t epoch) {
    return o->header * UINT64_C(0x9e3779b97f4a7c15) + o->low * UINT64_C(0xd6e8feb86659fd93)
           + o->high * UINT64_C(0xc2b2ae3d27d4eb4f) + epoch;
}

static bool recall_object(uint32_t epoch, moda_cfi_object *object) {
    const known_object *known = known_home(object->header);
    object->low = moda_load_relaxed(&known->low);
    object->high = moda_load_relaxed(&known->high);
    return moda_load_relaxed(&known->header) == object->header
           && moda_load_relaxed(&known->sum) == known_sum(object, epoch);
}

static void remember_object(uint32_t epoch, const moda_cfi_object *object) {
    known_object *known = known_home(object->header);
    moda_store_relaxed(&known->header, object->header);
    moda_store_relaxed(&known->low, object->low);
    moda_store_relaxed(&known->high, object->high);
    moda_store_relaxed(&known->sum, known_sum(object, epoch));
}

/* The object that holds an address, if any. Its range is the segment that holds its unwind tables, since
 * there may be holes between segments; without tables header is 0. */
static bool find_object(uintptr_t pc, moda_cfi_object *object) {
    struct found_object found;
    const uint32_t epoch = moda_load_acquire(&moda_rows.epoch);
    *object = (moda_cfi_object){0};
    if (!find_mapped(pc, &found)) {
        return false;
    }
    note_link_map((uintptr_t)found.link_map);
    object->header = (uintptr_t)found.eh_frame_hdr;
    if (object->header == 0 || recall_object(epoch, object)) {
        return true;
    }
    uintptr_t low;
    const program_header *segment = find_segment(&found, object->header, &low);
    if (segment == NULL) {
        *object = (moda_cfi_object){0};
        return true;
    }
    object->low = low;
    object->high = low + segment->file_size;
    remember_object(epoch, object);
    return true;
}

bool moda_row_cache_find_rules(uintptr_t pc, moda_cfi_rules *rules) {
    moda_cfi_object object;
    return find_object(pc, &object) && object.header != 0
           && moda_cfi_find(&object, pc, rules) == MODA_CFI_FOUND;
}

/* Computes the row of an address. *is_lasting: it may be remembered (what is no object now may become one). */
static moda_row compute(uintptr_t pc, bool *is_lasting) {
    moda_cfi_object object;
    *is_lasting = find_object(pc, &object);
    if (!*is_lasting || object.header == 0) {
        return MODA_CFA_NO_TABLE;
    }
    return moda_row_compile(&object, pc);
}

/* ---- what a guess may find ---- */

static bool is_signal_return(uintptr_t pc, uintptr_t end) {
    const moda_row_view view = moda_row_view_now();
    return (moda_row_lookup(&view, pc - 1) & MODA_ROW_SIGNAL) != 0
           || (moda_has_bare_sigreturn && pc % 4 == 0 && end - pc >= sizeof moda_sigreturn_code
               && memcmp((const void *)pc, moda_sigreturn_code, sizeof moda_sigreturn_code) == 0);
}

bool moda_row_cache_may_return_to(uintptr_t pc) {
    struct found_object found;
    const program_header *headers;
    uintptr_t low;
    if (!find_mapped(pc - 1, &found)) {
        return moda_stack_page_was_readable(pc - 1);
    }
    if (find_program_headers(&found, &headers) == 0) {
        return true; /* where its segments are is not known */
    }
    const program_header *segment = find_segment(&found, pc - 1, &low);
    if (segment == NULL || (segment->flags & 1) == 0) { /* PF_X */
        return false;
    }
    return (segment->flags & 4) == 0 /* PF_R: nobody can look */
           || moda_follows_call((const uint8_t *)pc, pc - low)
           || is_signal_return(pc, low + segment->file_size);
}

static uintptr_t loader_bias(void) {
    return &_r_debug != NULL ? _r_debug.loader_bias : 0;
}

bool moda_unwind_has_loader(void) {
    return getauxval(AT_BASE) != 0 || loader_bias() != 0;
}

bool moda_row_cache_is_in_loader(uintptr_t pc) {
    struct found_object found;
    const uintptr_t bias = loader_bias();
    return bias != 0 && find_mapped(pc, &found) && found.link_map->load_bias == bias;
}

/* ---- the tables ---- */

static moda_row_table *new_table(uint32_t bits, moda_row_table *older) {
    if (take_memory == NULL) {
        return NULL;
    }
    const size_t slots = ((size_t)1 << bits) + MODA_ROW_PROBES_MAX;
    moda_row_table *table = take_memory(sizeof *table + slots * sizeof(moda_row_slot));
    if (table != NULL) {
        table->bits = bits;
        table->older = older;
    }
    return table;
}

static bool begin_growing(void) {
    return __atomic_exchange_n(&moda_rows.is_growing, 1, __ATOMIC_ACQUIRE) == 0;
}

static void end_growing(void) {
    moda_store_release(&moda_rows.is_growing, 0);
}

/* Makes a bigger table; one thread does it, the others go on with what there is. */
static void grow(moda_row_table *from) {
    const uint32_t bits = from == NULL ? MODA_ROW_TABLE_FIRST_BITS : from->bits + 2;
    if (bits > MODA_ROW_TABLE_LAST_BITS || !begin_growing()) {
        return;
    }
    if (moda_load_relaxed(&moda_rows.table) == from) {
        moda_row_table *table = new_table(bits, from);
        if (table != NULL) {
            moda_store_release(&moda_rows.table, table);
        }
    }
    end_growing();
}

/* The row of a table, 0 if it is not there or of another epoch. */
static moda_row search(const moda_row_table *table, uintptr_t pc, moda_row tag) {
    const moda_row_slot *slot = &table->slot[moda_row_index(pc, table->bits)];
    for (uint32_t i = 0; i < MODA_ROW_PROBES_MAX; i++) {
        const uint64_t key = moda_load_acquire(&slot[i].key);
        if (key == pc) {
            const moda_row row = moda_load_acquire(&slot[i].row);
            return (row & MODA_ROW_EPOCH_MASK) == tag ? row : 0;
        }
        if (key == 0) {
            return 0;
        }
    }
    return 0;
}

static void insert(moda_row_table *table, uintptr_t pc, moda_row row) {
    moda_row_slot *slot = &table->slot[moda_row_index(pc, table->bits)];
    for (uint32_t i = 0; i < MODA_ROW_PROBES_MAX; i++) {
        uint64_t key = moda_load_acquire(&slot[i].key);
        if (key == 0
            && __atomic_compare_exchange_n(&slot[i].key, &key, pc, false, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE)) {
            __atomic_fetch_add(&table->used, 1, __ATOMIC_RELAXED);
            key = pc;
        }
        if (key == pc) {
            moda_store_release(&slot[i].row, row);
            return;
        }
    }
}

static bool is_half_full(const moda_row_table *table) {
    return moda_load_relaxed(&table->used) >= (uint32_t)1 << (table->bits - 1);
}

MODA_NOINLINE moda_row moda_row_miss(uintptr_t pc, uint32_t epoch) {
    const moda_row tag = moda_row_tag(epoch);
    moda_row_table *table = moda_load_acquire(&moda_rows.table);
    if (table == NULL || is_half_full(table)) {
        grow(table);
        table = moda_load_acquire(&moda_rows.table);
    }
    moda_row row = 0;
    bool is_lasting = true;
    if (table != NULL) {
        row = search(table, pc, tag);
        if (row != 0) {
            return row;
        }
        if (table->older != NULL) {
            row = search(table->older, pc, tag);
        }
    }
    if (row == 0) {
        row = compute(pc, &is_lasting) | tag;
    }
    /* A row of an epoch that has passed meanwhile is right for this walk, but must not outlive it. */
    if (is_lasting && table != NULL && moda_load_acquire(&moda_rows.epoch) == epoch) {
        insert(table, pc, row);
    }
    return row;
}

/* Tags repeat after 255 epochs: then rows that bear an old one must go. */
static void wipe_rows(void) {
    for (moda_row_table *table = moda_load_acquire(&moda_rows.table); table != NULL; table = table->older) {
        const size_t slots = ((size_t)1 << table->bits) + MODA_ROW_PROBES_MAX;
        for (size_t i = 0; i < slots; i++) {
            moda_store_relaxed(&table->slot[i].row, 0);
        }
    }
}

void moda_unwind_forget(void) {
    const uint32_t epoch = __atomic_add_fetch(&moda_rows.epoch, 1, __ATOMIC_ACQ_REL);
    if (epoch % 255 == 0) {
        wipe_rows();
    }
}

bool moda_unwind_fork_prepare(void) {
    return begin_growing();
}

void moda_unwind_fork_over(void) {
    end_growing();
}

void moda_unwind_set_memory(moda_unwind_memory *memory) {
    take_memory = memory;
}

uint32_t moda_row_cache_count(uint32_t *bits) {
    const moda_row_table *table = moda_load_acquire(&moda_rows.table);
    *bits = table == NULL ? 0 : table->bits;
    return table == NULL ? 0 : moda_load_relaxed(&table->used);
}
