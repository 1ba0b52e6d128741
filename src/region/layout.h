/* SPDX-License-Identifier: MIT
 *
 * layout.h - the region, field by field: the one thing that the inside and the outside share.
 *
 * The region is one mapping (a file, or anonymous memory) that holds all the profile: a header, then
 * records that are handed out from front to back and never move or go away. Records point to each other by
 * `moda_ref`: the offset from the region's start, divided by 16; 0 is "none". All integers have the
 * byte order of the machine that wrote them.
 *
 * Writers are the program's threads while they run; a reader may look at any moment, also after the
 * program has died in the middle of a write. So:
 *   1. a record is filled before the link that makes it reachable is stored (release);
 *   2. fields that belong together are guarded by a `seq`: odd while they change; a reader takes the
 *      fields between two equal even values, gives up after some tries and takes what it has;
 *   3. a reader trusts nothing: each ref, count and length is checked against the region's size.
 *
 * Any change to a struct here is a new MODA_REGION_VERSION, but for what only the process itself looks at.
 */
#ifndef MODA_REGION_LAYOUT_H
#define MODA_REGION_LAYOUT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MODA_REGION_MAGIC "MODALLOC"
#define MODA_REGION_VERSION 4u
#define MODA_REGION_BYTE_ORDER 0x01020304u
#define MODA_REGION_ALIGN 64u /* of each record */

typedef uint32_t moda_ref;
#define MODA_REF_UNIT 16u

#define MODA_FRAMES_MAX 512u
#define MODA_SIZE_CLASSES 64u /* class k: sizes s with 2^(k-1) < s <= 2^k; class 0: s <= 1 */
#define MODA_COUNT_ONE 65536u /* estimated counts are fixed point: 65536 stands for one block */
/* Where every allocation is recorded: the lives of a site's first blocks are all timed, then one in MODA_LIVES_STRIDE. */
#define MODA_LIVES_ALL 256u
#define MODA_LIVES_SHIFT 3u
#define MODA_LIVES_STRIDE (1u << MODA_LIVES_SHIFT)
#define MODA_THREAD_WINDOWS 64u
#define MODA_TIMELINE_POINTS 1024u

/* ---- call sites ---- */

/* What is known of a call site. Each figure is a sum over samples: of 1 (samples), of the sample's
 * weight x 65536 (counts), or of weight x size rounded (bytes). Live = alloc - free, of each kind. */
typedef struct moda_site_counts {
    /* what an allocation changes; a delta has it in one cache line */
    uint64_t alloc_samples;
    uint64_t alloc_count; /* x 65536 */
    uint64_t alloc_bytes;
    uint64_t alloc_requested;
    uint64_t free_samples;
    uint64_t free_count; /* x 65536; also blocks that realloc moved to another site */
    /* Live at the heap's peak, valid if at_peak_epoch is the header's peak_epoch; otherwise the site has not
     * changed since the peak, and its live figures of now are those of the peak. */
    uint64_t at_peak_epoch;
    /* ... and a free, besides */
    uint64_t free_bytes;
    uint64_t free_requested;
    /* The site's own high-water mark of live bytes. In a delta: above the live bytes at which the delta
     * began. */
    int64_t peak_bytes;
    /* Lives that ended at this site: sums over those that were timed, each x MODA_LIVES_STRIDE where it stands for so
     * many; the shortest and the longest of those timed. Which are: site/count.h. */
    uint64_t lifetime_count; /* x 65536 */
    uint64_t lifetime_sum;   /* ticks x weight; at most UINT64_MAX: moda_site_add_lives */
    uint64_t lifetime_min;   /* ticks; UINT64_MAX where none ended */
    uint64_t lifetime_max;
    uint64_t short_lived_count; /* x 65536 */

    uint64_t remote_free_count; /* x 65536 */
    uint64_t moved_count;       /* x 65536; of free_count those that realloc moved: no life ended */
    int64_t peak_count;         /* x 65536 */
    int64_t at_peak_count;      /* x 65536 */
    int64_t at_peak_bytes;
    int64_t at_peak_requested;
} moda_site_counts;

/* Lives that ended at a site: all, while the figures above are of those timed. */
static inline uint64_t moda_site_ended(const moda_site_counts *counts) {
    return counts->free_count > counts->moved_count ? counts->free_count - counts->moved_count : 0;
}

/* A sum over the timed lives, for all that ended. */
static inline uint64_t moda_site_of_all_lives(const moda_site_counts *counts, uint64_t timed) {
    const uint64_t ended = moda_site_ended(counts);
    if (counts->lifetime_count == 0 || counts->lifetime_count == ended) {
        return timed;
    }
    const unsigned __int128 all = (unsigned __int128)timed * ended / counts->lifetime_count;
    return all < UINT64_MAX ? (uint64_t)all : UINT64_MAX;
}

