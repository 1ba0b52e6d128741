/* SPDX-License-Identifier: MIT
 *
 * no_record_library.c - built with unwind tables and without frame pointers: on aarch64 it makes no frame record.
 */
void no_record_call(void (*function)(void (*callback)(void)), void (*callback)(void));
void no_record_call(void (*function)(void (*callback)(void)), void (*callback)(void)) {
    char local[120];
    __asm__ volatile("" : : "r"(local) : "memory");
    function(callback);
    __asm__ volatile("" : : "r"(local) : "memory");
}
