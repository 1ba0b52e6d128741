#!/bin/sh
# SPDX-License-Identifier: MIT
#
# merge.sh - `mod-alloc merge` adds profiles up to one that is read like any other: its report is, in every format,
# that of the profiles it was made of, read together; also when it is merged once more.
. "${0%/*}/check.sh"
allocate=$PROGRAMS/allocate

# exact and sampled, with threads, forked children, one that was killed
"$MOD_ALLOC" run -q --exact -o a.prof "$allocate" keep 100 1024 pass 50 64 threads 3 exit 2
"$MOD_ALLOC" run -q --exact -o b.prof "$allocate" keep 30 1024 lose 10 100
"$MOD_ALLOC" run -q --sample 4K -o c.prof "$allocate" keep 1000 100 pass 1000 100
"$MOD_ALLOC" run -q --sample 2K -o d.prof "$allocate" keep 500 100 signal 9 2> /dev/null
"$MOD_ALLOC" run -q --exact --tree -o tree.prof "$allocate" keep 1000 1024 fork keep 20 1024 exit 0
"$MOD_ALLOC" run -q --exact -o py.prof python3 -c 'import json, sqlite3; json.dumps(list(range(1000)))'
for profile in a b c d tree py; do
    [ -s $profile.prof ] || fail "there is no $profile.prof"
done

# same ONE MANY...: every report of ONE is that of MANY together
same() {
    one=$1
    shift
    for how in text dhat pprof heap_v2 folded speedscope json csv html \
        "text --by module" "text --by thread --value allocated" "text --tree --value live" "csv --by thread"; do
        # shellcheck disable=SC2086
        "$MOD_ALLOC" report --format $how "$one" > one.out || fail "no report as $how of $one"
        # shellcheck disable=SC2086
        "$MOD_ALLOC" report --format $how "$@" > many.out || fail "no report as $how of $*"
        cmp -s one.out many.out || fail "$how of $one is not that of $*: $(cmp one.out many.out 2>&1)"
        [ -s one.out ] || fail "$how of $one is empty"
    done
    expect_equal "the counters of $one" "$("$MOD_ALLOC" stat "$one")" "$("$MOD_ALLOC" stat "$@")"
}

try "$MOD_ALLOC" merge -o ab.prof a.prof b.prof
expect_status 0
same ab.prof a.prof b.prof
try "$MOD_ALLOC" merge -o abcd.prof ab.prof c.prof d.prof
expect_status 0
same abcd.prof a.prof b.prof c.prof d.prof
try "$MOD_ALLOC" merge -o all.prof py.prof tree.prof abcd.prof
expect_status 0
same all.prof py.prof tree.prof a.prof b.prof c.prof d.prof
try "$MOD_ALLOC" merge --format profile -o alone.csv py.prof
expect_status 0
cmp -s py.prof alone.csv && fail "alone.csv is a copy, not a merged profile"

# a site of both is one site: the file does not hold a copy of each
python3 - ab.prof << 'END' || fail "the sites of a.prof and b.prof were not joined"
import json, subprocess, sys, os
rows = json.loads(subprocess.check_output([os.environ["MOD_ALLOC"], "report", "--format", "json", sys.argv[1]]))["rows"]
kept = [row for row in rows if row["function"] == "keep_blocks"]
assert len(kept) == 1 and kept[0]["values"]["live_count"] == 130, kept
END
size=$(wc -c < all.prof)
"$MOD_ALLOC" merge -o twice.prof all.prof all.prof
more=$(($(wc -c < twice.prof) - size))
[ $((more * 2)) -lt "$size" ] || fail "the same $size bytes once more take $more, though every stack is known"

# diff and stat read it
try "$MOD_ALLOC" diff a.prof ab.prof
expect_status 0
expect_out "grown" "keep_blocks"
try "$MOD_ALLOC" stat ab.prof
expect_out "and 1 more" "upper bound"
try "$MOD_ALLOC" report ab.prof
expect_out "2 processes" "upper bound"

# the format follows the name, as for report
try "$MOD_ALLOC" merge -o ab.pb.gz a.prof b.prof
[ "$(od -An -tx1 -N2 ab.pb.gz | tr -d ' ')" = 1f8b ] || fail "ab.pb.gz is no pprof file"
try "$MOD_ALLOC" merge -o ab.html a.prof b.prof
grep -q '<html' ab.html || fail "ab.html is no HTML"

# misuse
try "$MOD_ALLOC" merge a.prof b.prof
expect_status 2
expect_err "--output"
try "$MOD_ALLOC" merge -o x.prof --filter keep a.prof b.prof
expect_status 2
expect_err "filters"
[ ! -e x.prof ] || fail "a misused merge left a file"
try "$MOD_ALLOC" merge -o x.prof a.prof "$0"
expect_status 2
[ ! -e x.prof ] || fail "a failed merge left a file"
finish
