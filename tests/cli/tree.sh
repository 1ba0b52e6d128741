#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tree.sh - a run of several processes: the one that was started is shown (the last program that it became), the
# others in one line, or all added up.
. "${0%/*}/check.sh"
allocate=$PROGRAMS/allocate

# the shell's own blocks are few; 1000 blocks of 1 KiB each are the children's
try "$MOD_ALLOC" run --json one.json sh -c "$allocate keep 1000 1024; $allocate keep 2000 1024; exit 3"
expect_status 3
expect_err "not counted: 2 other processes" "--tree adds them"
[ "$(json one.json live_count)" -lt 1000 ] || fail "the shell alone has $(json one.json live_count) blocks"

try "$MOD_ALLOC" run --tree --json all.json sh -c "$allocate keep 1000 1024; $allocate keep 2000 1024; exit 3"
expect_status 3
expect_not_err "not counted"
expect_err "and 2 more"
live=$(json all.json live_count)
[ "$live" -ge 3000 ] && [ "$live" -lt 4000 ] || fail "all together have $live live blocks, expected 3000 and some"
expect_equal "pid and name of the sum" "$(json all.json program | sed 's:.*/::')" "$(readlink -f "$(command -v sh)" | sed 's:.*/::')"

# exec: one process, two programs; the last one is shown
try "$MOD_ALLOC" run --json exec.json sh -c "sleep 1.1; exec $allocate keep 1000 1024 exit 4"
expect_status 4
[ "$(json exec.json live_count)" -ge 1000 ] || fail "after exec $(json exec.json live_count) blocks are shown"
expect_equal "program after exec" "$(json exec.json program)" "$(readlink -f "$allocate")"
expect_err "1 program that became another by exec, "

try "$MOD_ALLOC" run --json quick.json sh -c "exec $allocate keep 1000 1024 exit 4"
expect_equal "program after a quick exec" "$(json quick.json program)" "$(readlink -f "$allocate")"

# what it was before is part of the sum, in the root process and in a child: bash forks, then calls exec
try "$MOD_ALLOC" run --exact --tree --json images.json --output images.prof "$allocate" keep 700 1024 exec "$allocate" keep 40 1024
expect_status 0
live=$(json images.json live_count)
[ "$live" -ge 740 ] && [ "$live" -lt 1000 ] || fail "both programs have $live live blocks, expected 740 and some"
expect_equal "program of the sum after exec" "$(json images.json program)" "$(readlink -f "$allocate")"
try "$MOD_ALLOC" run --exact --tree --json forked.json "$allocate" keep 700 1024 fork keep 40 1024 exec "$allocate" keep 5 1024
expect_status 0
live=$(json forked.json live_count)
[ "$live" -ge 745 ] && [ "$live" -lt 1000 ] || fail "three programs have $live live blocks, expected 745 and some"
try "$MOD_ALLOC" run --exact "$allocate" keep 700 1024 fork keep 40 1024 exec "$allocate" keep 5 1024
expect_err "not counted: 1 other process of this run and 1 program that became another by exec, "

# fork without exec: the child's own
try "$MOD_ALLOC" run --json fork.json "$allocate" keep 1000 1024 fork keep 500 1024 exit 9
expect_status 9
live=$(json fork.json live_count)
[ "$live" -ge 1000 ] && [ "$live" -lt 1500 ] || fail "the parent has $live live blocks, expected 1000 and a few"
expect_err "not counted: 1 other process "

# what a forked child has from its parent is live once in the sum, and no allocation of the child's
try "$MOD_ALLOC" run --exact --tree --json sum.json --output sum.prof "$allocate" keep 1000 1024 fork keep 500 1024 exit 9
expect_status 9
for key in alloc_count live_count peak_live_count; do
    n=$(json sum.json $key)
    [ "$n" -ge 1500 ] && [ "$n" -lt 1700 ] || fail "$key of parent and child is $n, expected 1500 and a few"
done
"$MOD_ALLOC" report --format csv --by site sum.prof > sum.csv
python3 - << 'END' || fail "the sites of parent and child do not add up to 1500 blocks of 1 KiB"
import csv
rows = [row for row in csv.DictReader(open("sum.csv")) if "keep_blocks" in str(row)]
for key in "allocated_count", "live_count", "at_peak_count":
    counts = [int(row[key]) for row in rows]
    assert sum(counts) == 1500, (key, counts)
