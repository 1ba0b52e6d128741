/* SPDX-License-Identifier: MIT
 *
 * mod_alloc.h - allocation counters, windows and call sites of a program that runs on mod-alloc.
 *
 * mod-alloc is a malloc (mimalloc with the profiling built in). Link it or preload it in place of the
 * system's malloc; then every call below tells what the program has allocated. Where mod-alloc is
 * linked but another malloc won (mod_alloc_is_active() is 0), every figure is 0, no file is written, and a line on
 * stderr says so if MOD_ALLOC_STATS or MOD_ALLOC_PROFILE is set. It cannot come late: dlopen
 * of libmod_alloc.so, or of what is linked with it, fails in a process that has not loaded it from the start.
 *
 * Units        bytes are block sizes: what malloc_usable_size reports for the block, not what was asked
 *              for; what was asked for is `requested_bytes`. `total - requested` is internal
 *              fragmentation. (An alignment of 256 or more can take a block with up to that many bytes in front,
 *              which count, but are not in malloc_usable_size; so can one of 32 or more above 64 KiB on mimalloc
 *              2.4.1.) Times are nanoseconds of CLOCK_MONOTONIC unless named otherwise.
 * Threads      every function may be called from any thread at any time, also while others allocate.
 * Signals      functions marked [signal-safe] may be called from a signal handler. malloc and free themselves may be
 *              called from any handler that was set by sigaction, signal, bsd_signal, sysv_signal or sigset, also from
 *              one that has interrupted malloc or free (POSIX allows less, and so does glibc). For that, these functions
 *              are mod-alloc's too: they pass on to libc's. What such a handler allocates while malloc is interrupted
 *              counts as ever, but belongs to no call site, and memory that it frees is used again only when malloc goes
 *              on. An alignment above 8 MiB is refused there. A handler may leave by longjmp; as POSIX has it, not out of
 *              malloc itself.
 * Allocation   no function here allocates from malloc unless it says so.
 */
#ifndef MOD_ALLOC_H
#define MOD_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#define MOD_ALLOC_VERSION_MAJOR 0
#define MOD_ALLOC_VERSION_MINOR 1
#define MOD_ALLOC_VERSION_PATCH 0

#if defined(__GNUC__)
#define MOD_ALLOC_EXPORT __attribute__((visibility("default")))
#else
#define MOD_ALLOC_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------
 * Counters
 *
 *   counter             malloc, calloc, aligned, new   free, delete    realloc that moves or stays
 *   alloc_count         +1                                             +1
 *   free_count                                         +1
 *   total_bytes         + block size                                   + growth, if it grew
 *   current_bytes       + block size                   - block size    + or - the difference
 *   peak_bytes          highest current_bytes
 *   live_count          +1                             -1
 *   peak_live_count     live_count when peak_bytes was reached
 *   requested_bytes     + size asked                                   + new size asked
 *
 * realloc(NULL, n) counts as malloc; a failed call and free(NULL) count nothing. realloc(p, 0) is a realloc to the
 * smallest size: the block stays the program's (glibc would free it). The numbers are the same in every mode (counters only,
 * sampled, every allocation).
 *
 * Exactness: all counters are exact, but for the peaks of a process with several threads. A thread
 * makes its balance known as it allocates; so the peak is low by at most (threads - 1) x
 * MOD_ALLOC_PEAK_SLACK, and by what other threads free while it is being looked at; it is never too
 * high, and falls by a reset alone. With one thread it is exact.
 * While other threads run, a snapshot of the process need not be of one single instant: each thread's
 * own counts are, and current_bytes is never above what was live at some instant of the call, but may be
 * below by what others allocated and freed during it. A malloc under way on another thread may be
 * counted, taken back and counted again: one a thread. Where they stand still it is exact.
 */
#define MOD_ALLOC_PEAK_SLACK 524288 /* bytes */

typedef struct mod_alloc_stats {
    uint64_t alloc_count;     /* allocations */
    uint64_t free_count;      /* frees */
    uint64_t total_bytes;     /* bytes allocated, ever */
    uint64_t current_bytes;   /* bytes live now */
    uint64_t peak_bytes;      /* highest current_bytes */
    uint64_t live_count;      /* blocks live now */
    uint64_t peak_live_count; /* blocks live when peak_bytes was reached */
    uint64_t requested_bytes; /* bytes asked for, ever */
    uint64_t reserved[8];     /* 0; room for later counters without a change of this struct's size */
} mod_alloc_stats;

