#!/bin/sh
# SPDX-License-Identifier: MIT
#
# outputs.sh - what run, stat, report, merge and diff write, and that nothing is written unless asked for.
. "${0%/*}/check.sh"
allocate=$PROGRAMS/allocate

# the counters, exactly: what 1000 blocks more of 64 bytes add
try "$MOD_ALLOC" run --json base.json "$allocate" keep 0 64
try "$MOD_ALLOC" run --json more.json "$allocate" keep 1000 64 pass 500 64 exit 3
expect_status 3
grown() { echo $(($(json more.json "$1") - $(json base.json "$1"))); }
expect_equal "growth of alloc_count" "$(grown alloc_count)" 1500
expect_equal "growth of free_count" "$(grown free_count)" 500
expect_equal "growth of live_count" "$(grown live_count)" 1000
expect_equal "growth of total_bytes" "$(grown total_bytes)" 96000
expect_equal "growth of current_bytes" "$(grown current_bytes)" 64000
expect_equal "growth of requested_bytes" "$(grown requested_bytes)" 96000
expect_equal "exit_status" "$(json more.json exit_status)" 3
expect_equal "signal" "$(json more.json signal)" None
for key in mod_alloc mimalloc program pid threads peak_bytes peak_live_count elapsed_ns user_ns system_ns max_resident_bytes; do
    [ -n "$(json more.json $key)" ] || fail "more.json lacks $key"
done
[ "$(json more.json max_resident_bytes)" -gt 100000 ] || fail "max_resident_bytes is $(json more.json max_resident_bytes)"
try "$MOD_ALLOC" run --json threads.json "$allocate" threads 5
expect_equal "threads" "$(json threads.json threads)" 6
expect_err "6 threads"
try "$MOD_ALLOC" run -q --json - "$allocate" say hello
expect_out hello '"alloc_count"'

# the allocator's own table at exit is the same but for its first line, and the time
try env MOD_ALLOC_STATS=stderr "$MOD_ALLOC" run -n 0 "$allocate" keep 1000 1024 pass 500 99999
rows=$(grep -E '^  (allocated|requested|freed|live|peak) ' .err)
expect_equal "rows of both tables" "$(echo "$rows" | wc -l)" 10
expect_equal "rows of one table" "$(echo "$rows" | sort -u | wc -l)" 5

# more call sites than there is room for
try "$MOD_ALLOC" run --exact --memory 1M -n 1 -o little.prof python3 -c 'import json, re'
expect_err "samples found no room for their stack: a larger --memory makes room"
dropped=$("$MOD_ALLOC" report --format json little.prof | python3 -c 'import json, sys; print(json.load(sys.stdin)["processes"][0]["dropped"])')
for format in text html; do
    "$MOD_ALLOC" report --format $format little.prof | tr -d , | grep -q "$dropped samples found no room for their stack" ||
        fail "$format does not say that $dropped samples found no room"
done
rm little.prof
try "$MOD_ALLOC" run --exact -n 1 "$allocate" keep 10 64
expect_not_err "found no room"

# a heap that grows far without one free
for blocks in "100 1000000" "5 30000000" "400000 300" "4000 50000"; do
    for mode in "--sample 0" "--sample 512K" --exact; do
        # shellcheck disable=SC2086
        try "$MOD_ALLOC" run -q $mode --json far.json "$allocate" keep $blocks
        expect_equal "$mode, keep $blocks: current_bytes" "$(json far.json current_bytes)" "$(json far.json total_bytes)"
        expect_equal "$mode, keep $blocks: peak_bytes" "$(json far.json peak_bytes)" "$(json far.json total_bytes)"
        expect_equal "$mode, keep $blocks: peak_live_count" "$(json far.json peak_live_count)" "$(json far.json alloc_count)"
        [ "$(json far.json total_bytes)" -gt 100000000 ] || fail "only $(json far.json total_bytes) bytes"
    done
done

