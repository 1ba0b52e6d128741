/* SPDX-License-Identifier: MIT
 *
 * Sinks format as stated, never write behind their buffer, and say when something was lost.
 */
#include "base/sink.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char memory[256];

static moda_sink fresh(void) {
    moda_sink sink;
    moda_sink_to_buffer(&sink, memory, sizeof memory);
    return sink;
}

#define EXPECT_TEXT(expected, ...)                                                                           \
    do {                                                                                                     \
        moda_sink sink = fresh();                                                                            \
        __VA_ARGS__;                                                                                         \
        cr_expect_str_eq(moda_sink_string(&sink), expected);                                                 \
    } while (0)

Test(base_sink, numbers_of_all_widths) {
    EXPECT_TEXT("0", moda_sink_decimal(&sink, 0));
    EXPECT_TEXT("18446744073709551615", moda_sink_decimal(&sink, UINT64_MAX));
    EXPECT_TEXT("-9223372036854775808", moda_sink_signed(&sink, INT64_MIN));
    EXPECT_TEXT("9223372036854775807", moda_sink_signed(&sink, INT64_MAX));
    EXPECT_TEXT("0x0", moda_sink_hex(&sink, 0));
    EXPECT_TEXT("0xffffffffffffffff", moda_sink_hex(&sink, UINT64_MAX));
    EXPECT_TEXT("0x7f001234abcd", moda_sink_hex(&sink, 0x7f001234abcd));
}

Test(base_sink, sizes_have_three_digits) {
    EXPECT_TEXT("0 B", moda_sink_size(&sink, 0));
    EXPECT_TEXT("1023 B", moda_sink_size(&sink, 1023));
    EXPECT_TEXT("1.00 KiB", moda_sink_size(&sink, 1024));
    EXPECT_TEXT("1.50 KiB", moda_sink_size(&sink, 1536));
    EXPECT_TEXT("1.12 KiB", moda_sink_size(&sink, 1152)); /* 1.125 */
    EXPECT_TEXT("1.38 KiB", moda_sink_size(&sink, 1408)); /* 1.375 */
    EXPECT_TEXT("9.99 KiB", moda_sink_size(&sink, 10234));
    EXPECT_TEXT("10.0 KiB", moda_sink_size(&sink, 10235));
    EXPECT_TEXT("84.0 KiB", moda_sink_size(&sink, 86016));
    EXPECT_TEXT("99.9 KiB", moda_sink_size(&sink, 102348));
    EXPECT_TEXT("100 KiB", moda_sink_size(&sink, 102349));
    EXPECT_TEXT("1024 KiB", moda_sink_size(&sink, 1048570)); /* 1023.994 */
    EXPECT_TEXT("1.00 MiB", moda_sink_size(&sink, 1048571));
    EXPECT_TEXT("12.3 MiB", moda_sink_size(&sink, 12897485));
    EXPECT_TEXT("3.00 GiB", moda_sink_size(&sink, 3221225472));
    EXPECT_TEXT("164 PiB", moda_sink_size(&sink, 184467440737095517)); /* a hundredth of what 64 bits hold */
    EXPECT_TEXT("4.00 EiB", moda_sink_size(&sink, UINT64_C(1) << 62));
    EXPECT_TEXT("16.0 EiB", moda_sink_size(&sink, UINT64_MAX));
}

Test(base_sink, json_escapes_what_json_forbids) {
    EXPECT_TEXT("null", moda_sink_json(&sink, NULL));
    EXPECT_TEXT("\"\"", moda_sink_json(&sink, ""));
    EXPECT_TEXT("\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\"", moda_sink_json(&sink, "a\"b\\c\n\t\x01\x7f"));
    EXPECT_TEXT("\"/usr/bin/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
                moda_sink_json(&sink, "/usr/bin/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
}

Test(base_sink, json_replaces_what_is_no_utf8) {
    EXPECT_TEXT("\"a\\ufffdb\"", moda_sink_json(&sink, "a\xff"
                                                       "b"));
    EXPECT_TEXT("\"\\ufffd\"", moda_sink_json(&sink, "\xc3"));                       /* cut at the end */
    EXPECT_TEXT("\"\\ufffd\\ufffd\"", moda_sink_json(&sink, "\xc0\xaf"));            /* overlong */
    EXPECT_TEXT("\"\\ufffd\\ufffd\\ufffd\"", moda_sink_json(&sink, "\xed\xa0\x80")); /* surrogate */
    EXPECT_TEXT("\"\\ufffd\\ufffd\\ufffd\"", moda_sink_json(&sink, "\xe0\x9f\xbf")); /* overlong */
    EXPECT_TEXT("\"\\ufffd\\ufffd\\ufffd\\ufffd\"", moda_sink_json(&sink, "\xf4\x90\x80\x80"));
}

Test(base_sink, columns) {
    EXPECT_TEXT("ab   |", moda_sink_text_left(&sink, "ab", 5); moda_sink_char(&sink, '|'));
    EXPECT_TEXT("   ab", moda_sink_text_right(&sink, "ab", 5));
    EXPECT_TEXT("   42", moda_sink_decimal_right(&sink, 42, 5));
    EXPECT_TEXT("123456", moda_sink_decimal_right(&sink, 123456, 5));
    EXPECT_TEXT("  1.00 KiB", moda_sink_size_right(&sink, 1024, 10));
}

Test(base_sink, a_full_buffer_is_cut_and_nothing_is_written_behind_it) {
    char small[9] = "........";
    moda_sink sink;
    moda_sink_to_buffer(&sink, small, 4);
    moda_sink_text(&sink, "abcd");
    cr_assert_not(sink.is_cut);
    moda_sink_text(&sink, "e");
    cr_assert(sink.is_cut);
    cr_assert_str_eq(moda_sink_string(&sink), "abc");
    cr_assert_eq(memcmp(small + 4, "....", 4), 0);
}

Test(base_sink, a_small_buffer_carries_any_length_to_an_fd) {
    int ends[2];
    char small[3], got[64] = "";
    moda_sink sink;
    cr_assert_eq(pipe(ends), 0);
    moda_sink_to_fd(&sink, ends[1], small, sizeof small);
    moda_sink_text(&sink, "hello, ");
    moda_sink_decimal(&sink, 1234567);
    moda_sink_char(&sink, '\n');
    cr_assert(moda_sink_flush(&sink));
    cr_assert_eq(read(ends[0], got, sizeof got), 15);
    cr_assert_str_eq(got, "hello, 1234567\n");
}

Test(base_sink, a_failed_write_is_told_and_errno_is_kept) {
    char small[8];
    moda_sink sink;
    const int fd = open("/dev/full", O_WRONLY);
    cr_assert_geq(fd, 0);
    moda_sink_to_fd(&sink, fd, small, sizeof small);
    errno = EDOM;
    moda_sink_text(&sink, "this does not fit the disk");
    cr_assert_not(moda_sink_flush(&sink));
    cr_assert_eq(errno, EDOM);
}
