/* SPDX-License-Identifier: MIT
 *
 * signals.h - sigaction and its kin: so that a handler may allocate whatever it has interrupted.
 */
#ifndef MODA_ENTRY_SIGNALS_H
#define MODA_ENTRY_SIGNALS_H

/* Once, from the constructor. Before it handlers are called rightly, too, with more to look at. */
void moda_signals_begin(void);

#endif