# the table, and silence
try "$MOD_ALLOC" run "$allocate" keep 1000 64 say hello
expect_status 0
expect_equal "standard output" "$out" "hello"
expect_err "mod-alloc: allocate (pid " "exit status 0, 1 thread" allocated requested freed live peak time resident
try "$MOD_ALLOC" run -q "$allocate" keep 1000 64
expect_equal "stderr of --quiet" "$err" ""
rm -f ./*.json
expect_equal "files written without being asked for" "$(ls)" ""

# large numbers stay apart: 12 TB, where so much address space is to be had
try "$MOD_ALLOC" run --sample 0 --json tera.json "$allocate" pass 12 1000000000000
if [ "$(json tera.json total_bytes)" -ge 12000000000000 ]; then
    words=$(echo "$err" | awk '$1 == "allocated" { print NF }')
    expect_equal "words of the line of 12 TB" "$words" 5
    words=$(LD_PRELOAD=$LIBRARY MOD_ALLOC_STATS=stderr "$allocate" pass 12 1000000000000 2>&1 | awk '$1 == "allocated" { print NF }')
    expect_equal "words of the line of 12 TB at exit" "$words" 5
fi

# call sites
try "$MOD_ALLOC" run --exact --top 3 "$allocate" keep 1000 64 lose 500 64
expect_err keep_blocks lose_blocks
try "$MOD_ALLOC" run --exact --top 0 "$allocate" keep 1000 64
expect_not_err keep_blocks
try "$MOD_ALLOC" run --exact --top 1 "$allocate" keep 5000 64 lose 10 64
expect_err keep_blocks
expect_not_err lose_blocks
try "$MOD_ALLOC" run --sample 1G "$allocate" keep 10 64
expect_err "no call sites" "--exact"
# that call sites add up to more than the total is explained, and only then
try "$MOD_ALLOC" run --exact --top 1 "$allocate" grow 100 1000
expect_err grow_block "a realloc counts with its whole block at its site"
try "$MOD_ALLOC" run --exact --top 1 "$allocate" keep 1000 64
expect_not_err "a realloc counts"

# the profile
try "$MOD_ALLOC" run -x -o before.prof "$allocate" keep 1000 64
expect_status 0
expect_err "the profile is in before.prof"
try "$MOD_ALLOC" run -q -x -o %e-%p-%%.prof "$allocate" keep 1000 64 lose 700 128 pass 10 32
expect_status 0
mv allocate-*-%.prof after.prof || fail "the pattern was not filled in: $(ls)"
try "$MOD_ALLOC" stat after.prof
expect_status 0
expect_out allocate "exit status 0" allocated
try "$MOD_ALLOC" stat --json stat.json after.prof
live=$(json stat.json live_count)
[ "$live" -ge 1700 ] && [ "$live" -lt 1800 ] || fail "stat.json has live_count $live"

# a file that cannot be written is found before the program runs
mkdir folder
for options in "-o /nonexistent/x.prof" "-o folder" "-o before.prof/x" "-F html -o /nonexistent/%e.%p.html" "--json /nonexistent/x.json"; do
    # shellcheck disable=SC2086
    try "$MOD_ALLOC" run -q $options "$allocate" say "has run"
    expect_status 2
    expect_equal "output with $options" "$out" ""
    expect_equal "lines of '$what'" "$(wc -l < .err)" 1
    expect_err "cannot be written"
done
# what is there is left as it is until then, and nothing new where the program cannot be started
cp before.prof there.prof
try "$MOD_ALLOC" run -q -o there.prof ./no-such-program
expect_status 127
cmp -s before.prof there.prof || fail "there.prof was changed, and nothing has run"
try "$MOD_ALLOC" run -q -o new.prof ./no-such-program
[ -e new.prof ] && fail "new.prof is there, and nothing has run"
try "$MOD_ALLOC" run -q -o there.prof sh -c 'cmp before.prof there.prof'
expect_status 0
# and where it cannot be written when the program has ended, what was recorded is kept, and told
for options in "-o late" "-F csv -o late" "-t -o late"; do
    rm -rf late
    # shellcheck disable=SC2086
    try "$MOD_ALLOC" run -q $options sh -c 'mkdir late; "$0" keep 10 64' "$allocate"
    expect_status 2
    expect_err "late: cannot be written" "what was recorded is in /"
    kept=$(sed -n 's/.*what was recorded is in //p' .err)
    case $kept in *.prof) ;; *) kept=$(ls "$kept"*.prof | head -n 1) ;; esac
    try "$MOD_ALLOC" stat "$kept"
    expect_status 0
    expect_out allocated
    case $kept in */mod-alloc-kept.*) rm -r "${kept%/*}" ;; *) fail "kept as $kept" ;; esac
