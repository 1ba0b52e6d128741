#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# record.py LIBMOD_ALLOC.SO WRITE_REPORT INLINED FOLDER - records real programs, every allocation, writes each
# recording in all formats, lets compare.py compare these, and compares blocks and requested bytes with Valgrind's
# DHAT on the same command, allocated, at the heap's peak and at the end: whole-program totals, and each function's.
# (At the end Valgrind must not have libc and libstdc++ free what they keep.)
#
# Valgrind leaves a block that realloc moves at its first site, we give it to the one that called realloc; both
# count realloc as one more block of the new size. So totals are equal always, and functions are, but for those
# named in `moves`, whose blocks move between them: of these the sum is compared.
#
# Sites are compared one by one, too, their whole stacks by address: all whose blocks were never reallocated.
import json, os, re, shutil, subprocess, sys, tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What is compared: Valgrind's bytes (its blocks have a k behind), our blocks and bytes.
WHATS = {
    "allocated": ("tb", ("allocated_count", "requested_bytes")),
    "at the peak": ("gb", ("at_peak_count", "at_peak_requested_bytes")),
    "at the end": ("eb", ("live_count", "live_requested_bytes")),
}
FRAME = re.compile(r"^0x([0-9a-f]+): (.+) \((?:in )?(.+?)(?::(\d+))?(?::(\d+))?\)$", re.I)
SQL = """create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i+1 from n where i<3000) insert into t select i, hex(i*7919)||'-'||i, i*1.5 from n;
create index tb on t(b);
select count(*), sum(length(b)) from t where b like '3%';
select substr(b,1,2) k, count(*) from t group by k order by 2 desc, 1 limit 3;
"""
PERL = """my %seen; for my $i (1..4000) { my $k = "key" . ($i * 7919 % 1009); push @{$seen{$k}}, $i; }
my $n = 0; for (sort keys %seen) { $n += @{$seen{$_}}; my $s = join ",", @{$seen{$_}}; $n += length $s; } print "$n\\n";
"""
LUA = """local t = {} for i = 1, 3000 do t[i] = { name = "n" .. i, v = i } end
table.sort(t, function(a, b) return a.v > b.v end) local s = 0 for _, x in ipairs(t) do s = s + #x.name end print(s)
"""


def programs(inlined):
    yield "cpp", [inlined], "", set()
    # Stripped: all of its own code is one name, that of its object.
    yield "sqlite3", ["sqlite3", ":memory:"], SQL, set()
    yield "perl", ["perl", "-e", PERL], "", {"Perl_safesysmalloc", "Perl_safesyscalloc", "Perl_safesysrealloc"}
    yield "lua", ["lua5.4", "-e", LUA], "", set()


def environment(library, recording):
    """Programs copy their environment: under both tools it has the same variables, with values as long."""
    own = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0", "HOME": "/",
           "MOD_ALLOC_SAMPLE": "1", "MOD_ALLOC_FRAMES": "128", "MOD_ALLOC_PROFILE": str(recording)}
    ours = {**own, "LD_PRELOAD": str(library)}
    if shutil.which("valgrind"):
        text = subprocess.run(["valgrind", "-q", "--tool=dhat", "--dhat-out-file=/dev/null", "env"], env=own,
                              capture_output=True, text=True).stdout
        theirs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        for key, value in theirs.items():
            if key == "LD_PRELOAD": # empty entries are no entries
                ours[key] = ours[key].ljust(len(value), ":")
            elif key not in ours and key != "_":
                ours[key] = value
    return own, ours


def key_of(name, place):
    """Valgrind names inlined functions without scope and arguments, and takes another of glibc's aliases: the bare
    name is what both know. Code without names is told apart by its object."""
    if name == "???":
        return "in " + os.path.realpath(place)
    while (shorter := re.sub(r"<[^<>]*>", "", name)) != name:
        name = shorter
    name = re.sub(r"\(.*", "", name.replace("(anonymous namespace)::", "")).split("::")[-1].split(" ")[-1]
    return re.sub(r"^(__GI_)?_*", "", name) or "?"


