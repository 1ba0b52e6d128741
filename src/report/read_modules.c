/* SPDX-License-Identifier: MIT
 *
 * read_modules.c - which objects were mapped where, and when, oldest first. read.c calls.
 */
#include "report/read.h"

#include <string.h>

static bool check_module(moda_reader *r, const moda_module *m) {
    const uint64_t offset = moda_read_offset_of(r, m);
    if (m->build_id_length > sizeof m->build_id)
        return moda_read_bad(r, offset + offsetof(moda_module, build_id_length), "build id length",
                             m->build_id_length, "at most 32");
    const uint64_t path = offset + offsetof(moda_module, path);
    if (m->path_length >= r->size - path)
        return moda_read_bad(r, offset + offsetof(moda_module, path_length), "path length", m->path_length,
                             "one that ends inside the profile");
    if (m->path[m->path_length] != 0)
        return moda_read_bad(r, path + m->path_length, "the path's last byte",
                             (unsigned char)m->path[m->path_length], "0");
    if (m->start > m->end)
        return moda_read_bad(r, offset + offsetof(moda_module, start), "module start", m->start,
                             "at most its end");
    return true;
}

bool moda_read_modules(moda_reader *r) {
    const uint64_t most = r->size / sizeof(moda_module) + 1;
    size_t count = 0;
    uint64_t holder = offsetof(moda_region_header, modules);
    for (moda_ref ref = r->header.modules; ref != 0;) {
        const moda_module *const m = moda_read_record(r, holder, ref, sizeof *m + 1, "module");
        if (m == NULL || !check_module(r, m))
            return false;
        if (++count > most)
            return moda_read_bad(r, holder, "length of the list of modules", count, "no cycle");
        holder = moda_read_offset_of(r, m);
        ref = m->next;
    }
    moda_profile_module *const modules = moda_arena_alloc(r->arena, (count + 1) * sizeof *modules);
    if (modules == NULL)
        return moda_read_no_memory(r);
    size_t i = count; /* the list begins with the newest */
    for (moda_ref ref = r->header.modules; ref != 0 && i > 0;) {
        const moda_module *const m = moda_read_again(r, ref);
        moda_profile_module *const to = &modules[--i];
        *to = (moda_profile_module){
            .path = moda_arena_intern(r->arena, m->path),
            .start = m->start,
            .end = m->end,
            .load_bias = m->load_bias,
            .text_start = m->text_start,
            .text_end = m->text_end,
            .text_file_offset = m->text_file_offset,
            .generation_mapped = m->generation_mapped,
            .generation_unmapped = m->generation_unmapped,
            .build_id_length = m->build_id_length,
        };
        memcpy(to->build_id, m->build_id, sizeof to->build_id);
        if (to->path == NULL)
            return moda_read_no_memory(r);
        ref = m->next;
    }
    r->process->modules = modules;
    r->process->module_count = count;
    return true;
}