done
rm -rf late
try "$MOD_ALLOC" run -q -o late sh -c 'mkdir late; exit 5'
expect_status 5
rm -r "$(dirname "$(sed -n 's/.*what was recorded is in //p' .err)")" late folder there.prof
# a pipe, or a device as /dev/null, is written and not replaced
mkfifo pipe
timeout 60 cat pipe > from-pipe.prof &
try "$MOD_ALLOC" run -q -x -o pipe "$allocate" keep 100 64
wait $!
[ -p pipe ] || fail "a pipe became a file"
try "$MOD_ALLOC" stat from-pipe.prof
expect_status 0

# every format, from run and from report
for format in text dhat pprof heap_v2 folded speedscope json csv html; do
    try "$MOD_ALLOC" run -q -x -F $format -o "run.$format" "$allocate" keep 1000 64
    expect_status 0
    [ -s "run.$format" ] || fail "run --format $format has written nothing"
    try "$MOD_ALLOC" report --format $format -o "report.$format" after.prof
    expect_status 0
    [ -s "report.$format" ] || fail "report --format $format has written nothing"
    case $format in
    pprof) gzip -dc report.pprof ;;
    html) cat report.html ;;
    *) cat report.$format ;;
    esac | grep -q 'keep_blocks' || [ $format = heap_v2 ] || fail "report --format $format does not name keep_blocks"
done
try "$MOD_ALLOC" run -x --format csv "$allocate" keep 10 64
expect_err "wrote mod-alloc.allocate."
[ -s mod-alloc.allocate.*.csv ] || fail "run --format without --output: $(ls)"
try "$MOD_ALLOC" report -o by-suffix.csv after.prof
cmp -s by-suffix.csv report.csv || fail "the suffix .csv does not give what --format csv gives"
# each suffix that --help names, and others, of run or of report
begins() { head -c "${#2}" "$1" | grep -qF -- "$2" || fail "$1 begins with '$(head -c 40 "$1" | tr -d '\0')', not '$2'"; }
for suffix in $("$MOD_ALLOC" run --help | tr '\n' ' ' | sed 's/.*suffix says (\([^)]*\)).*/\1/') .HTML .pb .prof; do
    case $suffix in
    .html | .pb.gz | .prof) try "$MOD_ALLOC" run -q -x -o "run-as$suffix" "$allocate" keep 1000 64 ;;
    *) try "$MOD_ALLOC" report -o "report-as$suffix" after.prof ;;
    esac
    expect_status 0
    for file in *-as$suffix; do
        case $suffix in
        .html | .HTML) begins "$file" '<!DOCTYPE html>' ;;
        .csv) begins "$file" function,file,line ;;
        .json) grep -q '"format":"mod-alloc report"' "$file" || fail "$file is not our json" ;;
        .txt) grep -q '^By site: ' "$file" || fail "$file is no text" ;;
        .folded) grep -q '^_start;.*keep_blocks.* [0-9]*$' "$file" || fail "$file is not folded" ;;
        .pb.gz | .pb) gzip -t < "$file" || fail "$file is no pprof" ;;
        .heap) begins "$file" 'heap profile: ' ;;
        .dhat.json) grep -q '"dhatFileVersion":2' "$file" || fail "$file is not DHAT's" ;;
        .speedscope.json) grep -q 'speedscope.app' "$file" || fail "$file is not speedscope's" ;;
        .prof) begins "$file" MODALLOC ;;
        *) fail "the help names $suffix" ;;
        esac
    done
done

# of blocks that mostly live on, how many the mean life is of; threads by what is known of them
try "$MOD_ALLOC" run -q -x -o lives.prof "$allocate" keep 100 64 drop
try "$MOD_ALLOC" report --allocated lives.prof
expect_out "100 blocks; 1 freed, mean life "
try "$MOD_ALLOC" run -q -x -o even.prof "$allocate" keep 2 64 drop
try "$MOD_ALLOC" report --live --filter keep_blocks even.prof
expect_out "1 block; 1 freed, mean life "
try "$MOD_ALLOC" run -q -x --lifetimes all -o timed.prof "$allocate" pass 2000 64
try "$MOD_ALLOC" report timed.prof
case $out in *"lifetimes at sites of more"*) fail "not all lives were timed: $out" ;; esac
try "$MOD_ALLOC" report --value lifetime lives.prof
expect_out "  lifetimes  share "
try "$MOD_ALLOC" report --by thread lives.prof
expect_out "By thread: allocated, "

