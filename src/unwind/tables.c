/* SPDX-License-Identifier: MIT
 *
 * tables.c - walks a stack by unwind tables: right on code built without frame pointers.
 *
 * Called by select.c while a sampled malloc is in flight. A warm frame costs two dependent loads, the row
 * and the return address: about 7 ns. Reads only rows and words of the stack range (stack.h).
 *
 * The incremental walk keeps the thread's last one. Where the walk in progress meets a frame of it with the
 * same sp, pc and fp, the rest of the last walk holds if the words it was read from still hold the same:
 * loads that do not wait for each other, 1 to 2 ns a frame. That is exact: a walk is a function of these
 * words and of the rows, and rows of another epoch are not compared.
 *
 *   last    [ head ............ j ........ k ........ ]   j: meets the new walk; up to k: words unchanged
 *   fresh   [ new inner frames, j's ]
 *
 * Only on the thread's own stack: others may have been unmapped between two walks.
 */
#include "unwind/walk.h"

#include <string.h>

typedef enum outcome { STEPPED, ENDED, UNKNOWN, BROKEN } outcome;

/* ---- one step ---- */

MODA_INLINE bool is_plain(moda_row row) {
    return (row & MODA_ROW_SPECIAL_MASK) == 0;
}

/* Whether the two words that a plain step reads are where verify() looks for them. */
MODA_INLINE bool is_verified_by_two_loads(moda_row row) {
    return moda_ra_is_below_cfa
           || (moda_row_fp_kind(row) == MODA_FP_AT_CFA
               && moda_row_ra_offset(row) == moda_row_fp_offset(row) + 8);
}

/* A row that needs two loads at most. */
MODA_INLINE bool step_plain(moda_walk_state *s, moda_registers *r, moda_row row) {
    const uintptr_t base = (row & MODA_CFA_FP) != 0 ? r->fp : r->sp;
    const uintptr_t cfa = base + (uintptr_t)moda_row_cfa_offset(row);
    if (moda_unlikely(cfa - r->sp - 8 >= (uintptr_t)1 << 40 || (cfa & 7) != 0
                      || !moda_stack_reaches(&s->range, cfa))) {
        return false;
    }
    const uintptr_t ra_slot = moda_ra_is_below_cfa ? cfa - 8 : cfa + (uintptr_t)moda_row_ra_offset(row);
    if (!moda_ra_is_below_cfa && moda_unlikely(ra_slot < r->sp || ra_slot > s->range.high - 8)) {
        return false;
    }
    if (moda_row_fp_kind(row) != MODA_FP_SAME) {
        const uintptr_t slot = cfa + (uintptr_t)moda_row_fp_offset(row);
        if (moda_unlikely(slot + MODA_RED_ZONE_BYTES < r->sp || slot > s->range.high - 8)) {
            return false;
        }
        r->fp = moda_stack_load(slot);
        r->fp_slot = slot;
    }
    r->pc = moda_strip_authentication(moda_stack_load(ra_slot));
    r->sp = cfa;
    r->is_exact = false;
    return true;
}

/* Whether the word at an address may be read: above the red zone, in the range. */
static bool is_readable(moda_walk_state *s, const moda_registers *r, uintptr_t address) {
    return address % 8 == 0 && address + MODA_RED_ZONE_BYTES >= r->sp && address + 8 > address
           && moda_stack_reaches(&s->range, address + 8);
}

MODA_READS_STACKS static bool load_special_fp(moda_walk_state *s, const moda_registers *r, moda_row row,
                                              uintptr_t cfa, moda_registers *caller) {
    const unsigned kind = moda_row_fp_kind(row);
    if (kind == MODA_FP_SAME) {
        return true;
    }
    const uintptr_t base = kind == MODA_FP_AT_CFA ? cfa : kind == MODA_FP_AT_FP ? r->fp : r->sp;
    caller->fp_slot = base + (uintptr_t)moda_row_fp_offset(row);
    if (!is_readable(s, r, caller->fp_slot)) {
        return false;
    }
    caller->fp = moda_stack_load(caller->fp_slot);
    return true;
}

/* Whether the walk may go on at the caller's sp: upwards, or at a signal frame on another stack. */
static bool goes_on_at(moda_walk_state *s, const moda_registers *r, uintptr_t sp, bool is_signal) {
    if (sp > r->sp && moda_stack_reaches(&s->range, sp)) {
        return true;
    }
    return is_signal && moda_stack_switch(s->own, sp, false, &s->range);
}

