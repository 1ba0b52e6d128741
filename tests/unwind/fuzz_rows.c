/* SPDX-License-Identifier: MIT
 *
 * fuzz_rows.c - damaged unwind tables and stacks of random words: nothing may be read outside them, and a walk that takes
 * over parts of the last one finds what a whole one does.
 *
 * With libFuzzer (clang): LLVMFuzzerTestOneInput. Without: main() damages the tables of its own libc and of
 * the vDSO in a fixed random order, for ROUNDS rounds, under AddressSanitizer; `-w DIR` writes seeds for the fuzzer.
 *
 * Input, all little-endian: struct prefix, then the tables, then the words of a stack, from its lowest. A word whose
 * highest byte is 1 stands for an address of the code that the tables are of, by its distance from the header; one with 2
 * for an address in the stack; any other for itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "unwind/row.h"
#include "unwind/walk.h"

enum { LOOKUPS = 3, FRAMES = 48, STACK_BYTES = 8192, STACK_WORDS = 64 };

typedef struct prefix {
    uint32_t header; /* where .eh_frame_hdr begins in the tables */
    int32_t address; /* to look up, and where the walk begins: from the header */
    uint32_t words;  /* of the stack, at the input's end */
    uint8_t sp, fp;  /* where they point, in words */
    uint8_t changed; /* the word that is another one when the walk is made again */
    uint8_t ways;    /* how the walk is made; the changed word's new value */
} prefix;
_Static_assert(sizeof(prefix) == 16, "input begins with it");

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- an object with these tables, as the dynamic loader tells of it ---- */

static struct {
    Elf64_Ehdr elf;
    Elf64_Phdr segment;
} image;
static struct link_map image_link_map; /* not the program's */
static const moda_cfi_object *walked;

typedef int find_object(void *address, struct dl_find_object *found);

static void show_object(const moda_cfi_object *object) {
    memcpy(image.elf.e_ident, ELFMAG "\2\1", 6);
    image.elf.e_phentsize = sizeof image.segment;
    image.elf.e_phnum = 1;
    image.elf.e_phoff = offsetof(__typeof__(image), segment);
    image_link_map.l_addr = (uintptr_t)&image;
    image_link_map.l_prev = &image_link_map;
    image.segment.p_type = PT_LOAD;
    image.segment.p_vaddr = object->low - (uintptr_t)&image;
    image.segment.p_filesz = object->high - object->low;
    walked = object;
}

/* The walker asks here. */
int _dl_find_object(void *address, struct dl_find_object *found) {
    static find_object *next;
    if (walked != NULL && (uintptr_t)address - walked->header + 0x80000000u < UINT64_C(0x100000000)) {
        memset(found, 0, sizeof *found);
        found->dlfo_link_map = &image_link_map;
        found->dlfo_eh_frame = (void *)walked->header;
        return 0;
    }
    if (next == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "_dl_find_object");
        memcpy(&next, &symbol, sizeof next);
    }
    return next != NULL ? next(address, found) : -1;
}

/* ---- a stack, with nothing readable around it ---- */

static uint8_t *stack_low, *stack_high;
static moda_unwind_thread *thread;
static unsigned long frames_walked, frames_reused; /* without these it would test little */