# a program that ends by _exit: nothing is newer than its end, so that the peak is not either
for size in 100 3000 1000000; do
    try "$MOD_ALLOC" run -q -x -o left.prof "$allocate" keep 100 $size leave 3
    expect_status 3
    "$MOD_ALLOC" report --format json -o left.json left.prof
    "$MOD_ALLOC" report --format dhat -o left.dhat.json left.prof
    python3 - << 'PYTHON' || fail "a profile of blocks of $size has a moment behind its end"
import json
process, dhat = json.load(open("left.json"))["processes"][0], json.load(open("left.dhat.json"))
assert not process["exited_cleanly"] and process["peak_ns"] <= process["duration_ns"], process
assert all(p["time_ns"] <= process["duration_ns"] for p in process["timeline"]), process
assert dhat["tg"] == process["peak_ns"] // 1000 and dhat["te"] == process["duration_ns"] // 1000
PYTHON
done

# rows and filters
for by in site function file module thread; do
    try "$MOD_ALLOC" report --by $by after.prof
    expect_status 0
    [ -n "$out" ] || fail "report --by $by is empty"
done
for value in allocated count live peak own_peak requested waste freed temporary remote lifetime; do
    try "$MOD_ALLOC" report --value $value after.prof
    expect_status 0
done
try "$MOD_ALLOC" report --filter lose_blocks after.prof
expect_out lose_blocks
case $out in *keep_blocks*) fail "--filter lose_blocks shows keep_blocks" ;; esac
try "$MOD_ALLOC" report --drop lose_blocks after.prof
expect_out keep_blocks
case $out in *lose_blocks*) fail "--drop lose_blocks shows it" ;; esac
try "$MOD_ALLOC" report --hide 'lose_blocks' after.prof
case $out in *lose_blocks*) fail "--hide lose_blocks shows it" ;; esac
expect_out main
try "$MOD_ALLOC" report --filter no_such_function after.prof
expect_status 0
expect_err "no call site passes the filters"
try "$MOD_ALLOC" report --no-symbols after.prof
expect_out 0x
case $out in *keep_blocks*) fail "--no-symbols names keep_blocks" ;; esac
try "$MOD_ALLOC" report --tree after.prof
expect_out main keep_blocks
try "$MOD_ALLOC" report --bottom-up after.prof
expect_out main keep_blocks

# two profiles
try "$MOD_ALLOC" diff before.prof after.prof
expect_status 0
expect_out lose_blocks
for seed in 1 2; do # the same twice: all that differs is chance
    try "$MOD_ALLOC" run -q --sample 4K --seed $seed -o seed$seed.prof "$allocate" keep 300 1000 lose 300 1000 pass 300 1000
done
try "$MOD_ALLOC" diff --top 0 seed1.prof seed2.prof
count=$(grep -c '(within error)' .out)
[ "$count" -ge 1 ] || fail "of two runs of one program no difference is within error: $out"
expect_out "  $count of these changes are within the error of sampling"
try "$MOD_ALLOC" diff --by function --format csv before.prof after.prof
expect_out ',new,0,' lose_blocks
line=$(grep '^lose_blocks,' .out)
case $line in *,new,0,89600,89600,*) ;; *) fail "diff of lose_blocks is '$line', expected 700 blocks of 128 bytes" ;; esac
for by in site function file module thread; do
    for format in json csv text; do
        try "$MOD_ALLOC" diff --by $by --format $format -o "diff.$by.$format" before.prof after.prof
        expect_status 0
    done
done
try "$MOD_ALLOC" diff -o diff.folded before.prof after.prof
expect_status 0
try "$MOD_ALLOC" diff -o back.folded --by module after.prof before.prof
expect_status 0
"$MOD_ALLOC" report --allocated -o before.folded before.prof
"$MOD_ALLOC" report --allocated -o after.folded after.prof
python3 - << 'PYTHON' || fail "diff's formats do not say the same"
import csv, json, re
from collections import Counter

