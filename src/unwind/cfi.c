/* SPDX-License-Identifier: MIT
 *
 * cfi.c - reads .eh_frame: for one address, the rules that find its caller's registers.
 *
 * Called on a row cache miss, so some thousand times in a program's life. The format is that of the Linux
 * Standard Base (core, chapter "DWARF Extensions") and DWARF 5 section 6.4.
 *
 *   .eh_frame_hdr: sorted (address, FDE) table --> FDE --> CIE
 *   rules of the address = CIE's program, then the FDE's up to the address
 *
 * Laws
 *   1. nothing is read outside [low, high) of the object.
 *   2. each loop is bounded: 65,536 opcodes, 8 remembered states, 10 bytes a LEB128.
 *   3. what is not understood is DAMAGED: a wrong row is worse than none.
 */
#include "unwind/cfi.h"

#include <string.h>

enum {
    OPCODES_MAX = 65536, /* one function of cc1 needs 9,000 */
    REMEMBERED_MAX = 8,
    FAR_APART = 16, /* entries of .eh_frame_hdr: two cache lines */

    ENC_OMIT = 0xff,
    ENC_FORMAT = 0x0f,
    ENC_BASE = 0x70,
    ENC_PCREL = 0x10,
    ENC_DATAREL = 0x30,
    ENC_INDIRECT = 0x80,
    HDR_TABLE_ENCODING = 0x3b /* datarel | sdata4: what every linker writes */
};

/* DW_CFA_* */
enum {
    CFA_advance_loc = 0x40,
    CFA_offset = 0x80,
    CFA_restore = 0xc0,
    CFA_nop = 0x00,
    CFA_set_loc = 0x01,
    CFA_advance_loc1 = 0x02,
    CFA_advance_loc2 = 0x03,
    CFA_advance_loc4 = 0x04,
    CFA_offset_extended = 0x05,
    CFA_restore_extended = 0x06,
    CFA_undefined = 0x07,
    CFA_same_value = 0x08,
    CFA_register = 0x09,
    CFA_remember_state = 0x0a,
    CFA_restore_state = 0x0b,
    CFA_def_cfa = 0x0c,
    CFA_def_cfa_register = 0x0d,
    CFA_def_cfa_offset = 0x0e,
    CFA_def_cfa_expression = 0x0f,
    CFA_expression = 0x10,
    CFA_offset_extended_sf = 0x11,
    CFA_def_cfa_sf = 0x12,
    CFA_def_cfa_offset_sf = 0x13,
    CFA_val_offset = 0x14,
    CFA_val_offset_sf = 0x15,
    CFA_val_expression = 0x16,
    CFA_AARCH64_negate_ra_state_with_pc = 0x2c,
    CFA_AARCH64_negate_ra_state = 0x2d, /* on other machines GNU_window_save; no operand either */
    CFA_GNU_args_size = 0x2e,
    CFA_GNU_negative_offset_extended = 0x2f
};

typedef struct cie {
    uint64_t code_align;
    int64_t data_align;
    uint8_t address_encoding;
    bool has_augmentation_data;
    bool is_signal_frame;
    moda_cfi_cursor program;
} cie;

typedef struct fde {
    uintptr_t first, last; /* addresses it covers, last included */
    moda_cfi_cursor program;
} fde;

typedef struct machine {
    moda_cfi_rules now;
    moda_cfi_rules initial; /* what the CIE's program left: restore goes back to it */
    moda_cfi_rules remembered[REMEMBERED_MAX];
    uint32_t remembered_count;
    uintptr_t address; /* from which `now` is valid */
} machine;

uint64_t moda_cfi_fixed(moda_cfi_cursor *cursor, size_t bytes) {
    if (cursor->is_bad || (size_t)(cursor->end - cursor->at) < bytes) {
        cursor->is_bad = true;
        return 0;
    }
    uint64_t value = 0;
    memcpy(&value, cursor->at, bytes); /* both machines are little-endian */
    cursor->at += bytes;
    return value;
}

int64_t moda_cfi_signed(moda_cfi_cursor *cursor, size_t bytes) {
    const unsigned shift = (unsigned)(64 - 8 * bytes);
    return (int64_t)(moda_cfi_fixed(cursor, bytes) << shift) >> shift;
}

