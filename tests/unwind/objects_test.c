/* SPDX-License-Identifier: MIT
 *
 * objects_test.c - objects that come, go, bind late, or have no tables.
 */
#include "support.h"

#include <dlfcn.h>
#include <iconv.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>

#include "unwind/row_cache.h"

static support_result result;
static unsigned walks;

static void begin(void) {
    support_begin(MODA_UNWIND_AUTO);
}

#define OBJECTS_TEST(name) Test(objects, name, .init = begin, .timeout = 600)

static void walk_back(void) {
    support_walk(&result);
    walks++;
    KEEP(&result);
}

typedef void plugin_function(void (*callback)(void));

static plugin_function *open_plugin(const char *path, const char *name, void **handle) {
    *handle = dlopen(path, RTLD_NOW);
    cr_assert_neq(*handle, NULL, "%s", dlerror());
    plugin_function *function = (plugin_function *)(uintptr_t)dlsym(*handle, name);
    cr_assert_neq(function, NULL);
    return function;
}

__attribute__((noinline)) static void call_plugin(plugin_function *function) {
    function(walk_back);
    KEEP(&function);
}

static void expect_complete(void) {
    cr_expect(result.is_same, "%u frames of ours, %u of libgcc's", result.plain.count,
              result.reference_count);
    cr_expect(result.is_same_kept);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_COMPLETE);
}

OBJECTS_TEST(a_closed_object_is_forgotten) {
    void *handle;
    plugin_function *small = open_plugin(PLUGIN_SMALL, "plugin_call", &handle);
    call_plugin(small);
    expect_complete();
    dlclose(handle);
    moda_unwind_forget();
    plugin_function *large = open_plugin(PLUGIN_LARGE, "plugin_call", &handle);
    if (large != small) {
        cr_skip_test("the second object came to another address");
    }
    call_plugin(large);
    expect_complete();
}

/* The test above is only worth something if rows do go stale when nobody forgets them. */
OBJECTS_TEST(rows_of_a_closed_object_are_stale_until_forgotten) {
    void *handle;
    plugin_function *small = open_plugin(PLUGIN_SMALL, "plugin_call", &handle);
    call_plugin(small);
    dlclose(handle);
    plugin_function *large = open_plugin(PLUGIN_LARGE, "plugin_call", &handle);
    if (large != small) {
        cr_skip_test("the second object came to another address");
    }
    call_plugin(large);
    cr_expect_not(result.is_same);
    moda_unwind_forget();
    call_plugin(large);
    expect_complete();
}

OBJECTS_TEST(tags_of_epochs_repeat_without_stale_rows) {
    void *handle;
    plugin_function *small = open_plugin(PLUGIN_SMALL, "plugin_call", &handle);
    call_plugin(small);
    dlclose(handle);
    for (int i = 0; i < 255; i++) {
        moda_unwind_forget();
    }
    plugin_function *large = open_plugin(PLUGIN_LARGE, "plugin_call", &handle);
    if (large != small) {
        cr_skip_test("the second object came to another address");
    }
    call_plugin(large);
    expect_complete();
}

OBJECTS_TEST(link_maps_of_walked_objects_are_known_once) {
    void *handle;
    plugin_function *plugin = open_plugin(PLUGIN_SMALL, "plugin_call", &handle);
    cr_expect_not(moda_unwind_knows_link_map(handle)); /* a handle is the link_map */
    call_plugin(plugin);
    int other;
    cr_expect_not(moda_unwind_knows_link_map(&other));
    cr_expect(moda_unwind_knows_link_map(handle));
    cr_expect_not(moda_unwind_knows_link_map(handle));
    moda_unwind_forget();
    call_plugin(plugin);
    cr_expect(moda_unwind_knows_link_map(handle));
}

/* iconv opens and closes its modules without dlopen and dlclose. */
OBJECTS_TEST(modules_of_iconv_come_and_go) {
    for (int i = 0; i < 20; i++) {
        iconv_t to = iconv_open(i % 2 == 0 ? "EUC-JP" : "KOI8-R", "UTF-8");
        walk_back();
        expect_complete();
        if (to != (iconv_t)-1) {
            iconv_close(to);
        }
        moda_unwind_forget();
        walk_back();
        expect_complete();
    }
}

/* ---- lazy binding ---- */

#if defined(__x86_64__)
void (*lazy_hook)(void);
int lazy_function(void);

OBJECTS_TEST(a_call_under_lazy_binding_is_walked_to_the_end) {
    lazy_hook = walk_back;
    walks = 0;
    cr_expect_eq(lazy_function(), 42); /* walk_back, resolver, _dl_fixup, _dl_runtime_resolve, we */
    if (walks == 0) {
        cr_skip_test("bound at load time");
    }
    expect_complete();
    cr_expect_geq(result.plain.count, 8);
}
#endif

/* ---- code without tables ---- */

OBJECTS_TEST(a_library_without_tables_is_passed_by_frame_pointer_and_marked) {
    void *handle;
    call_plugin(open_plugin(BARE_WITH_FP, "bare_call", &handle));
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_GUESSED);
    cr_expect_eq(result.plain.guessed, 1);
    void *here[SUPPORT_FRAMES_MAX];
    const int count = backtrace(here, SUPPORT_FRAMES_MAX);
    cr_assert_eq(result.plain.count, (uint32_t)count + 3); /* walk_back, bare_call, call_plugin */
    cr_expect_eq(memcmp(&result.frames[4], &here[1], (size_t)(count - 1) * 8), 0);
}