END

# the child's own profile: what it allocated, and all that it has
MOD_ALLOC_PROFILE=$PWD/own.%n.prof MOD_ALLOC_SAMPLE=1 LD_PRELOAD=$LIBRARY "$allocate" keep 1000 1024 fork keep 500 1024 exit 9
"$MOD_ALLOC" report --format csv --by site own.1.prof > own.csv
python3 - << 'END' || fail "the child's sites are not its own"
import csv
rows = [row for row in csv.DictReader(open("own.csv")) if "keep_blocks" in str(row)]
allocated, live = (sum(int(row[key]) for row in rows) for key in ("allocated_count", "live_count"))
assert (allocated, live) == (500, 1500), (allocated, live)
END

# ... and what it frees of its parent's is freed
MOD_ALLOC_PROFILE=$PWD/freed.%n.prof LD_PRELOAD=$LIBRARY "$allocate" keep 1 100000 fork drop exit 9
try "$MOD_ALLOC" stat freed.1.prof
freed=$(echo "$out" | awk '$1 == "freed" { gsub(",", ""); print $3 }')
[ "${freed:-0}" -ge 100000 ] || fail "a child that freed a block of 100,000 bytes has freed ${freed:-nothing}"

# ... but in a sum its parent's blocks are its parent's: what is allocated is freed once, or live
try "$MOD_ALLOC" run --tree --quiet --output freed.prof "$allocate" keep 300 1024 fork drop drop drop exit 9
"$MOD_ALLOC" stat freed.prof | awk '
    { gsub(",", "") }
    $1 == "allocated" { blocks += $2; bytes += $3 }
    $1 == "freed" || $1 == "live" { blocks -= $2; bytes -= $3 }
    END { if (NR < 5 || blocks != 0 || bytes != 0) { print "freed and live are more by " -blocks " blocks, " -bytes " bytes"; exit 1 } }' ||
    fail "a child that freed 3 blocks of its parent"

# ... nor does a block of its own hide behind its parent's that it freed: as it ends, in the sum, and for a gate
try "$MOD_ALLOC" run --exact --tree --quiet --output hidden.prof --json hidden.json "$allocate" keep 1 100000 fork drop lose 1 90000 exit 9
expect_status 9
live=$(json hidden.json current_bytes)
[ "$live" -ge 190000 ] && [ "$live" -lt 300000 ] || fail "$live bytes are live of 100,000 and 90,000"
"$MOD_ALLOC" report --format json hidden.prof > hidden.report.json
"$MOD_ALLOC" report --format csv --by thread hidden.prof > hidden.csv
python3 - << 'END' || fail "the sites or threads of a child that freed a block of its parent's are not the sum"
import csv, json
report = json.load(open("hidden.report.json"))
sites, totals = report["site_totals"], report["totals"]
assert sites["live_bytes"] == totals["current_bytes"], (sites, totals)
assert totals["alloc_count"] == totals["free_count"] + totals["live_count"], totals
assert totals["peak_bytes"] >= totals["current_bytes"], totals
live = sum(int(row["live_bytes"]) for row in csv.DictReader(open("hidden.csv")))
assert live == totals["current_bytes"], (live, totals)
END
"$MOD_ALLOC" report --format html hidden.prof > hidden.html
grep -q "without what they had from their parents" hidden.html || fail "the page does not tell how children are counted"
grep -q "began with what its parent had" hidden.html && fail "the page tells of a child that it was not merged"
try "$MOD_ALLOC" run --tree --quiet --fail-if-live 150000 "$allocate" keep 1 100000 fork drop lose 1 90000 exit 0
expect_status 1
expect_err lose_blocks

# a child that goes on after its parent
mkfifo ready
try "$MOD_ALLOC" run sh -c "$allocate keep 10 1024 say ready sleep 1000 > ready & echo \$! > pid; read -r line < ready"
expect_status 0
expect_err "(1 still running)"
kill "$(cat pid)"
finish