static uint64_t read_leb(moda_cfi_cursor *cursor, bool is_signed) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint64_t byte = moda_cfi_fixed(cursor, 1);
        if (shift < 64) {
            value |= (byte & 0x7f) << shift;
        }
        if ((byte & 0x80) == 0) {
            if (is_signed && (byte & 0x40) != 0 && shift + 7 < 64) {
                value |= ~(uint64_t)0 << (shift + 7);
            }
            return value;
        }
    }
    cursor->is_bad = true;
    return 0;
}

uint64_t moda_cfi_uleb(moda_cfi_cursor *cursor) {
    return read_leb(cursor, false);
}

int64_t moda_cfi_sleb(moda_cfi_cursor *cursor) {
    return (int64_t)read_leb(cursor, true);
}

static const uint8_t *skip(moda_cfi_cursor *cursor, uint64_t bytes) {
    const uint8_t *start = cursor->at;
    if (cursor->is_bad || bytes > (uint64_t)(cursor->end - cursor->at)) {
        cursor->is_bad = true;
        return start;
    }
    cursor->at += bytes;
    return start;
}

static moda_cfi_cursor cursor_at(const moda_cfi_object *object, uintptr_t at) {
    const bool is_inside = at >= object->low && at <= object->high;
    const uintptr_t start = is_inside ? at : object->low;
    return (moda_cfi_cursor){
        .at = (const uint8_t *)start,
        .end = (const uint8_t *)object->high,
        .is_bad = !is_inside,
    };
}

/* A value in one of DWARF's pointer formats, without its base. */
static uint64_t read_format(moda_cfi_cursor *cursor, uint8_t format) {
    switch (format) {
    case 0x00: /* absptr */
    case 0x04: /* udata8 */
    case 0x0c: /* sdata8 */ return moda_cfi_fixed(cursor, 8);
    case 0x01: return moda_cfi_uleb(cursor);
    case 0x02: return moda_cfi_fixed(cursor, 2);
    case 0x03: return moda_cfi_fixed(cursor, 4);
    case 0x09: return (uint64_t)moda_cfi_sleb(cursor);
    case 0x0a: return (uint64_t)moda_cfi_signed(cursor, 2);
    case 0x0b: return (uint64_t)moda_cfi_signed(cursor, 4);
    default: cursor->is_bad = true; return 0;
    }
}

static uintptr_t read_address(moda_cfi_cursor *cursor, uint8_t encoding, const moda_cfi_object *object) {
    const uintptr_t field = (uintptr_t)cursor->at;
    const uintptr_t value = read_format(cursor, encoding & ENC_FORMAT);
    switch (encoding & (ENC_BASE | ENC_INDIRECT)) {
    case 0: return value;
    case ENC_PCREL: return field + value;
    case ENC_DATAREL: return object->header + value;
    default: cursor->is_bad = true; return 0;
    }
}

/* Opens the record (CIE or FDE) at an address: the cursor covers what follows its length. */
static moda_cfi_cursor open_record(const moda_cfi_object *object, uintptr_t at) {
    moda_cfi_cursor record = cursor_at(object, at);
    uint64_t length = moda_cfi_fixed(&record, 4);
    if (length == 0xffffffff) {
        length = moda_cfi_fixed(&record, 8);
    }
    if (length == 0 || length > (uint64_t)(record.end - record.at)) {
        record.is_bad = true;
    } else {
        record.end = record.at + length;
    }
    return record;
}

static bool read_augmentation(moda_cfi_cursor *cursor, const char *text, const char *text_end, cie *out) {
    if (text == text_end) {
        return true;
    }
    if (*text != 'z') {
        return false;
    }
    const uint64_t length = moda_cfi_uleb(cursor);
    moda_cfi_cursor data = *cursor;
    skip(cursor, length);
    if (cursor->is_bad) {
        return false;
    }
    data.end = cursor->at;
    out->has_augmentation_data = true;
    for (text++; text < text_end; text++) {
        if (*text == 'R') {
            out->address_encoding = (uint8_t)moda_cfi_fixed(&data, 1);
        } else if (*text == 'L') {
            moda_cfi_fixed(&data, 1);
        } else if (*text == 'P') {
            read_format(&data, (uint8_t)moda_cfi_fixed(&data, 1) & ENC_FORMAT);
        } else if (*text == 'S') {
            out->is_signal_frame = true;
        } else if (*text != 'B' && *text != 'G') { /* aarch64: second key, tagged stack */
            return false;
        }
    }
    return !data.is_bad;
}