/* Sums of lives grow by ticks x blocks live: where a million are, a word is full after two hours. Then it stays so. */
static inline uint64_t moda_site_add_lives(uint64_t sum, uint64_t more) {
    return sum <= UINT64_MAX - more ? sum + more : UINT64_MAX;
}

/* A distinct call stack. The overflow site has id 0, no frames, and walk_end NONE. */
typedef struct moda_site {
    /* const after publication, but for the links, which are set before */
    moda_ref next_in_bucket;
    moda_ref next_in_list; /* the site made before this one; the list begins at header.site_list */
    uint32_t hash;
    uint32_t id;
    uint16_t frame_count;
    uint8_t walk_end;     /* mod_alloc_walk_end */
    uint8_t guessed;      /* frames found by guess */
    uint32_t generation;  /* header.module_generation when it was made */
    uint32_t first_slot;  /* slot of the thread that made it */
    uint32_t counts_lock; /* odd while counts are being changed */
    moda_site_counts counts;
    uint64_t frames[]; /* return addresses, innermost first */
} moda_site;

/* What a forked child has from its parent: the blocks live at each site at the fork. Its sites' counts begin anew
 * with them (alloc = inherited, free = 0): what the child allocated itself is alloc - inherited. */
typedef struct moda_site_inherited {
    uint64_t samples;
    uint64_t count; /* x 65536 */
    uint64_t bytes;
    uint64_t requested;
} moda_site_inherited;

typedef struct moda_inherited {
    uint32_t count; /* sites, the overflow site with them */
    uint32_t padding[15];
    moda_site_inherited of[]; /* by site id; later sites have inherited nothing */
} moda_inherited;

/* What one thread has gathered for a site and not yet added to it: a reader adds both. */
typedef struct moda_site_delta {
    uint32_t seq;
    moda_ref site; /* 0 = empty */
    moda_site_counts counts;
    uint64_t padding[2];
} moda_site_delta;
_Static_assert(sizeof(moda_site_delta) == 192 && offsetof(moda_site_delta, counts.free_bytes) == 64
                   && offsetof(moda_site_delta, counts.remote_free_count) == 128,
               "an allocation writes one cache line, a free two");

/* A thread's deltas: a power of two of entries. */
typedef struct moda_delta_cache {
    uint32_t entries;
    uint32_t padding[15];
    moda_site_delta delta[];
} moda_delta_cache;

/* The hash table of sites: site_buckets points to the newest, the older ones stay where they are, unused. */
typedef struct moda_buckets {
    uint32_t count; /* power of two */
    uint32_t padding[3];
    moda_ref first[]; /* chained by next_in_bucket */
} moda_buckets;

/* ---- threads ---- */

enum {
    MODA_SLOT_FREE = 0,
    MODA_SLOT_TAKEN = 1,
    MODA_SLOT_ORPHAN = 2,
    MODA_SLOT_HIDDEN = 3 /* in no region */
};

typedef struct moda_peak_mark {
    int64_t bytes;
    int64_t count;
} moda_peak_mark;

typedef struct moda_counts {
    uint64_t alloc_count; /* reallocations are in it */
    uint64_t free_count;
    uint64_t realloc_count; /* blocks live = alloc_count - free_count - realloc_count */
    uint64_t total_bytes;
    uint64_t freed_bytes;
    uint64_t requested_bytes;
} moda_counts;

/* One thread's counters. Written by its thread alone (the orphan shard: by any, atomically), read by all.
 *
 *   total_bytes     = budget - countdown          countdown:  block bytes until the slow path wants to look;
 *   freed_bytes     = free_budget - freed_mark                below 0: it looks each time
 *   balance         = total_bytes - freed_bytes
 *   mark            = budget - free_budget: the highest balance seen since the mark was last moved
 *   alloc_count     = alloc_base + what alloc_word has, and so the other two counts
 *
 * What a malloc counts is one word, and what a free counts is one: a store is what counting costs.
 *
 *               63            36 35      20 19       0
 *   alloc_word  |  countdown    |  blocks  | requested |    the lower two count down from all ones
 *   free_word   |  freed_mark   |        blocks        |    counts up from 0
 *
 * A malloc subtracts the block size, 1 and what was asked for, in their places; a free subtracts the block size and adds
 * 1. Where it then finds alloc_word < free_word the balance stands above the mark, which is moved up to it (where both
 * stand at the same byte the lower bits say no). Each time the countdown is set anew the lower bits are moved to the
 * bases; until then they have room for four times what can happen. 28 bits hold 128 MiB of frees: then freed_mark
 * wraps around, the next free finds it above, and sets the mark to where the balance is. Blocks of more than
 * MODA_WORD_BLOCK_MAX are added to the budgets.
 */
