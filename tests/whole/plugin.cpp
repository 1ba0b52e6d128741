/* SPDX-License-Identifier: MIT
 *
 * plugin.cpp - what dynamic_loading.c opens and closes: a library that allocates when it is loaded, in calls,
 * from thread-local objects, and when it is unloaded.
 */
#include <cstdlib>
#include <string>
#include <vector>

static std::vector<std::string> *loaded;
static void *block;

__attribute__((constructor)) static void on_load() {
    block = malloc(4321);
    loaded = new std::vector<std::string>(100, std::string(200, 'p'));
}

__attribute__((destructor)) static void on_unload() {
    delete loaded;
    free(block);
    free(malloc(99));
}

struct local_object {
    void *p = malloc(1000);
    ~local_object() {
        free(p);
    }
};
static thread_local local_object local;

extern "C" int plugin_work(int turns) {
    std::vector<std::string> words;
    for (int i = 0; i < turns; i++) {
        words.push_back(std::string(static_cast<std::size_t>(i), 'w'));
    }
    return static_cast<int>(words.size()) + (local.p != nullptr ? 1 : 0) + static_cast<int>(loaded->size());
}

extern "C" void *plugin_block(std::size_t size) {
    return malloc(size);
}
extern "C" void plugin_free(void *p) {
    free(p);
}

/* The two names are looked for at their first call, by a lazy binding. */
extern "C" void *plugin_new(std::size_t size) {
    return new char[size];
}
extern "C" void plugin_delete(void *p) {
    delete[] static_cast<char *>(p);
}