/* The whole process, all threads, ended ones too. Sums one record a thread: well under 1 us for 8
 * threads. Beside running threads: see Exactness. [signal-safe] */
MOD_ALLOC_EXPORT void mod_alloc_snapshot(mod_alloc_stats *stats);

/* The calling thread alone, since it began or since the last reset, whichever is later: what it allocated and what it
 * freed, also blocks of other threads. (peak_bytes: since it began.) A thread that frees more than it allocated has a
 * negative balance, shown as 0. Costs a few loads (under 20 ns). [signal-safe] */
MOD_ALLOC_EXPORT void mod_alloc_thread_snapshot(mod_alloc_stats *stats);

/* Begins the counts anew for the whole process: alloc_count, free_count, total_bytes, requested_bytes
 * become 0; peak_bytes becomes current_bytes. current_bytes and live_count stay true. Later counts never
 * wrap, whatever other threads do meanwhile. Open windows are not disturbed. Takes a lock and visits one record a thread:
 * 0.3 us for 8 threads. Any thread; not from a signal handler. */
MOD_ALLOC_EXPORT void mod_alloc_reset(void);

/* ------------------------------------------------------------------------------------------------
 * Windows: what happened between start and stop. Any number may be open at once, nested, overlapping,
 * on several threads; each has a peak of its own. The struct needs no initialisation before start and
 * no release after stop; a window that is never stopped costs nothing but its slot: at most
 * MOD_ALLOC_WINDOWS_MAX process windows, and as many thread windows for each thread, keep peaks of their
 * own at once; one opened beyond that counts rightly, but its peak may take in what was before it.
 */
#define MOD_ALLOC_WINDOWS_MAX 64

typedef struct mod_alloc_profiler {
    int64_t net_bytes; /* set by stop: growth of current_bytes, negative if it fell */
    int64_t net_count; /* set by stop: growth of live_count, negative if it fell */
    uint64_t private_[14];
} mod_alloc_profiler;

/* A window over the whole process. stop fills `stats`: alloc_count, free_count, total_bytes and
 * requested_bytes are what was added inside the window; peak_bytes is the highest current_bytes of the
 * process inside the window (absolute), peak_live_count the live_count then; current_bytes and live_count
 * are the growth, 0 if they fell (the signed growth is in net_bytes and net_count). start and stop may be
 * called on different threads. `stats` may be NULL. Each takes a lock; about as dear as a snapshot. */
MOD_ALLOC_EXPORT void mod_alloc_profiler_start(mod_alloc_profiler *profiler);
MOD_ALLOC_EXPORT void mod_alloc_profiler_stop(mod_alloc_profiler *profiler, mod_alloc_stats *stats);

/* A window over the calling thread alone: start and stop must be called on the same thread. No lock and
 * no atomic: start and stop together cost under 60 ns, so that each turn of a benchmark can have one.
 * peak_bytes is the highest growth of the thread's balance above where it stood at start;
 * peak_live_count the growth in blocks then. */
MOD_ALLOC_EXPORT void mod_alloc_thread_profiler_start(mod_alloc_profiler *profiler);
MOD_ALLOC_EXPORT void mod_alloc_thread_profiler_stop(mod_alloc_profiler *profiler, mod_alloc_stats *stats);

/* ------------------------------------------------------------------------------------------------
 * Call sites. A sample is an allocation chosen for a backtrace, by a Poisson process over bytes: each
 * byte allocated is chosen with probability 1/R, R = MOD_ALLOC_SAMPLE (default 512 KiB). A sample of block
 * size s stands for 1 / (1 - exp(-s/R)) allocations, so that every estimate below is unbiased. R = 1
 * means every allocation: then all figures are exact, but for lifetimes at sites of many blocks. R = 0: none.
 */

