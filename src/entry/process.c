/* SPDX-License-Identifier: MIT
 *
 * process.c - load, fork, thread end, exit, in that order.
 *
 * The first allocation of the process may come from anywhere: the dynamic loader, another library's
 * constructor. So moda_process_begin does all that counting needs, allocates nothing, and is called from the
 * first slow path; what may itself allocate (handlers of exit) waits for our constructor. Those of fork are there before
 * any other library's.
 */
#define _GNU_SOURCE
#include "entry/process.h"

#include "base/fatal.h"
#include "base/lock.h"
#include "base/options.h"
#include "entry/exit.h"
#include "entry/signals.h"
#include "hot/handler.h"
#include "live/header.h"
#include "mod_alloc.h"
#include "os/os.h"
#include "port/heap.h"
#include "region/modules.h"
#include "region/region.h"
#include "sample/track.h"
#include "shard/shard.h"
#include "site/deltas.h"
#include "site/site_table.h"
#include "unwind/unwind.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Not there in a fully static program that does not use them. */
extern __typeof__(dlsym) dlsym MODA_WEAK;
extern __typeof__(dladdr) dladdr MODA_WEAK;
extern const char __start_moda_text[] MODA_HIDDEN MODA_WEAK; /* in libmod_alloc.a alone */

static moda_lock process_lock;
static bool is_begun;
static pthread_key_t lists_key;
static pthread_key_t thread_key;
static bool has_lists_key;
static bool has_thread_key;
static bool is_bystander; /* malloc is another's */

#define HEAP_NOTED_EVERY_NS UINT64_C(1000000000)

/* ---- load ---- */

/* 16 bytes that the kernel gives each process. */
static uint64_t random_of_process(int word) {
    const char *random = (const char *)getauxval(AT_RANDOM);
    uint64_t value = moda_ticks();
    if (random) {
        memcpy(&value, random + word * (int)sizeof value, sizeof value); /* not aligned */
    }
    return value;
}

static void lists_end(void *unused) {
    (void)unused;
    moda_detach_lists();
}

static void thread_ends(void *shard) {
    if (!moda_detach()) {
        pthread_setspecific(thread_key, shard); /* once more, in the next round */
    }
}

static void begin_locked(void) {
    moda_options_read(environ);
    /* Before mimalloc's, so that in each round of destructors ours runs before it. */
    has_lists_key = pthread_key_create(&lists_key, lists_end) == 0;
    moda_heap_begin_process();
    has_lists_key = has_lists_key && lists_key < moda_heap_thread_key(); /* or there will be no lists */
    uint64_t seed = moda_options.seed;
    if (!seed) {
        seed = random_of_process(0) | 1;
    }
    const moda_region_options region = {
        .path = is_bystander ? NULL : moda_options.profile, /* the file is that of the copy that is malloc */
        .memory_max = moda_options.memory,
        .sample_bytes = moda_options.sample,
        .seed = seed,
        .short_lived_ns = moda_options.short_lived,
        .frames_max = (uint32_t)moda_options.frames,
        .unwinder = (uint32_t)moda_options.unwind,
        .times_all_lives = moda_options.lifetimes != 0,
        .mimalloc_version = moda_heap_version(),
    };
    if (!moda_region_create(&region) || !moda_registry_initialize()
        || !moda_site_table_create(moda_options.buckets)) {
        moda_fatal_no_memory("the counters", sizeof(moda_shard));
    }
    moda_live_initialize(random_of_process(1));
    moda_site_lives_timed = moda_options.lifetimes != 0 ? UINT64_MAX : MODA_LIVES_ALL;
    moda_track_initialize(moda_options.sample, seed);
    /* After mimalloc's, so that in each round of destructors ours runs behind it. */
    has_thread_key = pthread_key_create(&thread_key, thread_ends) == 0;
    moda_check(!has_thread_key || thread_key > moda_heap_thread_key());
}

void moda_process_begin(void) {
    if (moda_likely(moda_load_acquire(&is_begun))) {
        return;
    }
    moda_lock_take(&process_lock, MODA_LOCK_PROCESS);
    if (!is_begun) {
        begin_locked();
        moda_store_release(&is_begun, true);
    }
    moda_lock_release(&process_lock, MODA_LOCK_PROCESS);
}

/* ---- fork ---- */

/* Nothing may have been allocated yet, in another library's constructor. A handler that was left by longjmp is noticed first:
 * later it would be as if the locks were those that it had. */
static void before_fork(void) {
    (void)moda_handler_is_running();
    moda_lock_take(&process_lock, MODA_LOCK_PROCESS);
    if (is_begun) {
        moda_registry_lock();
        moda_track_before_fork();
    }
}

static void after_fork_in_parent(void) {
    if (is_begun) {
        moda_track_after_fork();
        moda_registry_unlock();
    }
    moda_lock_release(&process_lock, MODA_LOCK_PROCESS);
}

/* The region first: until then each count would be written into the parent's file. False: it stays the parent's, and what
 * the parent has counted there stays as it is; at least no new sites come to it. */
static bool begin_child(void) {
    const bool has_region = moda_region_fork_child();
    moda_heap_after_fork();
    moda_handler_after_fork();
    if (!has_region) {
        mod_alloc_set_sampling(0);
        return false;
    }
    moda_track_fork_child();
    moda_registry_fork_child();
    moda_region_fork_done();
    moda_lock_reset(&process_lock, MODA_LOCK_PROCESS);
    return true;
}

