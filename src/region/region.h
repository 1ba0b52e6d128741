/* SPDX-License-Identifier: MIT
 *
 * region.h - the memory that is the profile: made once, handed out from front to back, never taken back.
 *
 * entry/process.c creates it, perhaps from the program's first malloc; shards, sites, modules and the
 * unwinder's rows get their memory here. What stands in it: layout.h.
 *
 *   | header | shards, sites, modules, tables ...  | committed, unused | reserved: no access          |
 *   0        4096                                used            committed         memory_max, and some more
 *
 * Laws
 *   1. address space for memory_max is reserved at the start: no record ever moves, refs and pointers to
 *      them stay valid for the life of the process, in a forked child too;
 *   2. a page is touched only below `committed`, and a file has its disk space before `committed` says so:
 *      a full disk can't raise SIGBUS;
 *   3. full is not an error: moda_region_alloc returns NULL, callers count what they drop;
 *   4. threads' slots find room behind memory_max when the rest has taken all below it: what threads count is seen by all
 *      readers.
 *
 * A region in a file has 16 MiB of address space besides, of no memory: a forked child's, should it get no file.
 *
 * All functions may be called from any thread at any time, signal handlers included, except create,
 * those for fork, and finish.
 */
#ifndef MODA_REGION_REGION_H
#define MODA_REGION_REGION_H

#include "base/compiler.h"
#include "region/layout.h"

typedef struct moda_region_options {
    const char *path;      /* pattern with %p pid, %e program, %n fork count, %t start time (seconds with
                         microseconds), %% percent; NULL = memory that goes with the process; ignored in set-user-ID programs */
    uint64_t memory_max;   /* but for slots */
    uint64_t sample_bytes; /* these are noted in the header, not used */
    uint64_t seed;
    uint64_t short_lived_ns;
    uint32_t frames_max;
    uint32_t unwinder;
    bool times_all_lives;
    const char *mimalloc_version;
} moda_region_options;

/* NULL until the region is there. */
extern MODA_HIDDEN moda_region_header *moda_region_header_ptr;

MODA_INLINE moda_region_header *moda_region(void) {
    return moda_region_header_ptr;
}

/* Once. What stands in the file's place:
 *   an earlier image of this process, from before an exec    becomes FILE.exec1, FILE.exec2 ... : none is lost
 *   the profile of another process that is still running,    stays; ours becomes FILE.PID
 *   or, of a forked child, of another child of its parent
 *   anything else                                            is replaced
 * A file that can't be had is told in one line on stderr, and memory used instead. Where address space is limited
 * (ulimit -v) the region has at most a sixteenth of it, where that can't be had what there is, down to 1 MiB, an eighth of it
 * for slots; below that it is false, and there is no region. */
bool moda_region_create(const moda_region_options *options);

/* Zeroed, aligned to 64 bytes; NULL if the region or the disk is full. No lock. */
void *moda_region_alloc(size_t bytes);

/* The same for the slots of threads, of which 32,768 find room behind memory_max; fewer where address space is limited. */
void *moda_region_alloc_for_slots(size_t bytes);

/* Is it in the region's address space? */
bool moda_region_has(const void *record);

/* As moda_region_alloc, for what only makes recording faster: all of it together takes no more than half of memory_max, whose other half
 * is the sites'. How much there may still be. */
void *moda_region_alloc_for_speed(size_t bytes);
uint64_t moda_region_left_for_speed(void);

/* A record's ref: of a pointer to memory that moda_region_alloc gave, and back. 0 <-> NULL. */
MODA_INLINE moda_ref moda_region_ref(const void *record) {
    return record == NULL
               ? 0
               : (moda_ref)(((uintptr_t)record - (uintptr_t)moda_region_header_ptr) / MODA_REF_UNIT);
}

MODA_INLINE void *moda_region_at(moda_ref ref) {
    return ref == 0 ? NULL : (char *)moda_region_header_ptr + (uint64_t)ref * MODA_REF_UNIT;
}

/* Before fork, and in the parent after it: what a file's region holds is copied to memory, from which the child then takes
 * its own. The thread that forks goes on in the parent, and counts there, before the child has come so far. Without the one,
 * or where there is no memory for it, the child copies what the file holds by then. Pages that are zero are only looked at:
 * of a region's most are. */
void moda_region_fork_prepare(void);
void moda_region_fork_parent(void);
/* In a forked child, before anything else writes to the region: from now on it is the child's own. One in a
 * file gets a file of its own by the same pattern, holding a copy; memory if there is no such file to be had, whatever limits
 * of address space there are by then: some of it is reserved with the file. Where that was limited from the beginning, it
 * isn't, and what memory the child then has may be all it gets. Records that the parent's other
 * threads had not yet finished are not in the copy's lists; who keeps tables over the lists (site_table)
 * makes them anew from there, where it is a copy. What it does not write to costs it no page. False only if the kernel refuses
 * all that: then the child must leave what the parent has counted alone. */
bool moda_region_fork_child(void);
/* In a child, after that: it was copied, while threads of the parent might write to it; and that only after the fork, so that
 * the thread that has forked might, too. */
extern MODA_HIDDEN bool moda_region_is_copy;
extern MODA_HIDDEN bool moda_region_is_late_copy;
/* ... and when all that the parent counted is taken out of it: until then a file is unfinished, and no reader takes it. */
void moda_region_fork_done(void);

/* What the mark says. A child has it zeroed by the kernel. */
enum { MODA_FORKED_UNSEEN = 0, MODA_FORK_IS_FAR = 1, MODA_FORK_IS_NEAR = 2 };
/* How long a fork is waited for (moda_os_wait): it takes 0.1 s where it copies gigabytes' page tables. */
#define MODA_FORK_YIELDS 1000000u
#define MODA_FORK_NS UINT64_C(10000000000)

/* True in a child whose fork ran no handlers (a raw clone), until moda_region_fork_child: a load. */
extern MODA_HIDDEN const uint32_t *moda_region_fork_mark;
MODA_INLINE bool moda_region_forked_unseen(void) {
    return moda_unlikely(moda_load_relaxed(moda_region_fork_mark) == MODA_FORKED_UNSEEN);
}
/* The same, and while a file's region is copied for a child: then what is to be recorded waits for that. */
MODA_INLINE bool moda_region_is_forking(void) {
    return moda_unlikely(moda_load_relaxed(moda_region_fork_mark) != MODA_FORK_IS_FAR);
}
void moda_region_wait_for_fork(void);

/* The pair of clocks that turns ticks into time, anew; now and then, from any slow path. */
void moda_region_touch_clock(void);
/* Resident bytes of the process and of the region, as the system sees them: 10 us and more. */
void moda_region_note_resident(void);
/* The process ends in good order. May be called again (exit in a handler of exit). */
void moda_region_finish(int status);

/* The file's path, or NULL. */
const char *moda_region_path(void);

/* Writes the pattern's expansion; false if it doesn't fit. A forked child never has its parent's file: where the
 * pattern does not tell it from its parent (no %p, %n, %t) it has .PID behind it. For the counters' file too. */
bool moda_region_expand_path(const char *pattern, const char *program, uint32_t pid, uint32_t fork_count,
                             uint64_t start_ns, char *path, size_t size);

#endif