def read_valgrind(path):
    data, sums = json.loads(path.read_text(errors="replace")), {what: Counter() for what in WHATS}
    for pp in data["pps"]:
        frames = [FRAME.match(data["ftbl"][f]) for f in pp["fs"]]
        frames = [f for f in frames if f and "vgpreload" not in f[3]] or [None]
        key = key_of(frames[0][2], frames[0][3]) if frames[0] else "none"
        for what, (valgrinds, _) in WHATS.items():
            sums[what][key, "blocks"] += pp[valgrinds + "k"]
            sums[what][key, "bytes"] += pp[valgrinds]
    return sums


def read_ours(path):
    report, sums = json.loads(path.read_text(encoding="utf-8")), {what: Counter() for what in WHATS}
    for row in report["rows"]:
        frame = report["frames"][row["stack"][0]]
        key = key_of(frame["function"] if frame["is_named"] else "???", frame["module"])
        for what, (_, ours) in WHATS.items():
            sums[what][key, "blocks"] += row["values"][ours[0]]
            sums[what][key, "bytes"] += row["values"][ours[1]]
    assert report["is_exact"] and report["site_totals"]["allocated_count"] == report["totals"]["alloc_count"]
    return report, sums


# ---- site by site ----


def addresses_of(pp, ftbl):
    """The addresses of the program's frames. Valgrind lists what is inlined at an address before the function that has
    it, as frames of the same address. Behind the outermost frame it goes on into argc and argv: what lies in no object."""
    frames, run = [], set()
    for f in pp["fs"]:
        if not FRAME.match(ftbl[f]):
            break
        address = int(ftbl[f].split(":")[0], 16)
        if frames and frames[-1] == address and f not in run:
            run.add(f)
        elif "vgpreload" not in ftbl[f]:
            frames.append(address)
            run = {f}
    return tuple(frames)


def add_site(sites, stack, values):
    sites[stack] = [a + b for a, b in zip(sites.get(stack, [0] * len(values)), values)]


def sites_of_valgrind(data):
    """By stack: the values in the order of WHATS."""
    sites = {}
    for pp in data["pps"]:
        values = [pp[key + unit] for key, _ in WHATS.values() for unit in ("k", "")]
        add_site(sites, addresses_of(pp, data["ftbl"]), values)
    return sites


def places_of(report, stacks):
    """Where Valgrind has had each object: most of its addresses, taken as offsets in the object, must meet one of
    Valgrind's there."""
    votes, by_low = {}, {}
    for address in {a for stack in stacks for a in stack}:
        by_low.setdefault(address % 4096, []).append(address)
    for module, offset in {(f["module"], f["module_offset"]) for f in report["frames"]}:
        if offset is not None:
            votes.setdefault(module, Counter()).update(a - offset for a in by_low.get(offset % 4096, []))
    return {module: counter.most_common(1)[0][0] for module, counter in votes.items() if counter}


def sites_of_ours(report, places):
    """The same by the same addresses, and how many blocks realloc took away from each."""
    sites, moved = {}, Counter()
    for row in report["rows"]:
        frames = [report["frames"][f] for f in row["stack"]]
        stack = tuple(places.get(f["module"], 0) + (f["module_offset"] or 0) for f in frames if not f["is_inlined"])
        add_site(sites, stack, [row["values"][key] for _, keys in WHATS.values() for key in keys])
        moved[stack] += row["values"]["freed_count"] - row["values"]["lifetime_count"]
    return sites, moved


