/* SPDX-License-Identifier: MIT
 *
 * os.h - what the inside asks of the system: memory, files, clocks, and who we are.
 *
 * Everything here may be called in the middle of malloc, before main, in a forked child and in a signal
 * handler: nothing allocates, takes a lock or is a cancellation point, and errno is kept. Failure is NULL,
 * false or a negative errno, never a message. A new system is one more file beside linux.c.
 */
#ifndef MODA_OS_OS_H
#define MODA_OS_OS_H

#include "base/compiler.h"

/* ---- memory: whole pages; sizes are rounded up ---- */

size_t moda_os_page_size(void);

/* Address space that nobody else gets, not yet usable, never made of huge pages (a first touch would make
 * 2 MiB resident). */
void *moda_os_reserve(size_t bytes);
/* Makes reserved space readable and writable; it is zero. Doing it twice does no harm. */
bool moda_os_commit(void *start, size_t bytes);
/* Zeroed memory, readable and writable. */
void *moda_os_map(size_t bytes);
void moda_os_unmap(void *start, size_t bytes);
/* The pages' memory goes; private ones are zero from then on. */
bool moda_os_give_back(void *start, size_t bytes);
/* The file's first bytes, shared with it; over the pages at `at`, or anywhere if that is NULL. The file may be
 * shorter: what lies behind its end must not be touched. */
void *moda_os_map_file(int fd, size_t bytes, void *at);
/* The same over the pages at `at`, but what is written there from now on is this process's alone. What is only read may
 * still change with the file. */
bool moda_os_map_file_privately(int fd, size_t bytes, void *at);
/* Moves pages over those at `to`. On failure both are as before. */
bool moda_os_move(void *from, size_t bytes, void *to);
/* A forked child finds these pages zeroed. False where the kernel can't. */
bool moda_os_wipe_on_fork(void *start, size_t bytes);
/* Copies what may not be there, or go meanwhile: false. `memory` is from the first, to be closed; no system call but
 * what reads files, which a sandbox is most likely to let through. */
int moda_os_open_memory(void);
bool moda_os_copy(int memory, void *to, const void *from, size_t bytes);
/* How much address space the process may have (ulimit -v); UINT64_MAX = as much as there is. */
uint64_t moda_os_address_space_limit(void);
/* How many of these bytes are in memory; 0 without /proc. */
uint64_t moda_os_resident_of(void *start, size_t bytes);

/* ---- files: a descriptor, or -errno ----
 * What would make a file longer than the process may (ulimit -f) fails with EFBIG; no signal comes of it. */

/* A new file, mode 0600, for reading and writing; fails where something of that name exists (also a
 * symbolic link). Closed on exec; a high number, so that the program's own descriptors stay what they were. */
int moda_os_create(const char *path);
int moda_os_open(const char *path);             /* for reading */
int moda_os_open_for_writing(const char *path); /* an existing file; no symbolic link */
void moda_os_close(int fd);
/* A lock that tells others that the file is in use, until the descriptor and its copies in children are closed; none where
 * the file system has no locks. Whether another has one, asked through a descriptor of one's own. */
void moda_os_hold(int fd);
bool moda_os_is_held(int fd);
/* Removes a regular file: no link, device or directory. */
void moda_os_unlink_file(const char *path);
bool moda_os_rename(const char *from, const char *to);
/* Which file a descriptor stands for; false if it is none. */
typedef struct moda_os_file_id {
    uint64_t device;
    uint64_t inode;
} moda_os_file_id;
bool moda_os_identify(int fd, moda_os_file_id *id);
/* Whether a descriptor still stands for that one: programs close all they find, and open others under the same numbers. */
bool moda_os_is_file(int fd, const moda_os_file_id *id);
/* Gives the file disk space for [from, to), so that writing there can't fail; 0, or the errno. */
int moda_os_allocate(int fd, uint64_t from, uint64_t to);
/* Bytes read, less than asked for only at the end; or -errno. */
long moda_os_read(int fd, void *buffer, size_t bytes);
bool moda_os_write(int fd, const void *bytes, size_t count);
bool moda_os_write_at(int fd, const void *bytes, size_t count, uint64_t offset);
/* A small file as a whole, as the ones of /proc; bytes read, 0 on failure. */
size_t moda_os_read_file(const char *path, char *buffer, size_t size);

/* ---- time ---- */

uint64_t moda_os_monotonic_ns(void);
uint64_t moda_os_realtime_ns(void);

/* ---- the process and the thread ---- */

uint32_t moda_os_pid(void);
uint32_t moda_os_parent_pid(void);
/* When a process began, in ticks of a clock that begins with the machine: with its pid this names it for ever, and it is
 * the same after exec. 0: there is none, or it isn't known. */
uint64_t moda_os_process_start(uint32_t pid);
uint32_t moda_os_tid(void);
/* True if the thread of this process is gone for certain. */
bool moda_os_thread_is_gone(uint32_t tid);
void moda_os_thread_name(char name[16]);
/* Set-user-ID, file capabilities and their like: the environment is not to be trusted. */
bool moda_os_is_secure(void);
/* These write a NUL-terminated text, cut to size, and return its length; 0 where it isn't known. */
size_t moda_os_executable(char *path, size_t size);   /* without /proc: the name that exec was given */
size_t moda_os_command_line(char *line, size_t size); /* arguments joined by spaces */
size_t moda_os_working_directory(char *path, size_t size);

/* Bytes in memory now, and at most so far; 0 where not known. Reads /proc: a few microseconds. */
uint64_t moda_os_resident_bytes(void);
uint64_t moda_os_resident_peak_bytes(void);

void moda_os_yield(void);

/* Waiting for another thread, a look at a time: pauses first, then yields. False, and nothing done, once so many yields were
 * made, or so many nanoseconds have passed since the first: where many threads want this core, each yield takes one's turn.
 * Begin with {0}. */
typedef struct moda_os_wait {
    uint32_t looks;
    uint64_t end_ns;
} moda_os_wait;
bool moda_os_wait_on(moda_os_wait *wait, uint32_t yields, uint64_t ns);

/* No signal handler comes on this thread, but for a fault, until moda_os_let_signals is given what this gave. */
uint64_t moda_os_hold_signals(void);
void moda_os_let_signals(uint64_t before);

#endif
