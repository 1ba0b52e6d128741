/* SPDX-License-Identifier: MIT
 *
 * lazy_library.c - a function whose address is found at its first call by code that calls back into the test,
 * under ld.so's lazy binding.
 */
extern void (*lazy_hook)(void);

static int lazy_implementation(void) {
    return 42;
}

static int (*resolve_lazy(void))(void) {
    if (lazy_hook != 0) {
        lazy_hook();
    }
    return lazy_implementation;
}

int lazy_function(void) __attribute__((ifunc("resolve_lazy")));