def folded(path, numbers):
    lines, found = open(path).read().splitlines(), {}
    for line in lines:
        stack, *values = re.fullmatch("(.*)" + r" (\d+)" * numbers, line).groups()
        assert stack not in found, ("twice", stack)
        found[stack] = tuple(map(int, values))
    return found

before, after = folded("before.folded", 1), folded("after.folded", 1)
want = {s: before.get(s, (0,)) + after.get(s, (0,)) for s in before | after}
assert folded("diff.folded", 2) == want, "folded is not both sides' folded"
assert folded("back.folded", 2) == {s: v[::-1] for s, v in want.items()}
for by in "site", "function", "file", "module", "thread":
    data, rows = json.load(open(f"diff.{by}.json")), list(csv.DictReader(open(f"diff.{by}.csv")))
    assert (data["format"], data["version"], data["by"], data["value"]) == ("mod-alloc diff", 1, by, "allocated_bytes")
    assert len(data["rows"]) == len(rows) > 0 and sum(data["changes"].values()) == len(rows)
    assert Counter(r["change"] for r in data["rows"]) == +Counter(data["changes"])
    for j, c in zip(data["rows"], rows):
        sides = [(j[s] or {}).get("allocated_bytes", 0) for s in ("before", "after")]
        assert [int(c["allocated_bytes_before"]), int(c["allocated_bytes_after"])] == sides, (j, c)
        assert j["delta"] == int(c["delta"]) == sides[1] - sides[0] and (j["name"], j["change"]) == (c[by], c["change"])
        assert j["before"] is not None or j["change"] in ("new", "same"), j
    if by == "site":
        for side in "before", "after":
            assert data[side]["is_exact"] and data[side]["site_totals"]["allocated_bytes"] == data[side]["totals"]["total_bytes"]
            assert sum((r[side] or {}).get("allocated_bytes", 0) for r in data["rows"]) == data[side]["totals"]["total_bytes"]
        lost = [r for r in data["rows"] if r["name"] == "lose_blocks"]
        assert [r["change"] for r in lost] == ["new"] and lost[0]["before"] is None and lost[0]["after"]["live_count"] == 700
        assert lost[0]["standard_error"] == 0 and lost[0]["stack"][0]["file"].endswith("allocate.c") and lost[0]["stack"][-1]["function"]
PYTHON
try "$MOD_ALLOC" diff -o diff.html before.prof after.prof
expect_status 2
expect_err "text|json|csv|folded"
try "$MOD_ALLOC" merge -o sum.csv before.prof after.prof
expect_status 0
python3 - sum.csv <<'PYTHON' || fail "sum.csv does not hold 2000 blocks of keep_blocks"
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
name = [k for k in rows[0] if any("keep_blocks" in (r[k] or "") for r in rows)][0]
sys.exit(sum(int(r["allocated_count"]) for r in rows if "keep_blocks" in r[name]) != 2000)
PYTHON

# binary formats and a full disk
try script -qec "$MOD_ALLOC report --format pprof after.prof" /dev/null
case $out in *"not for a terminal"*) ;; *) command -v script > /dev/null && fail "pprof on a terminal: $out" ;; esac
if [ -w /dev/full ]; then
    try "$MOD_ALLOC" report -o /dev/full after.prof
    expect_status 2
    expect_err "/dev/full" "No space left"
fi
# an error is one standard error, in a row as in the sum
"$MOD_ALLOC" run --quiet --sample 4K --output sampled.prof "$allocate" pass 1000 1024
try "$MOD_ALLOC" report --allocated sampled.prof
row=$(echo "$out" | sed -n 's/^ .*+-\([0-9]*\)% *100.0% *100.0% .*/\1/p')
sum=$(echo "$out" | sed -n 's/.*sites add up to .*+-\([0-9.]*\)% allocated.*/\1/p')
awk "BEGIN { off = ${row:--100} - ${sum:-100}; exit !(off > -0.6 && off < 0.6) }" \
    || fail "the error of the only site is '$row' %, of the sum '$sum' %"

finish
