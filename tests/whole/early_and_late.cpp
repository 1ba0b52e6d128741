/* SPDX-License-Identifier: MIT
 *
 * early_and_late.cpp - allocation at the edges of a process's and a thread's life: before main (preinit,
 * constructors of each priority, C++ statics), in destructors of thread-local objects and of thread keys
 * (all rounds), in atexit handlers, in destructors after main. Everywhere malloc works and counts.
 */
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "mod_alloc.h"

#ifdef WHOLE_PRELOADED
#pragma weak mod_alloc_snapshot
#pragma weak mod_alloc_is_active
#endif

static int failures;

static void check(bool claim, const char *where, const char *what, long long found = 0,
                  long long expected = 0) {
    if (!claim) {
        __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
        dprintf(STDERR_FILENO, "early_and_late.cpp: %s: not so: %s (found %lld, expected %lld)\n", where,
                what, found, expected);
    }
}

/* Four calls whose counts are known. One thread at a time runs here. */
static void exactly(const char *where) {
    mod_alloc_stats before, after;
    if (mod_alloc_is_active() != 1) {
        check(false, where, "mod_alloc_is_active");
        return;
    }
    mod_alloc_snapshot(&before);
    void *p = malloc(100);
    void *q = calloc(10, 30);
    p = realloc(p, 5000);
    mod_alloc_snapshot(&after);
    check(p != nullptr && q != nullptr, where, "blocks");
    check(after.alloc_count - before.alloc_count == 3, where, "alloc_count",
          static_cast<long long>(after.alloc_count - before.alloc_count), 3);
    check(after.live_count - before.live_count == 2, where, "live_count",
          static_cast<long long>(after.live_count - before.live_count), 2);
    check(after.requested_bytes - before.requested_bytes == 5400, where, "requested_bytes",
          static_cast<long long>(after.requested_bytes - before.requested_bytes), 5400);
    const std::uint64_t bytes = malloc_usable_size(p) + malloc_usable_size(q);
    check(after.current_bytes - before.current_bytes == bytes, where, "current_bytes",
          static_cast<long long>(after.current_bytes - before.current_bytes), static_cast<long long>(bytes));
    free(p);
    free(q);
    mod_alloc_snapshot(&after);
    check(after.free_count - before.free_count == 2, where, "free_count",
          static_cast<long long>(after.free_count - before.free_count), 2);
    check(after.current_bytes == before.current_bytes, where, "current_bytes after free",
          static_cast<long long>(after.current_bytes), static_cast<long long>(before.current_bytes));
    check(after.live_count == before.live_count, where, "live_count after free",
          static_cast<long long>(after.live_count), static_cast<long long>(before.live_count));
}

/* ---- before main ---- */

static int steps_before_main;
static void *from_the_first_constructor;

__attribute__((constructor(101))) static void first_constructor() {
    steps_before_main++;
    exactly("constructor(101)");
    from_the_first_constructor = malloc(3000);
}

__attribute__((constructor(65000))) static void late_constructor() {
    steps_before_main++;
    exactly("constructor(65000)");
    free(from_the_first_constructor);
}

#ifdef WHOLE_PREINIT
static void before_all_constructors() {
    steps_before_main++;
    exactly("preinit_array");
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)() = before_all_constructors;
#endif

struct global_object {
    std::vector<std::string> words;
    global_object() {
        steps_before_main++;
        exactly("constructor of a global object");
        for (int i = 0; i < 100; i++) {
            words.push_back(std::string(100, static_cast<char>('a' + i % 26)));
        }
    }
    ~global_object() {
        exactly("destructor of a global object");
        check(words.size() == 100 && words[27][99] == 'b', "destructor of a global object", "contents");
    }
};
static global_object global;

/* ---- the end of a thread ---- */

struct local_object {
    std::string *text;
    local_object() : text(new std::string(500, 'x')) {
    }
    ~local_object() {
        exactly("destructor of a thread-local object");
        check(text->size() == 500, "destructor of a thread-local object", "contents");
        delete text;
    }
};
static thread_local local_object local;

static pthread_key_t keys[3];
static int rounds_seen, key_destructors;