/* aarch64: interrupted before x30 was saved, or in a function that never saves it. */
MODA_READS_STACKS static bool step_leaf(moda_walk_state *s, moda_registers *r, moda_row row, uintptr_t cfa) {
    if (!r->is_exact || r->ra == 0 || cfa % 8 != 0 || cfa < r->sp || !moda_stack_reaches(&s->range, cfa)
        || !load_special_fp(s, r, row, cfa, r)) {
        return false;
    }
    r->pc = r->ra;
    r->sp = cfa;
    r->is_exact = false;
    return true;
}

/* Any row that has a CFA: realigned stacks, signal frames, interrupted functions. */
MODA_READS_STACKS static bool step_special(moda_walk_state *s, moda_registers *r, moda_row row) {
    const unsigned kind = moda_row_cfa_kind(row);
    const bool is_signal = (row & MODA_ROW_SIGNAL) != 0;
    uintptr_t cfa = ((kind & 1) != 0 ? r->fp : r->sp) + (uintptr_t)moda_row_cfa_offset(row);
    uintptr_t ra_slot = cfa + 8; /* MODA_RA_NEXT */
    if (kind >= MODA_CFA_AT_SP) {
        if (!is_readable(s, r, cfa)) {
            return false;
        }
        cfa = moda_stack_load(cfa);
    }
    moda_registers caller = *r;
    if (moda_row_ra_kind(row) == MODA_RA_IN_REGISTER) {
        return step_leaf(s, r, row, cfa);
    }
    if (moda_row_ra_kind(row) == MODA_RA_AT_CFA) {
        ra_slot = cfa + (uintptr_t)(moda_ra_is_below_cfa ? -8 : moda_row_ra_offset(row));
    }
    if (cfa % 8 != 0 || !is_readable(s, r, ra_slot) || !load_special_fp(s, r, row, cfa, &caller)) {
        return false;
    }
    caller.pc = moda_strip_authentication(moda_stack_load(ra_slot));
    caller.sp = cfa;
    caller.is_exact = is_signal;
    if (!goes_on_at(s, r, cfa, is_signal)) {
        return false;
    }
    *r = caller;
    return true;
}

/* aarch64: the frame of the kernel's sigreturn code, which has no tables. */
MODA_READS_STACKS static bool step_bare_sigreturn(moda_walk_state *s, moda_registers *r) {
    uint32_t code[2];
    if (!moda_has_bare_sigreturn || r->pc % 4 != 0 || !moda_stack_page_is_readable(r->pc)
        || (r->pc + 4) % MODA_PAGE_BYTES == 0) {
        return false;
    }
    memcpy(code, (const void *)r->pc, sizeof code);
    if (memcmp(code, moda_sigreturn_code, sizeof code) != 0 || !is_readable(s, r, r->sp + MODA_SIGFRAME_PC)) {
        return false;
    }
    const moda_registers caller = {
        .pc = moda_stack_load(r->sp + MODA_SIGFRAME_PC),
        .sp = moda_stack_load(r->sp + MODA_SIGFRAME_SP),
        .fp = moda_stack_load(r->sp + MODA_SIGFRAME_FP),
        .fp_slot = r->sp + MODA_SIGFRAME_FP,
        .ra = moda_strip_authentication(moda_stack_load(r->sp + MODA_SIGFRAME_RA)),
        .is_exact = true,
    };
    if (!goes_on_at(s, r, caller.sp, true)) {
        return false;
    }
    *r = caller;
    return true;
}

/* aarch64, interrupted in code without tables: in the PLT, most likely, where x30 is the return address. */
static bool guess_leaf(moda_registers *r) {
    if (!r->is_exact || r->ra < MODA_PAGE_BYTES) {
        return false;
    }
    r->pc = r->ra;
    r->is_exact = false;
    return true;
}

/* aarch64: a frame record lies at the bottom of its frame, so that the one gone by does not say where the caller's sp
 * was, fp + 16 at the lowest. The caller's own record does, if its row tells where in the frame that lies. If not, and
 * sp is needed, it stays marked by its lowest bit as a bound. */