def sites_against_valgrind(name, data, report):
    """What realloc brought is more at a site of ours than at Valgrind's: so many blocks as it took away elsewhere, or
    fewer, where it brought a block back to where it was. All other sites are alike."""
    theirs = sites_of_valgrind(data)
    ours, moved = sites_of_ours(report, places_of(report, theirs))
    none = [0] * (2 * len(WHATS))
    more = {s: n for s in ours if (n := ours[s][0] - theirs.get(s, none)[0]) > 0}
    alike = {s for s in set(ours) | set(theirs) if s not in more and not moved[s]}
    wrong = [s for s in alike if ours.get(s) != theirs.get(s)]
    blocks, all_blocks = sum(ours[s][0] for s in alike if s in ours), sum(v[0] for v in ours.values())
    brought, taken = sum(more.values()), sum(moved.values())
    print(f"{name}: {len(alike)} sites of {blocks} blocks without realloc, {len(wrong)} differ; {len(ours) - len(alike)} with, "
          f"blocks taken away {taken}, brought {brought}")
    for stack in wrong[:5]:
        print("   ", *(f"{a:#x}" for a in stack), "ours", ours.get(stack), "Valgrind's", theirs.get(stack))
    return bool(wrong) or brought > taken or 2 * blocks < all_blocks


def run(command, text, variables):
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=variables, timeout=1500)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def total(sums, unit):
    return sum(value for key, value in sums.items() if key[1] == unit)


def against_valgrind(name, command, text, variables, moves, own, report, ours):
    run(["valgrind", "-q", "--tool=dhat", "--num-callers=100", "--show-below-main=yes", "--run-libc-freeres=no", "--run-cxx-freeres=no",
         f"--dhat-out-file={own / 'valgrind.json'}", *command], text, variables)
    theirs, bad = read_valgrind(own / "valgrind.json"), 0
    for what in WHATS:
        differing = {k for k in set(ours[what]) | set(theirs[what]) if ours[what][k] != theirs[what][k]}
        wrong = {k for k in differing if k[0] not in moves}
        totals = [total(side[what], unit) for side in (ours, theirs) for unit in ("blocks", "bytes")]
        bad += totals[:2] != totals[2:] or bool(wrong) or not totals[0]
        print(f"{name}, {what}: {totals[0]} blocks, {totals[1]} bytes; Valgrind {totals[2]}, {totals[3]}; "
              f"{len(ours[what]) // 2} functions, {len(wrong)} differ" + (", some by realloc" if differing - wrong else ""))
        for k in sorted(wrong, key=lambda k: -abs(ours[what][k] - theirs[what][k]))[:8]:
            print(f"    {k[0]}: {ours[what][k]} {k[1]}; Valgrind {theirs[what][k]}")
    data = json.loads((own / "valgrind.json").read_text(errors="replace"))
    return 1 if sites_against_valgrind(name, data, report) or bad else 0


def check_inlined(report):
    frames = report["frames"]
    stacks = [[frames[f] for f in row["stack"]] for row in report["rows"]]
    assert any(s[0]["function"].endswith("take(unsigned long)") and s[0]["is_inlined"] and
               s[1]["function"].startswith("int* shapes::make_array<int>") and s[0]["address"] == s[1]["address"]
               for s in stacks), "take is inlined into make_array, and not shown so"
    live = [r["values"] for r, s in zip(report["rows"], stacks) if "double* shapes::make_array" in s[1]["function"]]
    assert [(v["live_count"], v["live_requested_bytes"]) for v in live] == [(1, 40000)], live


def record(name, command, text, moves, library, write_report, own):
    variables, with_library = environment(library, own / "recording")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    assert run(command, text, with_library) == run(command, text, variables), f"{name}: its output differs"
    subprocess.run([write_report, own / "recording", own], check=True, stdout=subprocess.DEVNULL)
    bad = subprocess.run([sys.executable, "-B", HERE / "compare.py", own]).returncode
    report, sums = read_ours(own / "report.json")
    if name == "cpp":
        check_inlined(report)
    if shutil.which("valgrind"):
        bad += against_valgrind(name, command, text, variables, moves, own, report, sums)
    return bad


def main():
    library, write_report, inlined, folder = sys.argv[1:5]
    bad = 0
    with tempfile.TemporaryDirectory() as short: # a path no longer than that of Valgrind's own libraries
        link = Path(short) / "libmod_alloc.so"
        link.symlink_to(Path(library).resolve())
        for name, command, text, moves in programs(inlined):
            if shutil.which(command[0]):
                bad += record(name, command, text, moves, link, write_report, Path(folder) / name)
            else:
                print(f"{name}: not here")
    return 1 if bad else 0


sys.exit(main())