#define MODA_WORD_SHIFT 36
#define MODA_WORD_LOW ((INT64_C(1) << MODA_WORD_SHIFT) - 1)
#define MODA_WORD_BLOCK_SHIFT 20
#define MODA_WORD_BLOCK_MAX (INT64_C(1) << 24)
#define MODA_WORD_BYTES_MAX (INT64_C(1) << 25)
#define MODA_ALLOC_WORD_NEW MODA_WORD_LOW /* of a shard that has counted nothing */

/* countdown: from -32 MiB up. */
static inline int64_t moda_alloc_word_bytes(int64_t word) {
    return word >> MODA_WORD_SHIFT;
}

/* freed_mark: from -224 MiB up to 32 MiB. */
static inline int64_t moda_free_word_bytes(int64_t word) {
    const int64_t bytes = word >> MODA_WORD_SHIFT;
    return bytes < MODA_WORD_BYTES_MAX ? bytes : bytes - (INT64_C(1) << (64 - MODA_WORD_SHIFT));
}

static inline int64_t moda_word_of_bytes(int64_t bytes) {
    return (int64_t)((uint64_t)bytes << MODA_WORD_SHIFT);
}

/* Blocks, and bytes asked for, that an alloc_word has counted. */
static inline uint64_t moda_alloc_word_blocks(int64_t word) {
    return (uint64_t)(MODA_WORD_LOW & ~word) >> MODA_WORD_BLOCK_SHIFT;
}

static inline uint64_t moda_alloc_word_requested(int64_t word) {
    return (uint64_t)~word & ((1u << MODA_WORD_BLOCK_SHIFT) - 1);
}

static inline uint64_t moda_free_word_blocks(int64_t word) {
    return (uint64_t)(word & MODA_WORD_LOW);
}

/* freed_bytes alone, and where nothing changes; all but realloc_count */
enum { MODA_BEFORE_MARK = 1, MODA_BEFORE_COUNTDOWN = 2 };

typedef struct moda_shard {
    /* owner, on the fast paths */
    int64_t alloc_word;
    int64_t free_word;
    /* owner, when the countdown is set, and in slow paths */
    uint64_t alloc_base;
    uint64_t free_base;
    uint64_t requested_base;
    /* owner, when the mark or the countdown is set; guarded by seq */
    int64_t budget;
    int64_t free_budget;
    int64_t mark_live; /* blocks live when the mark was reached */

    /* owner, slow paths */
    uint32_t seq;
    uint32_t state; /* MODA_SLOT_* */
    uint32_t index; /* of the slot; const */
    uint32_t incarnation;
    uint32_t tid;
    uint32_t mark_epoch;    /* header.solo_epoch when the mark was last set to the balance */
    int64_t published;      /* the balance that header.published_sum has of this shard; atomic: any thread */
    moda_peak_mark pending; /* highest mark since mark_epoch, where the mark itself was moved down */
    int64_t sample_left;    /* block bytes until the next sample, at the last setting of countdown */
    int64_t countdown_set;  /* what countdown was set to then */
    uint64_t random;        /* the sampler's stream */
    uint64_t sample_bytes;  /* R this thread works with */
    uint64_t next_maintenance; /* ticks */
    uint64_t realloc_count;
    moda_ref deltas;         /* moda_delta_cache, or 0 */
    uint32_t thread_windows; /* open thread windows */
    uint64_t started_ticks;
    char name[16];

    /* whoever resets, under the registry's lock; guarded by base_seq */
    uint32_t base_seq;
    moda_ref scratch; /* owner: what its walker and its site look-ups remember; for nobody else */
    moda_counts base; /* what a reader takes off each count */

    /* owner, when it takes the slot: what the slot's earlier threads had counted */
    moda_counts started;
    moda_peak_mark thread_peak; /* highest mark since then, where the mark itself was moved down */
    uint32_t is_at_site;        /* owner: it is changing a site's counts; for nobody else but a fork */
    uint32_t padding2;

    /* owner: samples */
    uint64_t samples;
    uint64_t walks[6]; /* by mod_alloc_walk_end */
    uint64_t dropped;
    uint64_t size_samples[MODA_SIZE_CLASSES]; /* estimated allocations by block size, x 65536 */

    /* owner: thread windows; mark[i]: highest balance between the i-th start and the next */
    moda_peak_mark window_mark[MODA_THREAD_WINDOWS];
    uint32_t window_id[MODA_THREAD_WINDOWS];
    uint32_t window_next_id;
    moda_ref memo; /* owner: the walks it remembers; for nobody else */
    /* owner: the sums that a change guarded by seq leaves as they are. Where a child is forked in the middle of one, it
     * puts them back. */
    uint32_t before_what; /* MODA_BEFORE_* */
    uint32_t padding1;
    moda_counts before;
} moda_shard;