static void make_stack(void) {
    if (stack_low == NULL) {
        uint8_t *pages = mmap(NULL, STACK_BYTES + 2 * (size_t)MODA_PAGE_BYTES, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_low = pages + MODA_PAGE_BYTES;
        stack_high = stack_low + STACK_BYTES;
        if (pages == MAP_FAILED || mprotect(stack_low, STACK_BYTES, PROT_READ | PROT_WRITE) != 0) {
            abort();
        }
        thread = calloc(1, moda_unwind_thread_size(FRAMES));
    }
}

/* The words that the input gives, and zeroes, end where the stack does. */
static uint8_t *word_at(size_t index) {
    return stack_high - 8 * STACK_WORDS + 8 * (index % STACK_WORDS);
}

static uint64_t word_of(uint64_t given, uintptr_t header) {
    switch (given >> 56) {
    case 1: return header + (uintptr_t)(intptr_t)(int32_t)given;
    case 2: return (uintptr_t)word_at(0) + (uint32_t)given % (8 * STACK_WORDS + 1);
    default: return given;
    }
}

typedef struct walked_frames {
    moda_walk walk;
    uint64_t frames[FRAMES];
} walked_frames;

static void expect_same(const walked_frames *a, const walked_frames *b) {
    if (a->walk.count > FRAMES || a->walk.count != b->walk.count || a->walk.end != b->walk.end
        || memcmp(a->frames, b->frames, a->walk.count * sizeof a->frames[0]) != 0) {
        abort();
    }
}

/* As if the stack were another thread's own, of which nothing is known, and with the last walk there to take over. */
static void walk_each_way(const moda_unwind_start *start) {
    static walked_frames plain, kept;
    plain.walk = moda_unwind(start, NULL, plain.frames);
    kept.walk = moda_unwind(start, thread, kept.frames);
    expect_same(&plain, &kept);
    kept.walk = moda_unwind(start, thread, kept.frames);
    expect_same(&plain, &kept);
    if (kept.walk.reused > kept.walk.count) {
        abort();
    }
    frames_walked += kept.walk.count;
    frames_reused += kept.walk.reused;
}

static void set_word(const moda_cfi_object *object, size_t index, const uint8_t *given) {
    uint64_t word;
    memcpy(&word, given, 8);
    word = word_of(word, object->header);
    memcpy(word_at(index), &word, 8);
}

static void walk_stack(const moda_cfi_object *object, const prefix *input, const uint8_t *given,
                       size_t words) {
    make_stack();
    memset(stack_low, 0, STACK_BYTES);
    for (size_t i = 0; i < words; i++) {
        set_word(object, i, given + 8 * i);
    }
    moda_unwind_forget();
    moda_unwind_initialize(input->ways % 2 == 0 ? MODA_UNWIND_AUTO : MODA_UNWIND_TABLES, FRAMES);
    memset(thread, 0, moda_unwind_thread_size(FRAMES));
    thread->own =
        (moda_stack_own){.low = (uintptr_t)stack_low, .high = (uintptr_t)stack_high, .is_known = true};
    const moda_unwind_start start = {
        .pc = object->header + (uintptr_t)(intptr_t)input->address,
        .sp = (uintptr_t)word_at(input->sp),
        .fp = (uintptr_t)word_at(input->fp),
    };
    show_object(object);
    walk_each_way(&start);
    if (words != 0) {
        set_word(object, input->changed, given + 8 * (input->ways / 2 % words));
        walk_each_way(&start);
    }
    walked = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    prefix input;
    if (size <= sizeof input) {
        return 0;
    }
    memcpy(&input, data, sizeof input);
    size_t bytes = size - sizeof input, words = input.words % (STACK_WORDS + 1);
    if (words * 8 >= bytes) {
        words = (bytes - 1) / 8;
    }
    bytes -= words * 8;
    /* A block of its own, so that AddressSanitizer sees the first byte outside. */
    uint8_t *tables = malloc(bytes);
    memcpy(tables, data + sizeof input, bytes);
    const moda_cfi_object object = {
        .header = (uintptr_t)tables + input.header % bytes,
        .low = (uintptr_t)tables,
        .high = (uintptr_t)tables + bytes,
    };
    for (int i = 0; i < LOOKUPS; i++) {
        const uintptr_t pc = object.header + (uintptr_t)(intptr_t)(input.address + (int64_t)i * 13);
        const moda_row row = moda_row_compile(&object, pc);
        if ((row & MODA_ROW_EPOCH_MASK) != 0) {
            abort();
        }
    }
    walk_stack(&object, &input, data + size - words * 8, words);
    free(tables);
    return 0;
}

#if !defined(FUZZ_WITH_LIBFUZZER)
#include <link.h>

typedef struct seed {
    uint8_t *data;
    size_t size;         /* of tables and prefix; the words are made anew each time */
    int32_t first, last; /* addresses that the tables cover, from the header */
} seed;

enum { SEEDS_MAX = 4, SEED_BYTES_MAX = 12000 };
static seed seeds[SEEDS_MAX];
static unsigned seed_count;

/* A small set of tables in the linker's form, around the first FDEs of an object's own. */
static int take_seed(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    for (unsigned i = 0; i < info->dlpi_phnum && seed_count < SEEDS_MAX; i++) {
        if (info->dlpi_phdr[i].p_type != PT_GNU_EH_FRAME) {
            continue;
        }
        const uint8_t *header = (const uint8_t *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        uint32_t count;
        memcpy(&count, header + 8, 4);
        const uint32_t kept = count < 20 ? count : 20;
        const size_t bytes = SEED_BYTES_MAX;
        seed *s = &seeds[seed_count++];
        s->size = sizeof(prefix) + bytes;
        s->data = calloc(1, s->size);
        /* header with `kept` entries, and behind it the records that they name, moved */
        uint8_t *out = s->data + sizeof(prefix);
        memcpy(out, header, 8);
        memcpy(out + 8, &kept, 4);
        size_t used = 12 + 8 * (size_t)kept;
        for (uint32_t k = 0; k < kept; k++) {
            int32_t entry[2];
            memcpy(entry, header + 12 + (size_t)8 * k * (count / kept), 8);
            const uint8_t *fde = header + entry[1];
            uint32_t fde_length, back, cie_length;
            memcpy(&fde_length, fde, 4);
            memcpy(&back, fde + 4, 4);
            const uint8_t *cie = fde + 4 - back;
            memcpy(&cie_length, cie, 4);
            if (used + 8 + cie_length + fde_length > bytes) {
                break;
            }
            memcpy(out + used, cie, 4 + cie_length);
            const size_t cie_at = used;
            used += 4 + cie_length;
            memcpy(out + used, fde, 4 + fde_length);
            back = (uint32_t)(used + 4 - cie_at);
            memcpy(out + used + 4, &back, 4);
            const int32_t first = entry[0], moved = (int32_t)(first - (int32_t)(used + 8)); /* pc-relative */
            memcpy(out + used + 8, &moved, 4);
            entry[1] = (int32_t)used;
            memcpy(out + 12 + (size_t)8 * k, entry, 8);
            used += 4 + fde_length;
            s->first = k == 0 ? first : s->first;
            s->last = first;
        }
        s->size = sizeof(prefix) + used;
        memcpy(s->data + 4, &s->first, 4);
    }
    return 0;
}

static uint64_t state = 0x9e3779b97f4a7c15u;
static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void damage(uint8_t *data, size_t size) {
    for (uint64_t n = next_random() % 6; n > 0; n--) {
        const uint64_t r = next_random();
        const size_t at = sizeof(prefix) + (size_t)(r >> 32) % (size - sizeof(prefix));
        const uint8_t one_bit_off = (uint8_t)(data[at] ^ (1u << (r >> 8 & 7)));
        data[at] = (r & 3) == 0 ? (uint8_t)(r >> 8) : (r & 3) == 1 ? UINT8_MAX : one_bit_off;
    }
}

/* An address that the tables cover. */
static int32_t random_address(const seed *s) {
    const uint32_t span = (uint32_t)(s->last - s->first) + 64;
    return s->first + (int32_t)((uint32_t)next_random() % span);
}

/* Where one of the functions begins, as a return address: there a frame is one word. */
static int32_t random_entry(const seed *s) {
    uint32_t entries;
    int32_t first;
    memcpy(&entries, s->data + sizeof(prefix) + 8, 4);
    memcpy(&first, s->data + sizeof(prefix) + 12 + 8 * (next_random() % entries), 4);
    return first + 1;
}

static uint64_t random_word(const seed *s, bool is_neat) {
    const uint64_t kind = next_random() % (is_neat ? 64 : 8), code = UINT64_C(1) << 56,
                   here = UINT64_C(2) << 56;
    switch (kind) {
    case 0: return next_random();
    case 1:
    case 2: return here | next_random() % STACK_WORDS * 8;
    case 3: return code | (uint32_t)random_address(s);
    default: return code | (uint32_t)random_entry(s);
    }
}

/* A copy of a seed with a stack; of every other one most words are returns to where functions begin. */
static uint8_t *make_input(const seed *s, size_t *size) {
    const bool is_neat = next_random() % 2 == 0;
    const size_t words = is_neat ? STACK_WORDS : next_random() % (STACK_WORDS + 1);
    const prefix start = {
        .address = is_neat ? random_entry(s) : random_address(s),
        .words = (uint32_t)words,
        .sp = (uint8_t)(next_random() % 4),
        .fp = (uint8_t)next_random(),
        .changed = (uint8_t)next_random(),
        .ways = (uint8_t)next_random(),
    };
    *size = s->size + 8 * words;
    uint8_t *input = malloc(*size);
    memcpy(input, s->data, s->size);
    memcpy(input, &start, sizeof start);
    for (size_t i = 0; i < words; i++) {
        const uint64_t word = random_word(s, is_neat);
        memcpy(input + s->size + 8 * i, &word, 8);
    }
    return input;
}

static bool write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    const bool is_written = file != NULL && fwrite(data, 1, size, file) == size;
    if (file == NULL || fclose(file) != 0 || !is_written) {
        perror(path);
        return false;
    }
    return true;
}

/* And their names, with commas between, in the file "list": for -seed_inputs=@FOLDER/list, which leaves the folder as it
 * is. */
static bool write_seeds(const char *folder) {
    enum { WRITTEN = 16 };
    char path[4096], list[WRITTEN * sizeof path];
    size_t listed = 0;
    bool is_written = seed_count != 0;
    for (unsigned i = 0; i < WRITTEN && is_written; i++) {
        snprintf(path, sizeof path, "%s/seed%u", folder, i);
        size_t size;
        uint8_t *input = make_input(&seeds[i % seed_count], &size);
        is_written = write_file(path, input, size);
        free(input);
        listed += (size_t)snprintf(list + listed, sizeof list - listed, "%s%s", i == 0 ? "" : ",", path);
    }
    snprintf(path, sizeof path, "%s/list", folder);
    return is_written && write_file(path, list, listed);
}

/* ---- numbers that are as large as they can be ---- */

#define LEAST 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f  /* as sleb: INT64_MIN */
#define MOST 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00   /* INT64_MAX */
#define EIGHTH 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xf0, 0x7f /* INT64_MIN / 8 */
#define EIGHT 0x88, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00
static const uint8_t data_aligns[][10] = {{LEAST}, {EIGHT}};
static const uint8_t extremes[][40] = {
    {0x2f, MODA_DWARF_FP, 1},                            /* GNU_negative_offset_extended */
    {0x05, MODA_DWARF_FP, 1, 0x05, MODA_DWARF_RA, 0x7f}, /* offset_extended */
    {0x11, MODA_DWARF_RA, LEAST},                        /* offset_extended_sf */
    {0x11, MODA_DWARF_FP, 0x02, 0x11, MODA_DWARF_RA, MOST},
    {0x11, MODA_DWARF_FP, 0x02, 0x11, MODA_DWARF_RA, EIGHTH},
    {0x12, MODA_DWARF_SP, LEAST}, /* def_cfa_sf */
    {0x12, MODA_DWARF_FP, MOST},
    {0x13, LEAST}, /* def_cfa_offset_sf */
    {0x0e, MOST, 0x10, MODA_DWARF_RA, 3, 0x96, 0x23,
     8}, /* def_cfa_offset; the return address by expression */
    {0x0f, 0x0c, 0x70 + MODA_DWARF_SP % 32, LEAST, 0x06},      /* the CFA by expression: *(sp + INT64_MIN) */
    {0x0f, 0x0d, 0x70 + MODA_DWARF_SP % 32, MOST, 0x23, 0x7f}, /* sp + INT64_MAX + 127 */
    {0x0f, 0x19, 0x11, LEAST, 0x11, MOST, 0x1c, 0x25, 0x24},
};

/* Tables of one function at their header, with this program in its CIE. */
static size_t make_extreme(uint8_t *input, const uint8_t *program, const uint8_t *data_align) {
    prefix start = {.address = 4, .words = 0};
    uint8_t *out = input + sizeof start, *p = out;
    const uint8_t header[] = {1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
    memcpy(p, header, sizeof header);
    p += sizeof header + 4; /* where the FDE is */
    uint8_t *const cie = p;
    const uint8_t opening[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, EIGHT, MODA_DWARF_RA, 1, 0x1b};
    memcpy(p, opening, sizeof opening);
    memcpy(p + 13, data_align, sizeof data_aligns[0]);
    p += sizeof opening;
    const uint8_t cfa[] = {0x0c, MODA_DWARF_SP, 8};
    memcpy(p, cfa, sizeof cfa);
    memcpy(p + sizeof cfa, program, sizeof extremes[0]);
    p += sizeof cfa + sizeof extremes[0];
    const uint32_t cie_length = (uint32_t)(p - cie - 4);
    memcpy(cie, &cie_length, 4);
    const int32_t fde_at = (int32_t)(p - out);
    const int32_t fde[] = {13, (int32_t)(p + 4 - cie), -(fde_at + 8), 64};
    memcpy(out + sizeof header, &fde_at, 4);
    memcpy(p, fde, sizeof fde);
    p[sizeof fde] = 0; /* no augmentation data */
    p += sizeof fde + 1;
    memcpy(input, &start, sizeof start);
    return (size_t)(p - input);
}

static unsigned run_extremes(void) {
    unsigned rows = 0;
    for (size_t i = 0; i < sizeof extremes / sizeof extremes[0]; i++) {
        for (int k = 0; k < 2; k++) {
            uint8_t input[256];
            const size_t size = make_extreme(input, extremes[i], data_aligns[k]);
            const uintptr_t tables = (uintptr_t)input + sizeof(prefix);
            const moda_cfi_object object = {tables, tables, (uintptr_t)input + size};
            moda_cfi_rules rules;
            rows += moda_cfi_find(&object, object.header + 4, &rules) == MODA_CFI_FOUND;
            LLVMFuzzerTestOneInput(input, size);
        }
    }
    return rows;
}

/* The undamaged seeds must give rows, or the fuzzing below tests nothing. */
static unsigned count_rows(const seed *s) {
    const moda_cfi_object object = {(uintptr_t)s->data + sizeof(prefix), (uintptr_t)s->data,
                                    (uintptr_t)s->data + s->size};
    unsigned rows = 0;
    uint32_t count;
    memcpy(&count, s->data + sizeof(prefix) + 8, 4);
    for (uint32_t k = 0; k < count; k++) {
        int32_t first;
        memcpy(&first, s->data + sizeof(prefix) + 12 + (size_t)8 * k, 4);
        rows += moda_row_cfa_kind(moda_row_compile(&object, object.header + (uintptr_t)(intptr_t)first))
                <= MODA_CFA_END;
    }
    return rows;
}

int main(int argc, char **argv) {
    dl_iterate_phdr(take_seed, NULL);
    if (argc > 2 && strcmp(argv[1], "-w") == 0) {
        return write_seeds(argv[2]) ? 0 : 1;
    }
    unsigned rows = 0;
    for (unsigned i = 0; i < seed_count; i++) {
        rows += count_rows(&seeds[i]);
    }
    const unsigned found = run_extremes();
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 200000;
    for (long round = 0; round < rounds && seed_count != 0; round++) {
        const seed *s = &seeds[next_random() % seed_count];
        size_t size;
        uint8_t *input = make_input(s, &size);
        damage(input, size);
        const size_t kept =
            next_random() % 4 == 0 ? sizeof(prefix) + 1 + next_random() % (size - sizeof(prefix)) : size;
        LLVMFuzzerTestOneInput(input, kept);
        free(input);
    }
    printf("%u objects, %u rows undamaged, %u extreme; %ld rounds: %lu frames, %lu taken over\n", seed_count,
           rows, found, rounds, frames_walked, frames_reused);
    /* On aarch64 a function's first instructions have their return address in a register. */
    const unsigned long wanted = moda_ra_is_below_cfa ? (unsigned long)rounds : 0;
    const bool is_tested = frames_walked > 4 * wanted && frames_reused >= wanted / 2;
    return seed_count != 0 && rows >= 10 && found == 2 * sizeof extremes / sizeof extremes[0] && is_tested
               ? 0
               : 1;
}
#endif
