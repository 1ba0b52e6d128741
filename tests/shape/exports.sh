#!/bin/sh
# SPDX-License-Identifier: MIT
#
# exports.sh EXPORTS.MAP LIBRARY.SO LIBRARY.A [NM] - both libraries define exactly the names of the list (the archive
# not those marked as the shared one's), and what they need from others is libc's.
set -u
map=$1
shared=$2
static=$3
nm=${4:-nm}
failed=0
names() {
    sed -n "s/^ *\([A-Za-z_][A-Za-z_0-9]*\);${1:-}\$/\1/p" "$map"
}
wanted=$(names | sort)
only_shared=$(names ' # only in libmod_alloc.so')
[ "$(echo "$wanted" | wc -l)" -gt 50 ] || { echo "exports.sh: $map names too few symbols" >&2; exit 1; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
check() {
    if ! diff "$folder/wanted" "$folder/found" > "$folder/difference"; then
        echo "exports.sh: $1 does not define exactly the names of $map (< missing, > too many):" >&2
        grep '^[<>]' "$folder/difference" >&2
        failed=1
    fi
}
$nm -D --defined-only "$shared" | awk '$2 ~ /[TWVDBRi]/ && $2 != "A" {sub(/@.*/, "", $3); print $3}' | sort -u > "$folder/found"
printf '%s\n' "$wanted" $only_shared | sort > "$folder/wanted"
check "$shared"
$nm -g --defined-only "$static" | awk 'NF == 3 {print $3}' | sort -u > "$folder/found"
echo "$wanted" > "$folder/wanted"
check "$static"

needed=$(readelf -d "$shared" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|ld-linux.*)$')
[ -z "$needed" ] || { echo "exports.sh: $shared needs more than libc: $needed" >&2; failed=1; }
readelf -dW "$shared" | grep -q TEXTREL && { echo "exports.sh: $shared has text relocations" >&2; failed=1; }
exit $failed