/* Of a shard whose owner was caught in the middle of a change that never goes on, or of a copy of it: its sums are what they
 * were before. */
static inline void moda_shard_put_back(moda_shard *shard) {
    const moda_counts *before = &shard->before;
    shard->free_budget = (int64_t)(before->freed_bytes + (uint64_t)moda_free_word_bytes(shard->free_word));
    if (shard->before_what == MODA_BEFORE_COUNTDOWN) {
        shard->budget = (int64_t)(before->total_bytes + (uint64_t)moda_alloc_word_bytes(shard->alloc_word));
        shard->alloc_base = before->alloc_count - moda_alloc_word_blocks(shard->alloc_word);
        shard->requested_base = before->requested_bytes - moda_alloc_word_requested(shard->alloc_word);
        shard->free_base = before->free_count - moda_free_word_blocks(shard->free_word);
    }
    shard->seq++;
}

_Static_assert(offsetof(moda_shard, seq) == 64, "the fast paths' fields fill one cache line");
_Static_assert(sizeof(moda_shard) % 64 == 0, "shards do not share cache lines");

typedef struct moda_shard_block {
    moda_ref next;
    uint32_t first_index;
    uint32_t count;
    uint32_t padding[13];
    moda_shard shard[];
} moda_shard_block;

/* ---- modules ---- */

/* An object that was mapped. Two records may have overlapping ranges if their generations differ. */
typedef struct moda_module {
    moda_ref next; /* made before this one */
    uint32_t generation_mapped;
    uint32_t generation_unmapped; /* 0 = still mapped, as far as is known */
    uint32_t path_length;
    uint64_t start; /* address range of its segments */
    uint64_t end;
    uint64_t load_bias;  /* address = load_bias + the address in the object's file */
    uint64_t text_start; /* first executable segment in memory, and where it is in the file */
    uint64_t text_end;
    uint64_t text_file_offset;
    uint32_t build_id_length;
    uint8_t build_id[32];
    uint32_t padding;
    char path[]; /* NUL-terminated; "[vdso]" for the vDSO */
} moda_module;

/* ---- timeline ---- */

typedef struct moda_timeline_point {
    uint64_t ticks;
    uint64_t current_bytes;
    uint64_t live_count;
    uint64_t total_bytes;
    uint64_t alloc_count;
    uint64_t resident_bytes; /* of the process; 0 = not looked up */
} moda_timeline_point;

/* Points at even spacing: when it is full every second one goes and the spacing doubles. */
typedef struct moda_timeline {
    uint32_t seq;
    uint32_t count;
    uint64_t interval_ticks;
    moda_timeline_point point[MODA_TIMELINE_POINTS];
} moda_timeline;

/* ---- merged profiles: several processes in one file ----
 *
 * One part a process, one after another: a header (the first one's is the file's), then its records, up to the
 * next part's header. Refs are from the file's start, and lead into their own part. A tick is a nanosecond, and
 * peak_epoch is UINT64_MAX. A stack that several processes have is a site of the first of them, with the sum of
 * their counts; since each of them was rounded and cut off at 0 before it was added, and has a variance of its
 * own, behind the frames of each site there is a moda_site_sums. */
typedef struct moda_merged {
    uint64_t region_used_bytes; /* what the process's own header had as `used` */
    uint64_t torn;              /* records that were being changed when they were read */
    uint32_t was_running;       /* when it was read */
    uint32_t is_growth;         /* a forked child, merged with its parent: without what it inherited */
    uint32_t padding;
    uint32_t source_length;
    char source[]; /* NUL-terminated: what it was read from */
} moda_merged;

typedef struct moda_site_sums {
    int64_t waste_bytes;
    int64_t live_bytes;
    int64_t live_count; /* blocks */
    int64_t live_requested;
    int64_t live_waste;
    double variance[6]; /* of allocated bytes and count, live bytes and count, bytes and count at the peak */
} moda_site_sums;

/* ---- header ---- */

