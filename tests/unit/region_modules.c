/* SPDX-License-Identifier: MIT
 *
 * Objects are noted as the dynamic linker and readelf see them, and closed when they are gone.
 */
#define _GNU_SOURCE
#include "region/modules.h"

#include "site_rooms.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static const moda_module *module_of(uintptr_t address) {
    for (const moda_module *module = moda_region_at(moda_region()->modules); module != NULL;
         module = moda_region_at(module->next)) {
        if (module->generation_unmapped == 0 && address >= module->start && address < module->end) {
            return module;
        }
    }
    return NULL;
}

static void hex_build_id(const moda_module *module, char text[65]) {
    for (uint32_t i = 0; i < module->build_id_length; i++) {
        snprintf(text + 2 * i, 3, "%02x", module->build_id[i]);
    }
}

/* What readelf says of the file; "" if it says nothing. By descriptor, since an emulator may show this process other
 * files under a path than it shows readelf. */
static void read_build_id(const char *path, char text[65]) {
    char command[128];
    text[0] = '\0';
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s", path);
    snprintf(command, sizeof command, "readelf -n /proc/%d/fd/%d 2>/dev/null | sed -n 's/.*Build ID: //p'",
             (int)getpid(), fd);
    FILE *pipe = popen(command, "r");
    if (fscanf(pipe, "%64s", text) != 1) {
        text[0] = '\0';
    }
    pclose(pipe);
    close(fd);
}

/* Each loaded object's first executable segment is noted: the record must be what the linker says. */
static int check_object(struct dl_phdr_info *info, size_t size, void *count) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || (header->p_flags & PF_X) == 0) {
            continue;
        }
        const uintptr_t address = info->dlpi_addr + header->p_vaddr + 1;
        moda_modules_note(&(uint64_t){address}, 1);
        const moda_module *module = module_of(address);
        cr_assert_not_null(module, "%s", info->dlpi_name);
        cr_assert_eq(module->load_bias, info->dlpi_addr, "%s", module->path);
        const uint64_t page = 4095;
        cr_assert_eq(module->text_start, (info->dlpi_addr + header->p_vaddr) & ~page);
        cr_assert_eq(module->text_end, info->dlpi_addr + header->p_vaddr + header->p_memsz);
        cr_assert_eq(module->text_file_offset, header->p_offset & ~page);
        cr_assert_eq(module->path_length, strlen(module->path));
        char ours[65] = "";
        hex_build_id(module, ours);
        if (module->start == getauxval(AT_SYSINFO_EHDR)) {
            cr_assert_str_eq(module->path, "[vdso]");
        } else {
            char *resolved = realpath(info->dlpi_name[0] != '\0' ? info->dlpi_name : "/proc/self/exe", NULL);
            char *noted = realpath(module->path, NULL);
            cr_assert_str_eq(noted, resolved);
            cr_assert_eq(module->path[0], '/');
            free(resolved);
            free(noted);
            char theirs[65];
            read_build_id(module->path, theirs);
            cr_assert_str_eq(ours, theirs, "%s", module->path);
        }
        ++*(int *)count;
        return 0;
    }
    return 0;
}

Test(region_modules, all_loaded_objects_are_noted_as_they_are) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    int count = 0;
    dl_iterate_phdr(check_object, &count);
    cr_assert_geq(count, 3); /* the program, libc, the linker */
    cr_assert_eq(moda_region()->module_count, (uint32_t)count);
    cr_assert(moda_modules_are_valid());
    /* Once more: nothing is noted twice. */
    dl_iterate_phdr(check_object, &count);
    cr_assert_eq(moda_region()->module_count, (uint32_t)count / 2);
}

Test(region_modules, an_address_of_no_object_is_not_noted) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    moda_modules_note(&(uint64_t){0}, 1);
    moda_modules_note(&(uint64_t){UINTPTR_MAX}, 1);
    moda_modules_note(
        &(uint64_t){(uintptr_t)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)},
        1);
    cr_assert_eq(moda_region()->module_count, 0);
}

Test(region_modules, a_new_site_notes_the_objects_of_its_frames) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    moda_shard *shard = moda_registry_take();
    const uint64_t frames[2] = {(uint64_t)(uintptr_t)&module_of, (uint64_t)(uintptr_t)&strlen};
    moda_site_intern(shard, NULL, &(moda_walk){.count = 2}, frames);
    cr_assert_not_null(module_of((uintptr_t)frames[0]));
    cr_assert_not_null(module_of((uintptr_t)frames[1]));
    cr_assert_eq(moda_region()->module_count, 2);
}