static bool read_cie(const moda_cfi_object *object, uintptr_t at, cie *out) {
    moda_cfi_cursor record = open_record(object, at);
    if (moda_cfi_fixed(&record, 4) != 0) {
        return false;
    }
    const uint64_t version = moda_cfi_fixed(&record, 1);
    const char *text = (const char *)record.at;
    uint64_t letter = 1;
    while (letter != 0 && !record.is_bad) {
        letter = moda_cfi_fixed(&record, 1);
    }
    if (record.is_bad || (version != 1 && version != 3)) {
        return false;
    }
    const char *text_end = (const char *)record.at - 1;
    memset(out, 0, sizeof *out);
    out->code_align = moda_cfi_uleb(&record);
    out->data_align = moda_cfi_sleb(&record);
    const uint64_t return_register = version == 1 ? moda_cfi_fixed(&record, 1) : moda_cfi_uleb(&record);
    if (return_register != MODA_DWARF_RA) {
        return false;
    }
    if (!read_augmentation(&record, text, text_end, out)) {
        return false;
    }
    out->program = record;
    return !record.is_bad;
}

static bool read_fde(const moda_cfi_object *object, uintptr_t at, fde *out, cie *parent) {
    moda_cfi_cursor record = open_record(object, at);
    const uintptr_t field = (uintptr_t)record.at;
    const uint64_t distance = moda_cfi_fixed(&record, 4);
    if (record.is_bad || distance == 0 || distance > field || !read_cie(object, field - distance, parent)) {
        return false;
    }
    out->first = read_address(&record, parent->address_encoding, object);
    const uint64_t length = read_format(&record, parent->address_encoding & ENC_FORMAT);
    if (length == 0) {
        return false;
    }
    out->last = out->first + length - 1;
    if (parent->has_augmentation_data) {
        skip(&record, moda_cfi_uleb(&record));
    }
    out->program = record;
    return !record.is_bad && out->last >= out->first;
}

/* The FDE that the sorted table names for an address, or 0. */
static moda_cfi_result search_header(const moda_cfi_object *object, uintptr_t pc, uintptr_t *fde_address) {
    moda_cfi_cursor header = cursor_at(object, object->header);
    const uint64_t version = moda_cfi_fixed(&header, 1);
    const uint8_t frame_encoding = (uint8_t)moda_cfi_fixed(&header, 1);
    const uint8_t count_encoding = (uint8_t)moda_cfi_fixed(&header, 1);
    const uint64_t table_encoding = moda_cfi_fixed(&header, 1);
    if (header.is_bad || version != 1) {
        return MODA_CFI_DAMAGED;
    }
    if (frame_encoding == ENC_OMIT || count_encoding == ENC_OMIT || table_encoding != HDR_TABLE_ENCODING) {
        return MODA_CFI_NONE;
    }
    read_format(&header, frame_encoding & ENC_FORMAT);
    const uint64_t count = read_format(&header, count_encoding & ENC_FORMAT);
    if (header.is_bad || count > (uint64_t)(header.end - header.at) / 8) {
        return MODA_CFI_DAMAGED;
    }

    const uint8_t *table = header.at;
    const int64_t wanted = (int64_t)(pc - object->header);
    uint64_t low = 0, high = count; /* entries below `low` begin at or before pc */
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (high - low
            > FAR_APART) { /* the two that may be next are asked for while this one is waited for */
            __builtin_prefetch(table + 8 * (middle - (high - low) / 4));
            __builtin_prefetch(table + 8 * (middle + (high - low) / 4));
        }
        int32_t first;
        memcpy(&first, table + 8 * middle, sizeof first);
        if (first <= wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return MODA_CFI_NONE;
    }
    int32_t offset;
    memcpy(&offset, table + 8 * (low - 1) + 4, sizeof offset);
    *fde_address = object->header + (uintptr_t)(intptr_t)offset;
    return MODA_CFI_FOUND;
}

