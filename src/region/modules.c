/* SPDX-License-Identifier: MIT
 *
 * modules.c - the list of objects in the region. See modules.h.
 *
 *   pc --> record last found around there? --> open record that covers it? --> ask ld.so, read the program headers
 *
 * The list grows at its head (release) and is walked without a lock. A record's only field that changes is
 * generation_unmapped, from 0, once, under the lock.
 */
#define _GNU_SOURCE
#include "region/modules.h"

#include "base/lock.h"
#include "os/os.h"
#include "region/region.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#pragma weak _dl_find_object /* since glibc 2.35; a static program has it only if something else needs it */

#define PATH_SIZE 4096u
#define FOUND_LAST 64u
/* 2 MiB: a large object is found by a few places, where each page of code would be another line. */
#define AROUND_SHIFT 21
#define HEADERS_MAX 64u /* program headers; real objects have about a dozen */
#define NOTES_MAX 64u

typedef ElfW(Ehdr) elf_header;
typedef ElfW(Phdr) program_header;
typedef ElfW(Nhdr) note_header;

/* An object as found in memory. */
typedef struct object {
    uint64_t start;
    uint64_t end;
    uint64_t bias;
    const program_header *headers;
    uint32_t header_count;
    const char *name;
} object;

static moda_lock list_lock;

/* The record that covered an address of the same 2 MiB, or NULL. */
static const moda_module *found_last[FOUND_LAST];

/* Around all ranges that are gone. */
static uint64_t gone_start = UINT64_MAX;
static uint64_t gone_end;

/* ---- what is known ---- */

static const moda_module **found_slot(uintptr_t pc) {
    return &found_last[(pc >> AROUND_SHIFT) % FOUND_LAST];
}

static moda_module *first_module(void) {
    return moda_region_at(moda_load_acquire(&moda_region()->modules));
}

static moda_module *next_module(const moda_module *module) {
    return moda_region_at(module->next);
}

static bool is_open(const moda_module *module) {
    return moda_load_relaxed(&module->generation_unmapped) == 0;
}

static bool is_covered_by(uintptr_t pc, const moda_module *module) {
    return pc >= module->start && pc < module->end && is_open(module);
}

static const moda_module *covering_module(uintptr_t pc) {
    const moda_module *module = first_module();
    while (module != NULL && !is_covered_by(pc, module)) {
        module = next_module(module);
    }
    return module;
}

/* ---- finding an object ---- */

static bool is_elf(const elf_header *elf) {
    return memcmp(elf->e_ident, ELFMAG, SELFMAG) == 0 && elf->e_phentsize == sizeof(program_header)
           && elf->e_phnum <= HEADERS_MAX && elf->e_phoff <= 4096 - HEADERS_MAX * sizeof(program_header);
}

static void set_headers_from(object *found, uint64_t elf_address) {
    const elf_header *elf = (const elf_header *)(uintptr_t)elf_address;
    if (is_elf(elf)) {
        found->headers = (const program_header *)(uintptr_t)(elf_address + elf->e_phoff);
        found->header_count = elf->e_phnum;
    }
}

/* All that the object's segments span, holes included; bias is set. */
static bool set_range_from_headers(object *found) {
    uint64_t low = UINT64_MAX;
    uint64_t high = 0;
    for (uint32_t i = 0; i < found->header_count; i++) {
        const program_header *header = &found->headers[i];
        if (header->p_type == PT_LOAD) {
            low = header->p_vaddr < low ? header->p_vaddr : low;
            high = header->p_vaddr + header->p_memsz > high ? header->p_vaddr + header->p_memsz : high;
        }
    }
    if (low >= high) {
        return false;
    }
    found->start = (found->bias + low) & ~(uint64_t)(moda_os_page_size() - 1);
    found->end = found->bias + high;
    return true;
}

