/* SPDX-License-Identifier: MIT
 *
 * fuzz_rows.c - the row compiler on damaged unwind tables: nothing may be read outside them.
 *
 * With libFuzzer (clang): LLVMFuzzerTestOneInput. Without: main() damages the tables of its own libc and of
 * the vDSO in a fixed random order, for ROUNDS rounds, under AddressSanitizer; `-w DIR` writes seeds for the fuzzer.
 *
 * Input: 4 bytes where .eh_frame_hdr begins, 4 bytes for the address to look up, then the tables.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/row.h"

enum { PREFIX = 8, LOOKUPS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size <= PREFIX) {
        return 0;
    }
    uint32_t header, address;
    memcpy(&header, data, 4);
    memcpy(&address, data + 4, 4);
    /* A block of its own, so that AddressSanitizer sees the first byte outside. */
    const size_t bytes = size - PREFIX;
    uint8_t *tables = malloc(bytes);
    memcpy(tables, data + PREFIX, bytes);
    const moda_cfi_object object = {
        .header = (uintptr_t)tables + header % bytes,
        .low = (uintptr_t)tables,
        .high = (uintptr_t)tables + bytes,
    };
    for (uint32_t i = 0; i < LOOKUPS; i++) {
        const uintptr_t pc = object.header + (uintptr_t)(intptr_t)((int32_t)address + (int32_t)(i * 13));
        const moda_row row = moda_row_compile(&object, pc);
        if ((row & MODA_ROW_EPOCH_MASK) != 0) {
            abort();
        }
    }
    free(tables);
    return 0;
}

#if !defined(FUZZ_WITH_LIBFUZZER)
#include <link.h>

typedef struct seed {
    uint8_t *data;
    size_t size;
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
        s->size = PREFIX + bytes;
        s->data = calloc(1, s->size);
        /* header with `kept` entries, and behind it the records that they name, moved */
        uint8_t *out = s->data + PREFIX;
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
        s->size = PREFIX + used;
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
        const size_t at = PREFIX + (size_t)(r >> 32) % (size - PREFIX);
        const uint8_t one_bit_off = (uint8_t)(data[at] ^ (1u << (r >> 8 & 7)));
        data[at] = (r & 3) == 0 ? (uint8_t)(r >> 8) : (r & 3) == 1 ? UINT8_MAX : one_bit_off;
    }
}

static void write_seeds(const char *folder) {
    for (unsigned i = 0; i < seed_count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/seed%u", folder, i);
        FILE *file = fopen(path, "wb");
        if (file != NULL) {
            fwrite(seeds[i].data, 1, seeds[i].size, file);
            fclose(file);
        }
    }
}

/* The undamaged seeds must give rows, or the fuzzing below tests nothing. */
static unsigned count_rows(const seed *s) {
    const moda_cfi_object object = {(uintptr_t)s->data + PREFIX, (uintptr_t)s->data,
                                    (uintptr_t)s->data + s->size};
    unsigned rows = 0;
    uint32_t count;
    memcpy(&count, s->data + PREFIX + 8, 4);
    for (uint32_t k = 0; k < count; k++) {
        int32_t first;
        memcpy(&first, s->data + PREFIX + 12 + (size_t)8 * k, 4);
        rows += moda_row_cfa_kind(moda_row_compile(&object, object.header + (uintptr_t)(intptr_t)first))
                <= MODA_CFA_END;
    }
    return rows;
}

int main(int argc, char **argv) {
    dl_iterate_phdr(take_seed, NULL);
    if (argc > 2 && strcmp(argv[1], "-w") == 0) {
        write_seeds(argv[2]);
        return 0;
    }
    unsigned rows = 0;
    for (unsigned i = 0; i < seed_count; i++) {
        rows += count_rows(&seeds[i]);
    }
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 200000;
    for (long round = 0; round < rounds && seed_count != 0; round++) {
        const seed *s = &seeds[next_random() % seed_count];
        uint8_t *copy = malloc(s->size);
        memcpy(copy, s->data, s->size);
        damage(copy, s->size);
        const uint32_t span = (uint32_t)(s->last - s->first) + 64;
        const int32_t address = s->first + (int32_t)((uint32_t)next_random() % span);
        memcpy(copy + 4, &address, 4);
        const size_t kept =
            next_random() % 4 == 0 ? PREFIX + 1 + next_random() % (s->size - PREFIX) : s->size;
        LLVMFuzzerTestOneInput(copy, kept);
        free(copy);
    }
    printf("%u objects, %u rows undamaged, %ld rounds\n", seed_count, rows, rounds);
    return seed_count != 0 && rows >= 10 ? 0 : 1;
}
#endif
