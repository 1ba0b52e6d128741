/* SPDX-License-Identifier: MIT
 *
 * unit.c - THE translation unit: mimalloc's sources, the port, the fast paths and what they tail-call, and the
 * exported malloc family, in one, so that a malloc is one straight run of instructions.
 *
 * The order is the layering: each part uses only parts above it. mimalloc's text is not ours: its warnings
 * are its own. It is found by the include path (cmake/mimalloc.cmake) and never edited.
 */
#if defined(MI_MALLOC_OVERRIDE)
#error "mimalloc must not export malloc itself: the entry points are entry/libc.inc"
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
/* Its C-compiled operator new brings a weak stand-in for libstdc++'s std::get_new_handler, which would hide the
 * real one from entry/cxx.inc. */
#define _ZSt15get_new_handlerv moda_unused_get_new_handler
#include "mimalloc.h"
#if MI_MALLOC_VERSION == 209
/* Its calls of this function go to port/v2_0.h, its definition `mi_abandoned_pop(void)` gets another name. */
struct mi_segment_s;
static struct mi_segment_s *moda_mi_abandoned_pop_(void);
#define mi_abandoned_pop(...) moda_mi_abandoned_pop_##__VA_ARGS__()
#endif
#include "static.c"
#undef mi_abandoned_pop
#undef _ZSt15get_new_handlerv
#pragma GCC diagnostic pop

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "base/compiler.h"
#include "base/fatal.h"
#include "entry/api.h"
#include "entry/cxx_library.h"
#include "entry/exit.h"
#include "mod_alloc.h"
#include "os/os.h"
#include "region/region.h"
#include "region/modules.h"
#include "sample/track.h"
#include "site/deltas.h"
#include "site/site_table.h"

#include "port/heap_inline.h"
#include "port/heap_functions.inc"

#include "shard/shard.h"

#include "entry/process.h"
#include "hot/lists.h"
#include "hot/caller.h"
#include "hot/guard.h"
#include "hot/attach.inc"
#include "hot/count.inc"
#include "hot/handler.inc"
#include "hot/track.inc"
#include "hot/every.inc"
#include "hot/free_fast.h"
#include "hot/slow.inc"
#include "hot/malloc_fast.h"
#include "hot/realloc.inc"
#include "hot/aligned.inc"

#include "entry/libc.inc"
#include "entry/cxx.inc"