static void settle_sp(moda_walk_state *s, moda_registers *r) {
    const moda_row row = moda_row_lookup(&s->view, r->pc - 1);
    const unsigned kind = moda_row_cfa_kind(row);
    if (kind == MODA_CFA_SP && moda_row_fp_kind(row) == MODA_FP_AT_CFA
        && moda_row_ra_kind(row) == MODA_RA_AT_CFA && r->fp % 8 == 0) {
        const uintptr_t sp = r->fp - (uintptr_t)(moda_row_fp_offset(row) + moda_row_cfa_offset(row));
        r->sp = sp >= r->sp && moda_stack_reaches(&s->range, sp) ? sp : r->sp | 1;
    } else if (kind == MODA_CFA_SP || kind == MODA_CFA_AT_SP) {
        r->sp |= 1;
    }
}

/* A step that failed: of a wrong stack, or for want of an sp. */
MODA_INLINE outcome failed(const moda_registers *r) {
    return !moda_ra_is_below_cfa && (r->sp & 1) != 0 ? UNKNOWN : BROKEN;
}

MODA_READS_STACKS static outcome guess(moda_walk_state *s, moda_registers *r) {
    if (step_bare_sigreturn(s, r)) {
        return STEPPED;
    }
    if (!s->may_guess) {
        return UNKNOWN;
    }
    moda_registers caller = *r;
    if (!guess_leaf(&caller)) {
        if (!moda_frame_pointer_step(&s->range, &caller) || !moda_row_cache_may_return_to(caller.pc)) {
            return UNKNOWN;
        }
        if (!moda_ra_is_below_cfa) {
            settle_sp(s, &caller);
        }
    }
    *r = caller;
    if (s->guessed < UINT8_MAX) {
        s->guessed++;
    }
    return STEPPED;
}

/* The dynamic loader's first instructions, which call constructors before main. Their code has no table (x86-64), but where
 * they call from, the stack is as the kernel began it, and it has no other frame further out. */
static bool is_start_of_process(const moda_walk_state *s) {
    const moda_registers *r = &s->at;
    return r->sp == s->range.high && s->range.is_own && s->own->is_main && !r->is_exact
           && moda_row_cache_is_in_loader(r->pc - 1) && moda_row_cache_may_return_to(r->pc);
}

/* A return address of 0 is no frame: who made the stack (Ruby of its fibers) has marked so where it ends, as libgcc and gdb
 * take it, too. Behind a guess it may be any word of the stack. */
static bool is_past_the_end(const moda_walk_state *s) {
    return s->at.pc == 0 && !s->at.is_exact && s->guessed == 0;
}

/* Its function is called by nobody. What it returns to has a table that begins there: asked first, since it is cheaper. */
static bool is_start_of_coroutine(const moda_walk_state *s) {
    return !s->at.is_exact && moda_row_cfa_kind(moda_row_lookup(&s->view, s->at.pc)) != MODA_CFA_NO_TABLE
           && moda_is_end_of_coroutine(s->at.pc);
}

static bool ends_without_table(const moda_walk_state *s) {
    return is_past_the_end(s) || is_start_of_process(s) || is_start_of_coroutine(s);
}

/* Whether s->at is the outermost frame. */
MODA_COLD static bool is_outermost(const moda_walk_state *s, moda_row row) {
    const unsigned kind = moda_row_cfa_kind(row);
    return kind == MODA_CFA_END || (kind == MODA_CFA_NO_TABLE && ends_without_table(s));
}

/* Any row but a plain one: from s->at to s->at. */
MODA_NOINLINE MODA_READS_STACKS static outcome step_by(moda_walk_state *s, moda_row row) {
    moda_registers *r = &s->at;
    switch (moda_row_cfa_kind(row)) {
    case MODA_CFA_END: return ENDED;
    case MODA_CFA_NO_TABLE: return ends_without_table(s) ? ENDED : guess(s, r);
    case MODA_CFA_REGISTER: return moda_registers_step(s) ? STEPPED : UNKNOWN;
    case MODA_CFA_OPAQUE: return UNKNOWN;
    default: return step_special(s, r, row) ? STEPPED : failed(r);
    }
}

MODA_INLINE void store(moda_walk_state *s, const moda_registers *r) {
    s->at.pc = r->pc;
    __asm__("" : : : "memory");
    s->at.sp = r->sp;
    __asm__("" : : : "memory");
    s->at.fp = r->fp;
    __asm__("" : : : "memory");
    s->at.fp_slot = r->fp_slot;
    if (!moda_ra_is_below_cfa) {
        s->at.ra = r->ra;
    }
    s->at.is_exact = r->is_exact;
}