enum {
    MODA_REGION_CLEAN_EXIT = 1, /* the program ended by exit or by returning from main */
    MODA_REGION_FILE = 2,       /* backed by a file */
    MODA_REGION_FORKED = 4,     /* of a forked child: live figures began with the parent's */
    MODA_REGION_LIVES_ALL = 8,  /* MOD_ALLOC_LIFETIMES=all: no lifetime is an estimate where R is 1 */
};

typedef struct moda_region_header {
    /* const */
    char magic[8]; /* set last, also in a forked child: a region without is unfinished */
    uint32_t version;
    uint32_t byte_order;
    uint32_t header_size;
    uint32_t shard_size;
    uint32_t site_size;
    uint32_t module_size;
    uint64_t memory_max;  /* MOD_ALLOC_MEMORY: but for slots the region never grows beyond */
    uint64_t region_base; /* address of the region in the program */
    uint32_t page_size;
    uint32_t pid;
    uint32_t parent_pid; /* of a forked child the process that it is a fork of, though that may have ended */
    uint32_t fork_count; /* how many forks lie between this process and the first */
    uint64_t start_realtime_ns;
    uint64_t start_monotonic_ns;
    uint64_t start_ticks;
    char mod_alloc_version[16];
    char mimalloc_version[16];
    char machine[16]; /* "x86_64", "aarch64" */
    uint32_t frames_max;
    uint32_t unwinder; /* 0 auto, 1 fp, 2 tables */
    uint64_t seed;
    uint64_t short_lived_ns;
    char executable[512];
    char command_line[2048]; /* arguments joined by spaces, cut */

    /* changes */
    uint64_t sample_bytes;   /* R now */
    uint64_t sample_changes; /* times it was changed while running */
    uint32_t flags;          /* MODA_REGION_* */
    uint32_t exit_status;    /* if CLEAN_EXIT and known */
    uint64_t used;           /* bytes handed out */
    uint64_t committed;      /* bytes that the file has, or may be touched */
    uint32_t clock_seq;      /* guards the next two: the newest pair, to turn ticks into time */
    uint32_t padding0;
    uint64_t latest_ticks;
    uint64_t latest_monotonic_ns;

    moda_ref shard_blocks; /* first moda_shard_block */
    uint32_t slot_count;   /* slots in all blocks */
    uint32_t threads_ever;
    uint32_t threads_now;

    moda_ref site_buckets;
    moda_ref site_list;  /* newest moda_site */
    uint32_t site_count; /* without the overflow site */
    moda_ref overflow_site;

    moda_ref modules; /* newest moda_module */
    uint32_t module_count;
    uint32_t module_generation;
    moda_ref timeline; /* moda_timeline or 0 */

    /* The process's peak: the greatest of peak_bytes, the balances' sum now, and, if threads_now is 1 and that
     * thread's mark_epoch is solo_epoch, the others' balances plus the greater of its mark and its pending. */
    uint32_t solo_epoch; /* counts threads that came or went */
    uint32_t padding3;
    int64_t published_sum; /* sum of shards' published balances */
    uint64_t peak_epoch;   /* see moda_site_counts.at_peak_epoch */
    uint32_t peak_seq;     /* guards the next two */
    uint32_t padding1;
    int64_t peak_bytes;
    int64_t peak_live;
    uint64_t peak_ticks;

    /* memory as the system sees it, looked at now and then and at exit; bytes */
    uint64_t resident_bytes;
    uint64_t resident_peak_bytes;
    uint64_t heap_committed_bytes; /* what mimalloc holds */
    uint64_t region_resident_bytes;

    uint64_t dropped_disk; /* records that found no disk space */

    moda_ref inherited;    /* moda_inherited, of a forked child; 0 = none, or there was no room for it */
    moda_ref next_process; /* moda_region_header of a merged profile's next part; 0 = none */
    moda_ref merged;       /* moda_merged: this is a part of a merged profile; 0 = of a program */
    uint32_t padding4;
    int64_t inherited_bytes; /* of a forked child: what was live at the fork */
    int64_t inherited_count;
    uint64_t
        process_start; /* of a file: with pid it names the process, also after exec; see moda_os_process_start */
    uint64_t reserved[11];
} moda_region_header;

_Static_assert(sizeof(moda_region_header) <= 4096, "the header fits the first page");
#define MODA_REGION_FIRST 4096u /* where records begin */

/* Of a process that was killed, or still is, at the beginning of its profile: or in the middle of copying its parent's,
 * if the version is there. */
static inline bool moda_region_is_unfinished(const moda_region_header *header) {
    static const char none[sizeof header->magic];
    return memcmp(header->magic, none, sizeof none) == 0;
}

#endif
