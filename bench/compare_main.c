/* SPDX-License-Identifier: MIT
 *
 * compare_main.c - `mod-alloc compare` alone: the benchmarks measure with the same code, and build without
 * the report library.
 */
int moda_cli_compare(int argc, char **argv);

int main(int argc, char **argv) {
    return moda_cli_compare(argc, argv);
}