MODA_INLINE void load(const moda_walk_state *s, moda_registers *r) {
    r->pc = s->at.pc;
    __asm__("" : : : "memory");
    r->sp = s->at.sp;
    __asm__("" : : : "memory");
    r->fp = s->at.fp;
    __asm__("" : : : "memory");
    r->fp_slot = s->at.fp_slot;
    r->ra = moda_ra_is_below_cfa ? 0 : s->at.ra;
    r->is_exact = s->at.is_exact;
}

/* One step. `r` is in machine registers, one by one: in memory, or in vectors as gcc packs a struct that is
 * copied as a whole, each frame would wait 3 ns longer for the one before. */
MODA_INLINE outcome step(moda_walk_state *s, moda_registers *r, moda_row row) {
    if (moda_likely(is_plain(row))) {
        return moda_likely(step_plain(s, r, row)) ? STEPPED : failed(r);
    }
    store(s, r);
    const outcome o = step_by(s, row);
    load(s, r);
    return o;
}

MODA_INLINE moda_row row_of(const moda_walk_state *s, const moda_registers *r) {
    return moda_row_lookup(&s->view, r->pc - (r->is_exact ? 0 : 1));
}

/* What a frame is to remember of the step that leads to it. */
MODA_INLINE uintptr_t bits_of(moda_row row) {
    if (moda_unlikely(!is_plain(row) || !is_verified_by_two_loads(row))) {
        return MODA_FRAME_SPECIAL | MODA_FRAME_BY_FP;
    }
    return (row & MODA_CFA_FP) != 0 ? MODA_FRAME_BY_FP : 0;
}

/* ---- a walk that keeps nothing ---- */

static moda_walk ended(const moda_walk_state *s, outcome o, uint32_t count) {
    static const uint8_t end_of[] = {
        [STEPPED] = MOD_ALLOC_WALK_CUT, /* could have gone on */
        [ENDED] = MOD_ALLOC_WALK_COMPLETE,
        [UNKNOWN] = MOD_ALLOC_WALK_UNKNOWN,
        [BROKEN] = MOD_ALLOC_WALK_BROKEN,
    };
    const bool is_guessed = o == ENDED && s->guessed != 0;
    return (moda_walk){
        .count = count,
        .end = is_guessed ? MOD_ALLOC_WALK_GUESSED : end_of[o],
        .guessed = s->guessed,
    };
}

/* Where a program compiled with -fsplit-stack went on in another part of its stack, back to the older one: by a row of a
 * shape that nothing else has, at its one call. */
MODA_COLD MODA_READS_STACKS static bool step_to_older_part(moda_walk_state *s) {
    moda_registers *r = &s->at;
    const moda_row row = row_of(s, r);
    const size_t call_bytes = sizeof moda_morestack_call;
    if (!moda_has_split_stacks || r->is_exact || !is_plain(row) || (row & MODA_CFA_FP) == 0
        || moda_row_cfa_offset(row) != MODA_MORESTACK_FRAME || moda_row_fp_kind(row) != MODA_FP_AT_CFA
        || moda_row_fp_offset(row) != -MODA_MORESTACK_FRAME || r->fp > UINTPTR_MAX - MODA_MORESTACK_FRAME
        || !moda_stack_page_is_readable(r->pc - call_bytes) || !moda_stack_page_is_readable(r->pc - 1)
        || memcmp((const void *)(r->pc - call_bytes), moda_morestack_call, call_bytes) != 0) {
        return false;
    }
    const uintptr_t fp = r->fp, cfa = fp + MODA_MORESTACK_FRAME;
    if (!moda_stack_switch(s->own, fp, true, &s->range) || !moda_stack_reaches(&s->range, cfa)) {
        return false;
    }
    r->pc = moda_stack_load(cfa - 8);
    r->fp = moda_stack_load(fp);
    r->fp_slot = fp;
    r->sp = cfa;
    return true;
}

/* Up to where no step leads on: then s->at is there. */
MODA_NOINLINE MODA_READS_STACKS static moda_walk walk_one_stack(moda_walk_state *s, uint32_t count) {
    moda_registers r;
    load(s, &r);
    for (;;) {
        s->frames[count++] = r.pc;
        const moda_row row = row_of(s, &r);
        if (moda_unlikely(count >= s->limit)) {
            store(s, &r);
            return ended(s, is_outermost(s, row) ? ENDED : STEPPED, count - is_past_the_end(s));
        }
        const outcome o = step(s, &r, row);
        if (moda_unlikely(o != STEPPED)) {
            store(s, &r);
            return ended(s, o, count - is_past_the_end(s));
        }
        if (s->kept != NULL) {
            s->kept[count] = moda_frame_of(&r, bits_of(row));
        }
    }
}

