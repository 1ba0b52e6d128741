/* SPDX-License-Identifier: MIT
 *
 * symbolize_objects.c - the files of objects: which one is a module's, opened with elfutils' libdwfl.
 *
 * symbolize.c calls. Each object has a Dwfl of its own, so that addresses are those of the file; libdwfl finds
 * separate debug files by build id and debuglink, and asks debuginfod if the user has set DEBUGINFOD_URLS.
 *
 * Law
 *   a file of another build id than the recorded one is not opened.
 */
#include "report/symbolize_parts.h"

#include <fcntl.h>
#include <gelf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void moda_symbolize_close(moda_object *o) {
    if (o->dwfl != NULL)
        dwfl_end(o->dwfl);
    o->dwfl = NULL;
    o->module = NULL;
    o->dwarf = NULL;
    o->bytes_read = 0;
}

/* The file holds the recorded object, as far as can be told. */
static bool has_build_id(const moda_object *o, Dwfl_Module *module) {
    if (o->build_id_length == 0)
        return true;
    const unsigned char *bits;
    GElf_Addr address;
    const int length = dwfl_module_build_id(module, &bits, &address);
    return length == (int)o->build_id_length && memcmp(bits, o->build_id, o->build_id_length) == 0;
}

static bool open_as(moda_symbolizer *s, moda_object *o, const char *file, int fd) {
    o->dwfl = dwfl_begin(&s->callbacks);
    if (o->dwfl == NULL)
        return false;
    /* libdwfl takes the descriptor over. */
    const int own = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (own >= 0 && fstat(own, &status) == 0 && S_ISREG(status.st_mode))
        o->module = dwfl_report_elf(o->dwfl, file, file, own, 0, true);
    if (o->module == NULL && own >= 0)
        close(own);
    dwfl_report_end(o->dwfl, NULL, NULL);
    GElf_Addr bias = 0;
    if (o->module != NULL && dwfl_module_getelf(o->module, &bias) != NULL && bias == 0
        && has_build_id(o, o->module)) {
        o->facts.is_changed = o->facts.is_missing = false;
        return true;
    }
    moda_symbolize_close(o);
    return false;
}

/* The kernel's object has no file: this process's copy, if it has the same build id. */
static int copy_vdso(void) {
    const uint8_t *const image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR); /* NOLINT */
    if (image == NULL)
        return -1;
    const ElfW(Ehdr) *const header = (const ElfW(Ehdr) *)(const void *)image;
    const size_t size = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    const int fd = memfd_create("vdso", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (write(fd, image, size) == (ssize_t)size)
        return fd;
    close(fd);
    return -1;
}

static char *join(const char *a, const char *b) {
    const size_t room = strlen(a) + strlen(b) + 1;
    char *const joined = malloc(room);
    if (joined != NULL)
        snprintf(joined, room, "%s%s", a, b);
    return joined;
}

/* The debug file that distributions install under the build id; it has all symbols. */
static char *build_id_file(const moda_symbolizer *s, const moda_object *o) {
    if (o->build_id_length < 2)
        return NULL;
    char hex[65];
    for (uint32_t i = 0; i < o->build_id_length; i++)
        snprintf(hex + 2 * i, 3, "%02x", o->build_id[i]);
    char path[256];
    snprintf(path, sizeof path, "/usr/lib/debug/.build-id/%.2s/%s.debug", hex, hex + 2);
    return join(s->root != NULL ? s->root : "", path);
}

bool moda_symbolize_open(moda_symbolizer *s, moda_object *o) {
    if (o->file != NULL || o->fd >= 0)
        return open_as(s, o, o->file != NULL ? o->file : "[vdso]", o->fd);
    if (strcmp(o->path, "[vdso]") == 0) {
        o->fd = copy_vdso();
        return o->fd >= 0 && open_as(s, o, "[vdso]", o->fd);
    }
    if (o->path[0] != '/')
        return false;
    o->file = join(s->root != NULL ? s->root : "", o->path);
    if (o->file != NULL && open_as(s, o, o->file, -1))
        return true;
    o->facts.is_missing = o->file != NULL && access(o->file, F_OK) != 0;
    o->facts.is_changed = !o->facts.is_missing && o->build_id_length > 0;
    free(o->file);
    o->file = build_id_file(s, o);
    if (o->file != NULL && open_as(s, o, o->file, -1))
        return true;
    free(o->file);
    o->file = NULL;
    return false;
}

moda_object *moda_symbolize_object(moda_symbolizer *s, const moda_profile_module *module) {
    for (moda_object *o = s->objects; o != NULL; o = o->next) {
        if (strcmp(o->path, module->path) == 0 && o->build_id_length == module->build_id_length
            && memcmp(o->build_id, module->build_id, o->build_id_length) == 0)
            return o;
    }
    moda_object *const o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->fd = -1;
    o->path = moda_arena_intern(s->arena, module->path);
    if (o->path == NULL) {
        free(o);
        return NULL;
    }
    o->build_id_length = module->build_id_length;
    memcpy(o->build_id, module->build_id, sizeof o->build_id);
    o->next = s->objects;
    s->objects = o;
    return o;
}

void moda_symbolize_free_objects(moda_symbolizer *s) {
    for (moda_object *o = s->objects; o != NULL;) {
        moda_object *const next = o->next;
        moda_symbolize_close(o);
        if (o->fd >= 0)
            close(o->fd);
        free(o->file);
        free(o->symbols);
        free(o->units);
        free(o->ranges);
        free(o->results);
        free(o);
        o = next;
    }
}
