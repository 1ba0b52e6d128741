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

void (*bare_hook)(void);
void bare_handler(int number);
void bare_handler(int number) {
    bare_hook();
    __asm__ volatile("" : : "r"(number) : "memory");
}