moda_walk moda_tables_walk_from(moda_walk_state *s, uint32_t count) {
    for (;;) {
        const moda_walk walk = walk_one_stack(s, count);
        if (moda_likely(walk.end != MOD_ALLOC_WALK_BROKEN) || !step_to_older_part(s)) {
            return walk;
        }
        count = walk.count;
        if (s->kept != NULL) {
            s->kept[count] = moda_frame_of(&s->at, MODA_FRAME_SPECIAL | MODA_FRAME_BY_FP);
        }
    }
}

/* ---- a walk that keeps itself for the next one ---- */

static moda_registers registers_of(const moda_frame *f) {
    return (moda_registers){
        .pc = f->pc,
        .sp = f->sp,
        .fp = f->fp,
        .fp_slot = moda_frame_slot(f),
        .is_exact = (f->fp_slot & MODA_FRAME_EXACT) != 0,
    };
}

MODA_INLINE bool is_same_place(const moda_frame *f, const moda_registers *r) {
    return f->sp == r->sp && f->pc == r->pc && f->fp == r->fp && (f->fp_slot & MODA_FRAME_EXACT) == 0;
}

/* Whether a step from `inner` still leads to `f`, which took more than two loads to find. */
MODA_NOINLINE MODA_READS_STACKS static bool verify_special(moda_walk_state *s, const moda_frame *inner,
                                                           const moda_frame *f) {
    const moda_walk_state before = *s;
    moda_registers r = registers_of(inner);
    const moda_registers expected = registers_of(f);
    if (step(s, &r, row_of(s, &r)) == STEPPED && s->range.is_own && r.sp == expected.sp && r.pc == expected.pc
        && r.fp == expected.fp && r.is_exact == expected.is_exact) {
        return true;
    }
    *s = before;
    return false;
}

/* Takes over frames of the last walk, from last[j] (which is frames[n - 1]) outwards, as long as the words
 * they were read from still hold the same. Returns the index in last of the first that is not. */
MODA_READS_STACKS static uint32_t verify(moda_walk_state *s, const moda_frame *last, uint32_t j,
                                         uint32_t count, uint32_t n) {
    const uint32_t room = s->limit - n;
    const uint32_t end = count - j - 1 > room ? j + 1 + room : count;
    uint64_t *frames = s->frames + n;
    uint32_t k = j + 1;
    for (; k < end; k++) {
        const moda_frame *f = &last[k];
        if (moda_unlikely((f->fp_slot & MODA_FRAME_SPECIAL) != 0)) {
            if ((f->fp_slot & MODA_FRAME_EXACT) != 0 && !moda_ra_is_below_cfa) {
                break; /* x30 is not kept: step there anew */
            }
            if (!verify_special(s, f - 1, f)) {
                break;
            }
        } else if (moda_strip_authentication(moda_stack_load(moda_frame_ra_slot(f))) != f->pc
                   || moda_stack_load(moda_frame_slot(f)) != f->fp) {
            break;
        }
        *frames++ = f->pc;
    }
    return k;
}

/* How the walk ended that is now thread->last. */
static moda_walk keep_end(moda_unwind_thread *thread, moda_walk walk) {
    thread->end = walk.end;
    thread->is_kept = walk.end == MOD_ALLOC_WALK_COMPLETE || walk.end == MOD_ALLOC_WALK_GUESSED
                      || walk.end == MOD_ALLOC_WALK_CUT;
    return walk;
}

static void swap_halves(moda_unwind_thread *thread, uint32_t count) {
    moda_frame *fresh = thread->fresh;
    thread->fresh = thread->last;
    thread->last = fresh;
    thread->head = 0;
    thread->count = count;
}

/* The new walk is fresh[0..m) and then last[j + 1 .. j + 1 + tail): joins them where fewer must move. */
static void join(moda_unwind_thread *thread, uint32_t m, uint32_t j, uint32_t tail) {
    const uint32_t after = thread->head + j + 1; /* index of the tail */
    if (m <= after) {
        moda_frame *to = thread->last + (after - m);
        for (uint32_t i = 0; i < m; i++) {
            to[i] = thread->fresh[i];
        }
        thread->head = after - m;
        thread->count = m + tail;
    } else {
        memcpy(thread->fresh + m, thread->last + after, tail * sizeof(moda_frame));
        swap_halves(thread, m + tail);
    }
}

