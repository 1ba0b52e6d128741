/* SPDX-License-Identifier: MIT
 *
 * An object to be opened and closed by region_modules.c. Built three times, with frames in other places.
 */
int moda_plugin_function(int x);

int moda_plugin_function(int x) {
    return x + 1;
}
