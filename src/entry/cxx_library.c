/* SPDX-License-Identifier: MIT
 *
 * cxx_library.c - see cxx_library.h. Names are not looked up by dlsym: it looks in scopes, and allocates where it finds nothing.
 */
#include "entry/cxx_library.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#pragma weak _dl_find_object /* since glibc 2.35; a static program has it only if something else needs it */

typedef struct elf_symbols {
    const ElfW(Sym) * table;
    const char *names;
    const uint32_t *hash; /* DT_GNU_HASH */
} elf_symbols;

typedef struct cxx_search {
    const char *name;
    void *found;
} cxx_search;

/* glibc has added the object's place to what the dynamic section says, but for objects of the kernel's. */
static const void *at(const struct dl_phdr_info *object, ElfW(Addr) address) {
    return (const void *)(address < object->dlpi_addr ? object->dlpi_addr + address : address);
}

static bool read_symbols(const struct dl_phdr_info *object, elf_symbols *symbols) {
    const ElfW(Dyn) *entry = NULL;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            entry = (const void *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
        }
    }
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
        case DT_SYMTAB: symbols->table = at(object, entry->d_un.d_ptr); break;
        case DT_STRTAB: symbols->names = at(object, entry->d_un.d_ptr); break;
        case DT_GNU_HASH: symbols->hash = at(object, entry->d_un.d_ptr); break;
        default: break;
        }
    }
    return symbols->table && symbols->names && symbols->hash;
}

/* The table: bucket count, first symbol, words of the filter, its shift; filter; buckets; a hash for each symbol, whose
 * lowest bit ends a chain. */
static void *look_up(const struct dl_phdr_info *object, const elf_symbols *symbols, const char *name) {
    const uint32_t buckets = symbols->hash[0], first = symbols->hash[1], words = symbols->hash[2];
    const uint32_t *const bucket = symbols->hash + 4 + words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *const hashes = bucket + buckets;
    uint32_t hash = 5381;
    for (const char *c = name; *c; c++) {
        hash = hash * 33 + (unsigned char)*c;
    }
    uint32_t i = buckets ? bucket[hash % buckets] : 0;
    if (i < first) {
        return NULL;
    }
    for (;; i++) {
        const ElfW(Sym) *const symbol = &symbols->table[i];
        const uint32_t found = hashes[i - first];
        if ((found | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF && (symbol->st_info & 15) == STT_FUNC
            && strcmp(symbols->names + symbol->st_name, name) == 0) {
            return (void *)(object->dlpi_addr + symbol->st_value);
        }
        if (found & 1) {
            return NULL;
        }
    }
}

static int look_into(struct dl_phdr_info *object, size_t size, void *argument) {
    cxx_search *const search = argument;
    elf_symbols symbols = {0};
    (void)size;
    if (read_symbols(object, &symbols) && look_up(object, &symbols, "__cxa_begin_catch")) {
        search->found = look_up(object, &symbols, search->name);
    }
    return search->found != NULL;
}

void *moda_cxx_library_function(const char *name) {
    cxx_search search = {.name = name};
    dl_iterate_phdr(look_into, &search);
    return search.found;
}

bool moda_cxx_library_is_there(const void *function) {
    struct dl_find_object object;
    return _dl_find_object == NULL || _dl_find_object((void *)(uintptr_t)function, &object) == 0;
}

/* ---- std::bad_alloc ---- */

/* As the C++ ABI of Itanium lays them out: a type_info of a class with one base; and a table of virtual functions, in which
 * an object points behind the first two words. */
typedef struct class_type {
    const void *const *functions;
    const char *name;
    const void *base;
} class_type;

/* The program's own, where it has them. What catches brings what throws, and the first two; the type that is thrown, only
 * where it is named. */
extern const void *const functions_of_class_type[] __asm__(
    "_ZTVN10__cxxabiv120__si_class_type_infoE") MODA_WEAK;
extern const class_type type_of_exception __asm__("_ZTISt9exception") MODA_WEAK;
extern const class_type type_of_bad_alloc __asm__("_ZTISt9bad_alloc") MODA_WEAK;
extern const void *const functions_of_bad_alloc[] __asm__("_ZTVSt9bad_alloc") MODA_WEAK;
void *allocate_exception(size_t size) __asm__("__cxa_allocate_exception") MODA_WEAK;
void throw_exception(void *exception, const class_type *type,
                     void (*destroy)(void *)) __asm__("__cxa_throw") MODA_WEAK MODA_NORETURN;

static void destroy_nothing(void *exception) {
    (void)exception;
}

static const char *what_bad_alloc(const void *exception) {
    (void)exception;
    return "std::bad_alloc";
}

/* libstdc++ compares types by their names. */
static const class_type our_type = {
    .functions = functions_of_class_type + 2, .name = "St9bad_alloc", .base = &type_of_exception};

/* Offset, type; destructor, the same and delete, what(). */
static const void *const our_functions[] = {NULL, &our_type, (const void *)destroy_nothing,
                                            (const void *)destroy_nothing, (const void *)what_bad_alloc};

void moda_cxx_throw_bad_alloc_of_ours(void) {
    if (!allocate_exception || !throw_exception || !functions_of_class_type || !&type_of_exception) {
        return;
    }
    const void *const *const functions = functions_of_bad_alloc ? functions_of_bad_alloc : our_functions;
    const void **const exception = allocate_exception(sizeof *exception);
    *exception = functions + 2;
    throw_exception(exception, &type_of_bad_alloc ? &type_of_bad_alloc : &our_type, destroy_nothing);
}