static void set_rule(machine *m, uint64_t reg, moda_cfi_rule rule) {
    const int index = moda_tracked_index(reg);
    if (index >= 0) {
        m->now.reg[index] = rule;
    }
}

static moda_cfi_rule plain_rule(moda_cfi_kind kind) {
    return (moda_cfi_rule){.kind = (uint8_t)kind};
}

static moda_cfi_rule offset_rule(int64_t offset) {
    return (moda_cfi_rule){.at.offset = offset, .kind = MODA_CFI_OFFSET};
}

static moda_cfi_rule read_expression(moda_cfi_cursor *cursor) {
    const uint64_t length = moda_cfi_uleb(cursor);
    const uint8_t *expression = skip(cursor, length);
    return (moda_cfi_rule){
        .at.expression = expression,
        .expression_length = (uint32_t)length,
        .kind = MODA_CFI_EXPRESSION,
    };
}

static void restore_rule(machine *m, uint64_t reg) {
    const int index = moda_tracked_index(reg);
    if (index >= 0) {
        m->now.reg[index] = m->initial.reg[index];
    }
}

static bool remember(machine *m) {
    if (m->remembered_count == REMEMBERED_MAX) {
        return false;
    }
    m->remembered[m->remembered_count++] = m->now;
    return true;
}

static bool recall(machine *m) {
    if (m->remembered_count == 0) {
        return false;
    }
    m->now = m->remembered[--m->remembered_count];
    return true;
}

static void define_cfa(machine *m, uint64_t reg, int64_t offset) {
    m->now.cfa = offset_rule(offset);
    m->now.cfa_register = reg < 256 ? (uint32_t)reg : 255;
}

static int64_t scaled(const cie *parent, uint64_t factored) {
    return (int64_t)(factored * (uint64_t)parent->data_align);
}

/* One opcode that says something about registers. False: not understood. */
static bool run_rule_opcode(machine *m, moda_cfi_cursor *p, const cie *parent, uint64_t opcode) {
    uint64_t reg;
    switch (opcode) {
    case CFA_nop:
    case CFA_AARCH64_negate_ra_state: /* authentication bits are stripped from each address anyway */
    case CFA_AARCH64_negate_ra_state_with_pc: return true;
    case CFA_GNU_args_size: moda_cfi_uleb(p); return true;
    case CFA_remember_state: return remember(m);
    case CFA_restore_state: return recall(m);
    case CFA_def_cfa:
        reg = moda_cfi_uleb(p);
        define_cfa(m, reg, (int64_t)moda_cfi_uleb(p));
        return true;
    case CFA_def_cfa_sf:
        reg = moda_cfi_uleb(p);
        define_cfa(m, reg, scaled(parent, (uint64_t)moda_cfi_sleb(p)));
        return true;
    case CFA_def_cfa_register: define_cfa(m, moda_cfi_uleb(p), m->now.cfa.at.offset); return true;
    case CFA_def_cfa_offset: m->now.cfa = offset_rule((int64_t)moda_cfi_uleb(p)); return true;
    case CFA_def_cfa_offset_sf:
        m->now.cfa = offset_rule(scaled(parent, (uint64_t)moda_cfi_sleb(p)));
        return true;
    case CFA_def_cfa_expression: m->now.cfa = read_expression(p); return true;
    case CFA_offset_extended:
        reg = moda_cfi_uleb(p);
        set_rule(m, reg, offset_rule(scaled(parent, moda_cfi_uleb(p))));
        return true;
    case CFA_offset_extended_sf:
        reg = moda_cfi_uleb(p);
        set_rule(m, reg, offset_rule(scaled(parent, (uint64_t)moda_cfi_sleb(p))));
        return true;
    case CFA_GNU_negative_offset_extended:
        reg = moda_cfi_uleb(p);
        set_rule(m, reg, offset_rule(scaled(parent, -moda_cfi_uleb(p)))); /* unsigned: it may be INT64_MIN */
        return true;
    case CFA_restore_extended: restore_rule(m, moda_cfi_uleb(p)); return true;
    case CFA_undefined: set_rule(m, moda_cfi_uleb(p), plain_rule(MODA_CFI_UNDEFINED)); return true;
    case CFA_same_value: set_rule(m, moda_cfi_uleb(p), plain_rule(MODA_CFI_SAME)); return true;
    case CFA_expression:
        reg = moda_cfi_uleb(p);
        set_rule(m, reg, read_expression(p));
        return true;
    case CFA_val_expression:
        reg = moda_cfi_uleb(p);
        read_expression(p);
        set_rule(m, reg, plain_rule(MODA_CFI_OTHER));
        return true;
    case CFA_register:
    case CFA_val_offset:
    case CFA_val_offset_sf: /* a LEB128's length does not depend on its sign */
        reg = moda_cfi_uleb(p);
        moda_cfi_uleb(p);
        set_rule(m, reg, plain_rule(MODA_CFI_OTHER));
        return true;
    default: return false;
    }
}