/* Where the program was moved to, from the place of its program headers. */
static uint64_t bias_of_program(const object *program, uint64_t address) {
    for (uint32_t i = 0; i < program->header_count; i++) {
        const program_header *header = &program->headers[i];
        if (header->p_type == PT_PHDR) {
            return address - header->p_vaddr;
        }
        if (header->p_type == PT_LOAD && header->p_offset == 0) {
            return address - sizeof(elf_header) - header->p_vaddr;
        }
    }
    return 0;
}

static bool find_program(object *found) {
    const uint64_t address = getauxval(AT_PHDR);
    *found = (object){
        .headers = (const program_header *)(uintptr_t)address,
        .header_count = address != 0 ? (uint32_t)getauxval(AT_PHNUM) : 0,
        .name = "",
    };
    found->bias = bias_of_program(found, address);
    return set_range_from_headers(found);
}

/* Linked at 0. */
static bool find_vdso(object *found) {
    const uint64_t start = getauxval(AT_SYSINFO_EHDR);
    *found = (object){.start = start, .bias = start, .name = "[vdso]"};
    if (start == 0) {
        return false;
    }
    set_headers_from(found, start);
    return set_range_from_headers(found);
}

static bool covers(const object *found, uintptr_t pc) {
    return pc >= found->start && pc < found->end;
}

/* Of objects with holes the loader answers with one segment. The whole is had from the program headers, where
 * the object was linked to begin at 0. */
static void widen_to_object(object *found, const struct link_map *map) {
    struct dl_find_object first;
    const object segment = *found;
    set_headers_from(found, found->start);
    if (found->headers == NULL && _dl_find_object((void *)map->l_addr, &first) == 0
        && first.dlfo_link_map == map) {
        set_headers_from(found, map->l_addr);
    }
    if (found->headers != NULL && (!set_range_from_headers(found) || !covers(found, segment.start))) {
        *found = segment;
    }
}

static bool find_by_loader(uintptr_t pc, object *found) {
    struct dl_find_object answer;
    if (_dl_find_object == NULL || _dl_find_object((void *)pc, &answer) != 0) {
        return false;
    }
    const struct link_map *map = answer.dlfo_link_map;
    *found = (object){
        .start = (uint64_t)(uintptr_t)answer.dlfo_map_start,
        .end = (uint64_t)(uintptr_t)answer.dlfo_map_end,
        .bias = map->l_addr,
        .name = map->l_name != NULL ? map->l_name : "",
    };
    if (found->start == getauxval(AT_SYSINFO_EHDR)) {
        found->name = "[vdso]";
    }
    widen_to_object(found, map);
    return covers(found, pc);
}

static bool find_object(uintptr_t pc, object *found) {
    return (find_program(found) && covers(found, pc)) || find_by_loader(pc, found)
           || (find_vdso(found) && covers(found, pc));
}

/* ---- describing it ---- */

static uint64_t align_up(uint64_t value, uint64_t step) {
    return (value + step - 1) & ~(step - 1);
}

/* True if [start, start + size) is in a readable segment: notes are not believed to be mapped. */
static bool is_readable(const object *found, uint64_t start, uint64_t size) {
    for (uint32_t i = 0; i < found->header_count; i++) {
        const program_header *header = &found->headers[i];
        const uint64_t low = found->bias + header->p_vaddr;
        if (header->p_type == PT_LOAD && (header->p_flags & PF_R) != 0 && start >= low
            && size <= header->p_filesz && start - low <= header->p_filesz - size) {
            return true;
        }
    }
    return false;
}