static uintptr_t open_plugin(void **handle, const char *path) {
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(*handle, "%s", dlerror());
    return (uintptr_t)dlsym(*handle, "moda_plugin_function");
}

Test(region_modules, an_object_that_is_closed_is_closed_here) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    void *handle;
    const uintptr_t address = open_plugin(&handle, MODA_TEST_PLUGIN);
    moda_modules_note(&(uint64_t){address}, 1);
    moda_modules_note(&(uint64_t){(uintptr_t)&module_of}, 1);
    const moda_module *module = module_of(address);
    cr_assert_str_eq(module->path, MODA_TEST_PLUGIN);
    moda_modules_check();
    cr_assert_eq(moda_region()->module_generation, 0, "all is there");
    const uint64_t frame = address;
    cr_assert_not(moda_modules_were_unmapped_since(0, &frame, 1));
    dlclose(handle);
    moda_modules_check();
    cr_assert_eq(moda_region()->module_generation, 1);
    cr_assert_eq(module->generation_unmapped, 1);
    cr_assert_null(module_of(address));
    cr_assert_not_null(module_of((uintptr_t)&module_of));
    cr_assert(moda_modules_were_unmapped_since(0, &frame, 1));
    cr_assert_not(moda_modules_were_unmapped_since(1, &frame, 1));
    moda_modules_note(&(uint64_t){address}, 1);
    cr_assert_null(module_of(address), "a page once asked for is asked for again");
    cr_assert(moda_modules_are_valid());
}

/* Two objects in turn at the same place: a stack through the second is not the site of the first. */
Test(region_modules, a_stack_through_another_object_is_another_site) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    moda_shard *shard = moda_registry_take();
    moda_site_thread *thread = make_site_thread();
    void *handle;
    const uint64_t first = open_plugin(&handle, MODA_TEST_PLUGIN);
    const uint64_t with_plugin[2] = {first, (uint64_t)(uintptr_t)&module_of};
    const uint64_t without[2] = {(uint64_t)(uintptr_t)&open_plugin, (uint64_t)(uintptr_t)&module_of};
    const moda_walk walk = {.count = 2};
    const moda_site *old = moda_site_intern(shard, thread, &walk, with_plugin);
    const moda_site *steady = moda_site_intern(shard, thread, &walk, without);
    cr_assert_eq(moda_site_intern(shard, thread, &walk, with_plugin), old);
    dlclose(handle);
    moda_modules_check();
    const uint64_t second = open_plugin(&handle, MODA_TEST_PLUGIN_2);
    if (first != second) {
        cr_skip_test("the second object came to another address"); /* in qemu-user, always */
    }
    cr_assert_eq(moda_site_intern(shard, thread, &walk, without), steady);
    const moda_site *new = moda_site_intern(shard, thread, &walk, with_plugin);
    cr_assert_neq(new, old);
    cr_assert_eq(new->generation, 1);
    cr_assert_eq(moda_site_intern(shard, thread, &walk, with_plugin), new);
    cr_assert_eq(moda_site_intern(shard, NULL, &walk, with_plugin), new);
    cr_assert_eq(moda_region()->site_count, 3);
    cr_assert_str_eq(module_of(second)->path, MODA_TEST_PLUGIN_2);
    cr_assert(moda_site_table_is_valid());
    cr_assert(moda_modules_are_valid());
}

/* Nobody called moda_modules_check: the place itself tells. */
Test(region_modules, an_object_over_an_older_one_closes_it) {
    cr_assert(make_rooms(16 * MIB, 64, NULL));
    void *handle;
    const uintptr_t address = open_plugin(&handle, MODA_TEST_PLUGIN);
    moda_modules_note(&(uint64_t){address}, 1);
    moda_module *module = moda_region_at(moda_region()->modules);
    dlclose(handle);
    /* As if it had been larger, and the new one lay in what it had beyond. */
    open_plugin(&handle, MODA_TEST_PLUGIN_2);
    module->end = module->start + 64;
    const uintptr_t again = (uintptr_t)dlsym(handle, "moda_plugin_function");
    if (again != address) {
        cr_skip_test("the second object came to another address");
    }
    moda_modules_note(&(uint64_t){again + 4096 * 64 * 1024}, 1);
    moda_region()->module_generation = 5; /* no page is remembered */
    moda_modules_note(&(uint64_t){again}, 1);
    cr_assert_eq(module->generation_unmapped, 6);
    cr_assert_str_eq(module_of(again)->path, MODA_TEST_PLUGIN_2);
    cr_assert(moda_modules_are_valid());
}