/* Runs a program up to the row that covers pc. */
static bool run_program(machine *m, moda_cfi_cursor p, const cie *parent, const moda_cfi_object *object,
                        uintptr_t pc) {
    for (uint32_t steps = 0; p.at < p.end; steps++) {
        if (steps == OPCODES_MAX) {
            return false;
        }
        const uint64_t opcode = moda_cfi_fixed(&p, 1);
        const uint64_t low_bits = opcode & 0x3f;
        uintptr_t next = m->address;
        if ((opcode & 0xc0) == CFA_advance_loc) {
            next += low_bits * parent->code_align;
        } else if ((opcode & 0xc0) == CFA_offset) {
            set_rule(m, low_bits, offset_rule(scaled(parent, moda_cfi_uleb(&p))));
        } else if ((opcode & 0xc0) == CFA_restore) {
            restore_rule(m, low_bits);
        } else if (opcode == CFA_advance_loc1) {
            next += moda_cfi_fixed(&p, 1) * parent->code_align;
        } else if (opcode == CFA_advance_loc2) {
            next += moda_cfi_fixed(&p, 2) * parent->code_align;
        } else if (opcode == CFA_advance_loc4) {
            next += moda_cfi_fixed(&p, 4) * parent->code_align;
        } else if (opcode == CFA_set_loc) {
            next = read_address(&p, parent->address_encoding, object);
        } else if (!run_rule_opcode(m, &p, parent, opcode)) {
            return false;
        }
        if (p.is_bad) {
            return false;
        }
        if (next > pc) {
            return true;
        }
        m->address = next;
    }
    return true;
}

moda_cfi_result moda_cfi_find(const moda_cfi_object *object, uintptr_t pc, moda_cfi_rules *rules) {
    uintptr_t fde_address = 0;
    const moda_cfi_result found = search_header(object, pc, &fde_address);
    if (found != MODA_CFI_FOUND) {
        return found;
    }
    cie parent;
    fde entry;
    if (!read_fde(object, fde_address, &entry, &parent)) {
        return MODA_CFI_DAMAGED;
    }
    if (pc < entry.first || pc > entry.last) {
        return MODA_CFI_NONE;
    }

    machine m;
    memset(&m.now, 0, sizeof m.now);
    m.now.cfa = plain_rule(MODA_CFI_OTHER);
    m.now.is_signal_frame = parent.is_signal_frame;
    m.remembered_count = 0;
    m.address = entry.first;
    memcpy(&m.initial, &m.now, sizeof m.initial);
    if (!run_program(&m, parent.program, &parent, object, UINTPTR_MAX)) {
        return MODA_CFI_DAMAGED;
    }
    memcpy(&m.initial, &m.now, sizeof m.initial);
    m.address = entry.first;
    if (!run_program(&m, entry.program, &parent, object, pc)) {
        return MODA_CFI_DAMAGED;
    }
    memcpy(rules, &m.now, sizeof *rules);
    return MODA_CFI_FOUND;
}