/* Looks for the build id among the notes of one segment. */
static bool read_build_id(uint64_t start, uint64_t size, uint64_t align, moda_module *module) {
    uint64_t offset = 0;
    for (uint32_t i = 0; i < NOTES_MAX && size - offset >= sizeof(note_header); i++) {
        const note_header *note = (const note_header *)(uintptr_t)(start + offset);
        const uint64_t name = offset + sizeof *note;
        const uint64_t body = align_up(name + note->n_namesz, align);
        const uint64_t next = align_up(body + note->n_descsz, align);
        if (body + note->n_descsz > size) {
            return false;
        }
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4
            && memcmp((const void *)(uintptr_t)(start + name), "GNU", 4) == 0) {
            const uint32_t room = sizeof module->build_id;
            module->build_id_length = note->n_descsz < room ? note->n_descsz : room;
            memcpy(module->build_id, (const void *)(uintptr_t)(start + body), module->build_id_length);
            return true;
        }
        if (next >= size) {
            return false;
        }
        offset = next;
    }
    return false;
}

static void describe_segments(const object *found, moda_module *module) {
    const uint64_t page = moda_os_page_size();
    for (uint32_t i = 0; i < found->header_count; i++) {
        const program_header *header = &found->headers[i];
        const uint64_t start = found->bias + header->p_vaddr;
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X) != 0 && module->text_end == 0) {
            module->text_start = start & ~(page - 1);
            module->text_end = start + header->p_memsz;
            module->text_file_offset = header->p_offset & ~(page - 1);
        }
        if (header->p_type == PT_NOTE && module->build_id_length == 0
            && is_readable(found, start, header->p_memsz)) {
            read_build_id(start, header->p_memsz, header->p_align == 8 ? 8 : 4, module);
        }
    }
}

/* The object's path as text; relative ones made absolute by the directory of now. */
static size_t describe_path(const object *found, char path[PATH_SIZE]) {
    const char *name = found->name[0] != '\0' ? found->name : moda_region()->executable;
    size_t length = 0;
    if (name[0] != '/' && name[0] != '[' && strchr(name, '/') != NULL) {
        length = moda_os_working_directory(path, PATH_SIZE - 1);
        path[length++] = '/';
    }
    for (; *name != '\0' && length + 1 < PATH_SIZE; name++) {
        path[length++] = *name;
    }
    path[length] = '\0';
    return length;
}

/* ---- the list: under the lock ---- */

static void close_record_locked(moda_module *module, uint32_t generation) {
    moda_store_relaxed(&module->generation_unmapped, generation);
    if (module->start < gone_start) {
        moda_store_relaxed(&gone_start, module->start);
    }
    if (module->end > gone_end) {
        moda_store_relaxed(&gone_end, module->end);
    }
}

/* Closes the records that is_gone names. The generation is raised once for all of them, last. */
static void close_records_locked(bool is_gone(const moda_module *module, const object *found),
                                 const object *found) {
    moda_region_header *header = moda_region();
    const uint32_t generation = header->module_generation + 1;
    bool any = false;
    for (moda_module *module = first_module(); module != NULL; module = next_module(module)) {
        if (is_open(module) && is_gone(module, found)) {
            close_record_locked(module, generation);
            any = true;
        }
    }
    if (any) {
        moda_store_release(&header->module_generation, generation);
    }
}

static bool overlaps(const moda_module *module, const object *found) {
    return module->start < found->end && found->start < module->end;
}

static void add_locked(const object *found) {
    static char path[PATH_SIZE]; /* a stack may be a few KiB in all */
    const size_t length = describe_path(found, path);
    moda_region_header *header = moda_region();
    moda_module *module = moda_region_alloc(sizeof *module + length + 1);
    if (module == NULL) {
        return;
    }
    /* What is recorded there went away unseen. */
    close_records_locked(overlaps, found);
    module->generation_mapped = header->module_generation;
    module->path_length = (uint32_t)length;
    module->start = found->start;
    module->end = found->end;
    module->load_bias = found->bias;
    describe_segments(found, module);
    memcpy(module->path, path, length + 1);
    module->next = header->modules;
    moda_store_release(&header->modules, moda_region_ref(module));
    moda_store_relaxed(&header->module_count, header->module_count + 1);
}

