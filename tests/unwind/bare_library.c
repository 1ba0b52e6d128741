/* SPDX-License-Identifier: MIT
 *
 * bare_library.c - built without unwind tables, once with and once without frame pointers.
 */
void bare_call(void (*callback)(void)) {
    char local[200];
    __asm__ volatile("" : : "r"(local) : "memory");
    callback();
    __asm__ volatile("" : : "r"(local) : "memory");
}