/* Arms itself again as long as the system allows: each round allocates and frees, blocks of earlier rounds too. */
static void key_destructor(void *value) {
    key_destructors++;
    exactly("destructor of a thread key");
    char **state = static_cast<char **>(value);
    const int round = ++state[0][0];
    if (round > rounds_seen) {
        rounds_seen = round;
    }
    free(state[1]);
    state[1] = static_cast<char *>(malloc(static_cast<std::size_t>(round) * 1000));
    if (round < 6) {
        pthread_setspecific(keys[static_cast<unsigned char>(state[0][1])], value);
    }
}

struct key_value {
    char *state[2];
    char bytes[2];
};
static key_value values[3];

static void *thread_with_everything(void *) {
    exactly("first allocation of a thread");
    check(local.text->size() == 500, "thread", "thread-local object");
    for (int i = 0; i < 3; i++) {
        values[i].bytes[0] = 0;
        values[i].bytes[1] = static_cast<char>(i);
        values[i].state[0] = values[i].bytes;
        values[i].state[1] = static_cast<char *>(malloc(77));
        pthread_setspecific(keys[i], values[i].state);
    }
    return nullptr;
}

static void *freed_late;
static pthread_key_t only_frees;
static void destructor_that_only_frees(void *) {
    free(freed_late);
}
static void *thread_that_frees_late(void *) {
    pthread_setspecific(only_frees, &freed_late);
    return nullptr;
}

static void ends_of_threads() {
    for (pthread_key_t &key : keys) {
        pthread_key_create(&key, key_destructor);
    }
    pthread_key_create(&only_frees, destructor_that_only_frees);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        rounds_seen = 0;
        check(pthread_create(&thread, nullptr, thread_with_everything, nullptr) == 0, "thread",
              "pthread_create");
        pthread_join(thread, nullptr);
        check(rounds_seen >= 4, "destructor of a thread key", "rounds", rounds_seen, 4);
        mod_alloc_stats before, after;
        mod_alloc_snapshot(&before);
        std::uint64_t bytes = 0;
        for (key_value &value : values) {
            bytes += malloc_usable_size(value.state[1]);
            free(value.state[1]);
        }
        mod_alloc_snapshot(&after);
        check(before.current_bytes - after.current_bytes == bytes, "blocks of the last round",
              "current_bytes", static_cast<long long>(before.current_bytes - after.current_bytes),
              static_cast<long long>(bytes));
        check(after.free_count - before.free_count == 3, "blocks of the last round", "free_count",
              static_cast<long long>(after.free_count - before.free_count), 3);

        /* A thread whose only use of malloc is a free, in its last moment. */
        freed_late = malloc(640);
        mod_alloc_snapshot(&before);
        const std::uint64_t block = malloc_usable_size(freed_late);
        pthread_create(&thread, nullptr, thread_that_frees_late, nullptr);
        pthread_join(thread, nullptr);
        mod_alloc_snapshot(&after);
        check(after.free_count - before.free_count >= 1, "free in a key's destructor", "free_count");
        if (i > 0) { /* the stack of an earlier thread is used again, with what belongs to it */
            check(before.current_bytes - after.current_bytes == block, "free in a key's destructor",
                  "current_bytes", static_cast<long long>(before.current_bytes - after.current_bytes),
                  static_cast<long long>(block));
        }
    }
}

/* ---- after main ---- */

static void *kept_for_the_end;

static void at_exit_first_registered() {
    exactly("atexit handler");
    free(kept_for_the_end);
    kept_for_the_end = malloc(123456);
}

static void at_exit_registers_another() {
    exactly("atexit handler that registers another");
    atexit([] { exactly("atexit handler registered while exiting"); });
}

__attribute__((destructor(101))) static void last_destructor() {
    exactly("destructor(101)");
    free(kept_for_the_end);
    exactly("destructor(101), the end");
    if (failures != 0) {
        _exit(1);
    }
}

int main() {
    int expected = 3;
#ifdef WHOLE_PREINIT
    expected = 4;
#endif
    check(steps_before_main == expected, "main", "constructors before main", steps_before_main, expected);
    exactly("main");
    check(local.text->size() == 500, "main", "thread-local object of the main thread");
    ends_of_threads();
    kept_for_the_end = malloc(77777);
    atexit(at_exit_first_registered);
    atexit(at_exit_registers_another);
    return failures == 0 ? 0 : 1;
}