/* The record of an address, made if need be; NULL: none. */
MODA_COLD static const moda_module *note_slow(uintptr_t pc) {
    const moda_module *module = covering_module(pc);
    if (module == NULL) {
        object found;
        if (!find_object(pc, &found)) {
            return NULL; /* generated code; never remembered, an object may be mapped there later */
        }
        moda_lock_take(&list_lock, MODA_LOCK_MODULES);
        if (covering_module(pc) == NULL) {
            add_locked(&found);
        }
        moda_lock_release(&list_lock, MODA_LOCK_MODULES);
        module = covering_module(pc);
    }
    if (module != NULL) {
        moda_store_release(found_slot(pc), module);
    }
    return module;
}

static const moda_module *note(uintptr_t pc) {
    const moda_module *module = moda_load_acquire(found_slot(pc));
    return moda_likely(module != NULL && is_covered_by(pc, module)) ? module : note_slow(pc);
}

void moda_modules_note(const uint64_t *frames, uint32_t count) {
    const moda_module *module = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (module == NULL || !is_covered_by((uintptr_t)frames[i], module)) {
            module = note((uintptr_t)frames[i]);
        }
    }
}

/* ---- objects that go ---- */

static bool is_unmapped(const moda_module *module, const object *unused) {
    (void)unused;
    struct dl_find_object answer;
    if (module->start == getauxval(AT_SYSINFO_EHDR)) {
        return false;
    }
    return _dl_find_object((void *)(uintptr_t)module->start, &answer) != 0
           || answer.dlfo_link_map->l_addr != module->load_bias;
}

void moda_modules_check(void) {
    if (moda_region() == NULL || _dl_find_object == NULL) {
        return;
    }
    moda_lock_take(&list_lock, MODA_LOCK_MODULES);
    close_records_locked(is_unmapped, NULL);
    moda_lock_release(&list_lock, MODA_LOCK_MODULES);
}

static bool is_in_gone_module(uint64_t address, uint32_t generation) {
    for (const moda_module *module = first_module(); module != NULL; module = next_module(module)) {
        if (moda_load_relaxed(&module->generation_unmapped) > generation && address >= module->start
            && address < module->end) {
            return true;
        }
    }
    return false;
}

bool moda_modules_were_unmapped_since(uint32_t generation, const uint64_t *addresses, uint32_t count) {
    const uint64_t start = moda_load_relaxed(&gone_start);
    const uint64_t end = moda_load_relaxed(&gone_end);
    for (uint32_t i = 0; i < count; i++) {
        if (addresses[i] >= start && addresses[i] < end && is_in_gone_module(addresses[i], generation)) {
            return true;
        }
    }
    return false;
}

/* ---- fork, laws ---- */

void moda_modules_fork_prepare(void) {
    moda_lock_take(&list_lock, MODA_LOCK_MODULES);
}

void moda_modules_fork_parent(void) {
    moda_lock_release(&list_lock, MODA_LOCK_MODULES);
}

void moda_modules_fork_child(void) {
    if (moda_region() == NULL) {
        return;
    }
    moda_lock_reset(&list_lock, MODA_LOCK_MODULES);
    memset(found_last, 0, sizeof found_last);
    uint32_t count = 0; /* a copied file's count may be newer than its list */
    for (const moda_module *module = first_module(); module != NULL; module = next_module(module)) {
        count++;
    }
    moda_region()->module_count = count;
}

bool moda_modules_are_valid(void) {
    const moda_region_header *header = moda_region();
    uint32_t count = 0;
    for (const moda_module *module = first_module(); module != NULL; module = next_module(module), count++) {
        const object range = {.start = module->start, .end = module->end};
        if (module->start >= module->end || module->path[module->path_length] != '\0'
            || module->generation_mapped > header->module_generation
            || module->generation_unmapped > header->module_generation) {
            return false;
        }
        for (const moda_module *other = next_module(module); other != NULL; other = next_module(other)) {
            if (is_open(module) && is_open(other) && overlaps(other, &range)) {
                return false;
            }
        }
    }
    return count == header->module_count;
}