/* How the walk of a stack ended. */
typedef enum mod_alloc_walk_end {
    MOD_ALLOC_WALK_COMPLETE = 0, /* reached the outermost frame */
    MOD_ALLOC_WALK_CUT = 1,      /* stopped at MOD_ALLOC_FRAMES frames */
    MOD_ALLOC_WALK_UNKNOWN = 2,  /* ended in code that has no unwind tables */
    MOD_ALLOC_WALK_GUESSED = 3,  /* went on through such code by frame pointers, and arrived */
    MOD_ALLOC_WALK_BROKEN = 4,   /* left the stack, or made no progress */
    MOD_ALLOC_WALK_NONE = 5      /* no walk was possible (re-entry, or the overflow site) */
} mod_alloc_walk_end;

/* One call site. Counts and bytes are estimates (exact when every allocation is sampled); the raw number
 * of samples is beside them. Bytes are block sizes except those named requested.
 * realloc moves a block to the site that called realloc, with its birth kept: the first site's live
 * figures fall and its freed figures grow, but no lifetime is counted there. (Valgrind's DHAT leaves the
 * block at its first site; its lifetimes begin at the same birth.)
 * Lifetimes. Each sample is timed; but with R = 1, unless MOD_ALLOC_LIFETIMES is all, only the first 256 blocks of a site are (of
 * each thread, where several are at it), and then one in eight, chosen at random, which counts for eight. Then lifetime_sum_ns and short_lived_count are
 * estimates from an eighth of the blocks behind the first 256, and lifetime_min_ns and _max_ns are of those timed.
 * lifetime_count is exact all the same.
 * In a forked child sites begin at the fork: allocated and freed are the child's own; live and the peaks
 * include the blocks that it has from its parent, but for those that the parent's other threads were just counting:
 * of such a one any figure may be there and any be missing. */
typedef struct mod_alloc_call_site {
    const uintptr_t *frames; /* return addresses, innermost first; valid during the visit */
    size_t frame_count;
    uint32_t id; /* 1, 2, 3 ...; 0 is the overflow site: what found no room in the region */
    mod_alloc_walk_end walk_end;
    uint64_t alloc_samples, free_samples;
    uint64_t alloc_count, alloc_bytes, alloc_requested_bytes;
    uint64_t free_count, free_bytes, free_requested_bytes;
    uint64_t live_count, live_bytes, live_requested_bytes;
    uint64_t at_peak_count, at_peak_bytes, at_peak_requested_bytes; /* live at the process's peak */
    uint64_t peak_count, peak_bytes; /* highest live_bytes of this site, blocks live then; with several
                                        threads at one site approximate: each adds its own from time to time */
    uint64_t lifetime_count;         /* blocks whose life ended here */
    uint64_t lifetime_sum_ns;        /* an estimate for all of them, from those timed; see above */
    uint64_t lifetime_min_ns;        /* of those timed */
    uint64_t lifetime_max_ns;
    uint64_t short_lived_count; /* of those, shorter than MOD_ALLOC_SHORT_LIVED */
    /* freed on another thread than allocated; one that has the slot of a thread that has ended counts as that thread */
    uint64_t remote_free_count;
    uint64_t reserved[6];
} mod_alloc_call_site;

/* Return 0 to go on, anything else to stop. May allocate. */
typedef int mod_alloc_call_site_visitor(const mod_alloc_call_site *site, void *context);

/* Visits each site once, while other threads go on allocating. Returns the number visited. Reads, for each site, one record
 * and each thread's share of it: some 150 ns a site for 8 threads. Any thread, no lock; not from a signal handler. */
MOD_ALLOC_EXPORT size_t mod_alloc_call_sites(mod_alloc_call_site_visitor *visitor, void *context);

/* The same as an array, in memory of its own (not malloc's); frames stay valid until it is freed with
 * mod_alloc_call_sites_free. Returns NULL, with *count = 0, where there is no site or no memory. */
MOD_ALLOC_EXPORT mod_alloc_call_site *mod_alloc_call_sites_get(size_t *count);
MOD_ALLOC_EXPORT void mod_alloc_call_sites_free(mod_alloc_call_site *sites);

/* Samples that found no room for their stack and went to the overflow site. Visits one record a thread (50 ns for 8).
 * [signal-safe] */