/* A handler returns to a place where nobody called from. */
OBJECTS_TEST(a_signal_handler_without_tables_is_passed) {
    void *handle;
    struct sigaction action = {
        .sa_handler = (void (*)(int))(uintptr_t)open_plugin(BARE_WITH_FP, "bare_handler", &handle)};
    *(void (**)(void))dlsym(handle, "bare_hook") = walk_back;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_GUESSED);
    cr_expect_eq(result.plain.guessed, 1);
    void *here[SUPPORT_FRAMES_MAX];
    const int count = backtrace(here, SUPPORT_FRAMES_MAX);
    cr_assert_gt(result.plain.count, (uint32_t)count);
    cr_expect_eq(
        memcmp(&result.frames[result.plain.count - (uint32_t)count + 1], &here[1], (size_t)(count - 1) * 8),
        0);
}

OBJECTS_TEST(a_guess_may_lead_into_an_object_whose_segments_nobody_knows) {
    void *handle;
    void (*inner)(void) = (void (*)(void))(uintptr_t)open_plugin(BARE_WITH_FP, "bare_handler", &handle);
    *(void (**)(void))dlsym(handle, "bare_hook") = walk_back;
    open_plugin(BARE_WITHOUT_HEADERS, "bare_call", &handle)(inner);
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_GUESSED, "ended by %d", result.plain.end);
    cr_expect_eq(result.plain.guessed, 2);
}

OBJECTS_TEST(without_tables_and_frame_pointers_a_walk_is_never_complete) {
    void *handle;
    call_plugin(open_plugin(BARE_WITHOUT_FP, "bare_call", &handle));
    cr_expect_neq(result.plain.end, MOD_ALLOC_WALK_COMPLETE);
    cr_expect(result.is_same_kept);
}

/* Where the function behind a guessed step finds its frame by sp, and has no record that says where sp was: on aarch64
 * the walk ends there, with what is sure. On x86-64 the step itself says where sp was. */
OBJECTS_TEST(a_guessed_step_to_a_caller_without_a_record_leads_to_no_wrong_frame) {
    void *handle;
    plugin_function *bare = open_plugin(BARE_WITH_FP, "bare_call", &handle);
    void (*call)(plugin_function *, void (*)(void)) = (void (*)(plugin_function *, void (*)(void)))(
        uintptr_t)open_plugin(NO_RECORD, "no_record_call", &handle);
    call(bare, walk_back);
    void *here[SUPPORT_FRAMES_MAX];
    const int count = backtrace(here, SUPPORT_FRAMES_MAX);
    Dl_info info;
    cr_assert_geq(result.plain.count, 3);
    cr_assert_neq(dladdr((void *)(uintptr_t)result.frames[2], &info), 0);
    cr_expect_str_eq(info.dli_sname, "no_record_call");
    cr_expect_eq(result.plain.guessed, 1);
    cr_expect(result.is_same_kept);
#if defined(__aarch64__)
    (void)count;
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_UNKNOWN, "ended by %d", result.plain.end);
    cr_expect_eq(result.plain.count, 3, "%u frames",
                 result.plain.count); /* walk_back, bare_call, no_record_call */
#else
    cr_expect_eq(result.plain.end, MOD_ALLOC_WALK_GUESSED);
    cr_assert_eq(result.plain.count, (uint32_t)count + 3);
    cr_expect_eq(memcmp(&result.frames[4], &here[1], (size_t)(count - 1) * 8), 0);
#endif
}

/* ---- the cache ---- */

static unsigned long memory_given;
static void *count_memory(size_t bytes) {
    memory_given += bytes;
    return support_memory(bytes);
}
static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

OBJECTS_TEST(without_memory_walks_are_right) {
    moda_unwind_set_memory(no_memory);
    for (int i = 0; i < 3; i++) {
        walk_back();
        expect_complete();
    }
    uint32_t bits;
    cr_expect_eq(moda_row_cache_count(&bits), 0);
    cr_expect_eq(bits, 0);
}

OBJECTS_TEST(the_cache_grows_to_its_bound_and_no_further) {
    moda_unwind_set_memory(count_memory);
    const uintptr_t code = (uintptr_t)&qsort;
    uint32_t bits = 0;
    walk_back();
    cr_expect_gt(moda_row_cache_count(&bits), 0);
    cr_expect_eq(bits, MODA_ROW_TABLE_FIRST_BITS);
    for (uintptr_t pc = code; pc < code + 1000000; pc++) {
        const moda_row_view view = moda_row_view_now();
        const moda_row first = moda_row_lookup(&view, pc), again = moda_row_lookup(&view, pc);
        cr_assert_eq(first, again);
    }
    const uint32_t count = moda_row_cache_count(&bits);
    cr_expect_eq(bits, MODA_ROW_TABLE_LAST_BITS);
    cr_expect_leq(count, (1u << MODA_ROW_TABLE_LAST_BITS) + MODA_ROW_PROBES_MAX);
    cr_expect_leq(memory_given, 6u << 20);
    walk_back();
    expect_complete();
}

/* One that another thread was at making would never be done in the child, which could then make none. */
OBJECTS_TEST(no_table_is_made_around_a_fork) {
    uint32_t bits;
    moda_unwind_set_memory(count_memory);
    cr_assert(moda_unwind_fork_prepare());
    cr_expect_not(moda_unwind_fork_prepare(), "one is being made, as far as is known");
    walk_back();
    expect_complete();
    cr_expect_eq(moda_row_cache_count(&bits), 0);
    cr_expect_eq(memory_given, 0);
    moda_unwind_fork_over();
    walk_back();
    cr_expect_gt(moda_row_cache_count(&bits), 0);
    moda_rows.is_growing = 1;
    moda_unwind_fork_over();
    cr_expect(moda_unwind_fork_prepare());
    moda_unwind_fork_over();
}
