#!/bin/sh
# SPDX-License-Identifier: MIT
#
# modes_agree.sh PROGRAM [VARIABLE=VALUE...] - runs a deterministic program with sampling off, at 512 KiB, at 4 KiB and of every
# allocation: it must print the same, byte for byte.
set -u
program=$1
shift
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
for sample in 0 512K 4K 1; do
    if ! env "$@" MOD_ALLOC_SAMPLE=$sample "$program" > "$folder/$sample" 2> "$folder/$sample.err"; then
        echo "$program fails with MOD_ALLOC_SAMPLE=$sample:" >&2
        cat "$folder/$sample.err" >&2
        failed=1
    elif ! cmp -s "$folder/0" "$folder/$sample"; then
        echo "$program prints other figures with MOD_ALLOC_SAMPLE=$sample (>) than with 0 (<):" >&2
        diff "$folder/0" "$folder/$sample" | cut -c 1-600 | head -20 >&2
        failed=1
    fi
done
[ -s "$folder/0" ] || { echo "$program prints nothing" >&2; failed=1; }
exit $failed
