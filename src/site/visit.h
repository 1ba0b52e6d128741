/* SPDX-License-Identifier: MIT
 *
 * visit.h - the sites as the public header shows them; the functions themselves are declared in mod_alloc.h.
 */
#ifndef MODA_SITE_VISIT_H
#define MODA_SITE_VISIT_H

#include "mod_alloc.h"
#include "region/layout.h"

/* One site, all threads' counts added, estimates rounded, ticks turned to time; the overflow site too. */
void moda_site_describe(const moda_site *site, mod_alloc_call_site *description);

#endif