MOD_ALLOC_EXPORT uint64_t mod_alloc_sites_dropped(void);

typedef struct mod_alloc_sampling_stats {
    uint64_t sample_bytes;      /* R now; 0 = off, 1 = every allocation */
    uint64_t samples;           /* samples taken */
    uint64_t sites;             /* distinct stacks */
    uint64_t dropped;           /* samples counted at the overflow site */
    uint64_t walks[6];          /* walks by how they ended: indexed by mod_alloc_walk_end */
    uint64_t region_bytes_used; /* of MOD_ALLOC_MEMORY; threads may take more */
    uint64_t region_bytes_max;
    uint64_t reserved[4];
} mod_alloc_sampling_stats;

/* Visits one record a thread (50 ns for 8). [signal-safe] */
MOD_ALLOC_EXPORT void mod_alloc_sampling(mod_alloc_sampling_stats *stats);

/* Changes R while the program runs: 0 = off, 1 = every allocation, else the mean number of bytes between
 * samples. Each thread takes it up at its next slow path, at the latest after one gap. One store.
 * [signal-safe] */
MOD_ALLOC_EXPORT void mod_alloc_set_sampling(uint64_t bytes);

/* ------------------------------------------------------------------------------------------------
 * Processes. What a process leaves: the profile, where MOD_ALLOC_PROFILE names a file, which is whole at any
 * moment; and the counters, which are written where MOD_ALLOC_STATS says when the process exits. In both
 * names %p is the pid, %e the program, %n the number of forks since the first process, %t the time it
 * began (seconds.microseconds), %% a percent sign. A file of the same name is replaced, but for what stands below.
 *
 *   exit, return from main,   the profile gets its mark of a clean exit and the status (not known for
 *   quick_exit                quick_exit); the counters are written, behind the program's handlers and destructors
 *   _exit, abort, a signal,   the profile is whole, without the mark; the counters are not written
 *   SIGKILL, out of memory
 *   exec                      the same; the new program begins at 0 in a new file, whatever its name: where that is
 *                             the old one's name, the old one becomes FILE.exec1, the next FILE.exec2 ...
 *   fork                      before any other code of it runs the child has a profile of its own, begun as a copy;
 *                             its counts begin at 0, what is live it has from its parent. Where the name has no %p, %n or
 *                             %t, or is that of another child, the child's go to FILE.PID
 *   daemon                    as fork, and the process that was there ends by _exit
 *   vfork, posix_spawn,       what the child allocates before its exec is in its parent's memory, and counted there;
 *   system, popen             the new program is as after exec
 *   clone without handlers,   memory only: as fork. A file: the child has its own from its first sample on, or when
 *   _Fork                     one of its threads has allocated 192 KiB; until then it counts in its parent's
 *   a program that finds the  the file is left to that one, also where it runs in another container; the profile goes to
 *   file of another that runs FILE.PID. (So a shell and the programs it starts all have theirs; of those that ended the next
 *                             one takes the name.)
 */

/* Wrong pointers. free, realloc and malloc_usable_size end the program where they see that a pointer is no block, or is free
 * already: with one line on stderr (abort) for tracked blocks, for memory that is no heap's and for a page with no block in
 * use; by SIGSEGV where nothing is mapped around the pointer. Fast paths check nothing, as mimalloc's do not: a small block of
 * the thread's own that is freed twice, or a pointer into one, is undefined. */

/* ------------------------------------------------------------------------------------------------
 * What is this? */

/* 1 if malloc is mod-alloc's in this process, 0 if not. A load. [signal-safe] */
MOD_ALLOC_EXPORT int mod_alloc_is_active(void);
MOD_ALLOC_EXPORT const char *mod_alloc_version(void);          /* "0.1.0" [signal-safe] */
MOD_ALLOC_EXPORT const char *mod_alloc_mimalloc_version(void); /* "2.0.9" [signal-safe] */

/* The region: the memory that holds the profile, laid out as src/region/layout.h says. For the report
 * library; NULL where there is none. [signal-safe] */
MOD_ALLOC_EXPORT const void *mod_alloc_region(size_t *size);

#ifdef __cplusplus
}
#endif
#endif