static void keep_nothing(moda_unwind_thread *thread) {
    thread->count = 0;
    thread->is_kept = false;
}

/* On another stack: from here on nothing is kept. */
static moda_walk walk_on(moda_walk_state *s, moda_unwind_thread *thread, uint32_t n) {
    keep_nothing(thread);
    return moda_tables_walk_from(s, n);
}

MODA_READS_STACKS static moda_walk walk_keeping(moda_walk_state *s, moda_unwind_thread *thread) {
    moda_registers r;
    load(s, &r);
    moda_frame *const fresh = thread->fresh;
    const moda_frame *const last = thread->last + thread->head;
    const uint32_t last_count = thread->epoch == s->view.epoch ? thread->count : 0;
    uint32_t n = 0, j = 0;
    uintptr_t bits = MODA_FRAME_SPECIAL; /* the first frame is not found from another one */
    outcome o = STEPPED;
    thread->epoch = s->view.epoch;
    r.fp_slot = (uintptr_t)&thread->unsaved_fp;
    for (;;) {
        s->frames[n] = r.pc;
        fresh[n++] = moda_frame_of(&r, bits);
        while (j < last_count && last[j].sp < r.sp) {
            j++;
        }
        if (j < last_count && is_same_place(&last[j], &r) && !r.is_exact) {
            thread->unsaved_fp = r.fp;
            const uint32_t k = verify(s, last, j, last_count, n);
            const uint32_t taken = k - j - 1;
            const bool is_cut =
                n + taken == s->limit && (k < last_count || thread->end == MOD_ALLOC_WALK_CUT);
            if (is_cut
                || (k == last_count
                    && (thread->end == MOD_ALLOC_WALK_COMPLETE || thread->end == MOD_ALLOC_WALK_GUESSED))) {
                const uint32_t reused = k == last_count ? taken + 1 : 0;
                join(thread, n, j, taken);
                moda_walk walk = ended(s, is_cut ? STEPPED : ENDED, n + taken);
                walk.reused = reused;
                return keep_end(thread, walk);
            }
            memcpy(fresh + n, last + j + 1, taken * sizeof *fresh);
            if (taken != 0) {
                r = registers_of(&last[k - 1]);
            }
            n += taken;
            j = k;
        }
        const moda_row row = row_of(s, &r);
        if (moda_unlikely(n >= s->limit)) {
            store(s, &r);
            o = is_outermost(s, row) ? ENDED : STEPPED;
            break;
        }
        bits = bits_of(row);
        o = step(s, &r, row);
        if (moda_unlikely(o != STEPPED)) {
            break;
        }
        if (moda_unlikely(!s->range.is_own)) { /* a signal handler's end */
            store(s, &r);
            return walk_on(s, thread, n);
        }
    }
    if (moda_unlikely(o == BROKEN)) {
        store(s, &r);
        if (step_to_older_part(s)) {
            return walk_on(s, thread, n);
        }
    }
    if (moda_unlikely(o == ENDED
                      && is_past_the_end(s))) { /* that the word is still 0 would have to be verified, too */
        keep_nothing(thread);
        return ended(s, o, n - 1);
    }
    swap_halves(thread, n);
    return keep_end(thread, ended(s, o, n));
}

/* ---- the walkers ---- */

MODA_INLINE moda_walk walk(const moda_walk_job *job, bool may_guess) {
    moda_stack_own nobody = {0};
    moda_unwind_thread *thread = job->thread;
    moda_walk_state s = {
        .at = {.pc = job->start->pc, .sp = job->start->sp, .fp = job->start->fp},
        .view = moda_row_view_now(),
        .own = thread != NULL ? &thread->own : &nobody,
        .frames = job->frames,
        .limit = job->limit,
        .may_guess = may_guess,
    };
    moda_stack_enter(s.own, s.at.sp, &s.range);
    if (thread != NULL && s.range.is_own) {
        return walk_keeping(&s, thread);
    }
    if (thread != NULL) {
        keep_nothing(thread);
    }
    return moda_tables_walk_from(&s, 0);
}

MODA_READS_STACKS moda_walk moda_tables_walk(const moda_walk_job *job) {
    return walk(job, false);
}

MODA_READS_STACKS moda_walk moda_tables_walk_guessing(const moda_walk_job *job) {
    return walk(job, true);
}