static void after_fork_in_child(void) {
    if (!is_begun || !begin_child()) {
        after_fork_in_parent();
    }
}

/* The handlers registered first are called last before the fork and first behind it, and those of other libraries allocate,
 * or wait for threads that do: ours come first of all, whoever registers one. */
static void watch_forks(void) {
    static bool are_watched;
    if (!are_watched) {
        are_watched = true;
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    }
}

typedef int register_function(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);

/* What pthread_atfork calls, from each object. Weak: a fully static program has libc's. */
MODA_EXPORT MODA_WEAK register_function __register_atfork;
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object) {
    static register_function *next;
    watch_forks();
    register_function *found = moda_load_relaxed(&next);
    if (found == NULL && dlsym != NULL) {
        found = (register_function *)dlsym(RTLD_NEXT, "__register_atfork");
        moda_store_relaxed(&next, found); /* two threads find the same */
    }
    return found != NULL ? found(prepare, parent, child, object) : ENOSYS;
}

void moda_process_forked_unseen(void) {
    moda_region_fork_parent(); /* what another thread may have been preparing */
    (void)begin_child();
}

void moda_process_note_heap(void) {
    moda_totals totals;
    moda_totals_read(&totals);
    const size_t live = totals.balance > 0 ? (size_t)totals.balance : 0;
    moda_store_relaxed(&moda_region()->heap_committed_bytes, moda_heap_system_bytes(live));
}

/* ---- exit ---- */

static int status_of_exit;
static bool is_finished;
static bool is_status_noted, will_note_status;

static void publish_mine(void) {
    if (moda_shard_mine()) {
        moda_shard_publish(moda_shard_mine());
    }
}

static void report_once(void) {
    static bool is_reported;
    if (!is_reported && moda_region()) {
        is_reported = true;
        publish_mine();
        moda_exit_report();
    }
}

/* Of a library that is loaded with the program this runs behind all objects' destructors, of one object with the program
 * before them: both are at home in a handler's list from when it was filled. */
static void note_status(int status, void *unused) {
    (void)unused;
    status_of_exit = status;
    is_status_noted = true;
    if (is_finished) {
        report_once();
        moda_region_finish(status);
    }
}

static void finish(void) {
    if (moda_region_forked_unseen()) {
        moda_process_forked_unseen();
    }
    if (!is_finished && moda_region()) {
        is_finished = true;
        publish_mine();
        if (moda_region_path()) {
            moda_process_note_heap(); /* 30 us: only for who reads it */
        }
        moda_region_finish(status_of_exit);
    }
}

static void before_quick_exit(void) {
    finish();
    report_once();
}

/* libmod_alloc.a in a library, which dlopen may have opened: exit's handler and threads' ends would call into it when it is
 * closed again. So it stays. (dlopen is looked up: the linker warns of each static program that names it.) */
static void stay(void) {
    Dl_info mine, program;
    if (__start_moda_text == NULL || dlsym == NULL || dladdr == NULL || dladdr(&process_lock, &mine) == 0
        || dladdr((const void *)getauxval(AT_PHDR), &program) == 0 || mine.dli_fbase == program.dli_fbase) {
        return;
    }
    __typeof__(dlopen) *const open = (__typeof__(dlopen) *)dlsym(RTLD_DEFAULT, "dlopen");
    if (open != NULL) {
        open(mine.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    }
}

__attribute__((constructor(101))) static void load(void) {
    is_bystander = !mod_alloc_is_active();
    stay();
    moda_attach();
    moda_track_program_begins();
    moda_signals_begin();
    watch_forks();
    will_note_status = on_exit(note_status, NULL) == 0;
    at_quick_exit(before_quick_exit);
    moda_exit_keep_stderr();
    if (is_bystander) {
        moda_exit_say_not_active();
    }
}

/* Behind the handlers of atexit, but in front of the destructors of libraries that do not depend on us: what is told waits
 * for the handler behind them, if that is still to come. */
__attribute__((destructor(101))) static void unload(void) {
    finish();
    if (is_status_noted || !will_note_status) {
        report_once();
    }
}

/* ---- threads ---- */

void moda_process_watch_thread(moda_shard *shard) {
    if (has_thread_key) {
        pthread_setspecific(thread_key, shard);
    }
}

bool moda_process_watch_lists(void) {
    return has_lists_key && pthread_setspecific(lists_key, &lists_key) == 0;
}

/* ---- now and then ---- */

void moda_process_maintain(void) {
    if (moda_region_forked_unseen()) {
        moda_process_forked_unseen();
    }
    moda_region_touch_clock();
    /* It opens a file, which a sandbox may end the process for: without a profile in a file only for this process itself
     * (mod_alloc_region); who reads its memory from outside goes without. */
    if (!moda_region_path()) {
        return;
    }
    /* Some 0.4 ms on a heap of 256 segments and more: once in a second, by whichever thread comes first. */
    static uint64_t noted_ns;
    const uint64_t now_ns = moda_load_relaxed(&moda_region()->latest_monotonic_ns);
    if (now_ns - moda_load_relaxed(&noted_ns) >= HEAP_NOTED_EVERY_NS) {
        moda_store_relaxed(&noted_ns, now_ns);
        moda_process_note_heap();
    }
}
