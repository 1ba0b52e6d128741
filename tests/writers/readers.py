#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# readers.py WHAT FOLDER [NPM_FOLDER] - lets programs that are not ours read what write_report put into FOLDER and
# compares the totals they find.
#   dh_view  Valgrind's viewer under node        perl  google-pprof and jeprof on the heap text
#   npm      pprof-format (an independent decoder of profile.proto) and speedscope in Chromium; installed from
#            npm's registry into NPM_FOLDER if they are not there yet
#   go       `go tool pprof` on profile.proto: it checks the profile's validity, and finds each function's figures
# Exit 77: the reader is not on this machine.
import json, re, shutil, subprocess, sys
from collections import Counter
from pathlib import Path

SKIP = 77
HERE = Path(__file__).resolve().parent


def skip(why):
    print("skipped: " + why)
    sys.exit(SKIP)


def totals(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))["site_totals"]


def node():
    return shutil.which("node") or shutil.which("nodejs") or skip("no node here (apt-get install nodejs)")


def dh_view(folder):
    viewer = Path("/usr/libexec/valgrind/dh_view.js")
    if not viewer.exists():
        skip("Valgrind's dh_view.js is not here (apt-get install valgrind)")
    return subprocess.run([node(), HERE / "dhat_node.js", viewer, folder / "report.dhat.json"]).returncode


def perl(folder):
    programs = [p for p in ("google-pprof", "jeprof") if shutil.which(p)]
    if not programs:
        skip("neither google-pprof (google-perftools) nor jeprof (libjemalloc-dev) is here")
    if (folder / "report.heap").stat().st_size > 4 << 20:
        skip("it takes the perl programs minutes to read this one")
    sums, bad = totals(folder), 0
    for program in programs:
        for option, key in (("--inuse_space", "live_bytes"), ("--inuse_objects", "live_count"),
                            ("--alloc_space", "allocated_bytes"), ("--alloc_objects", "allocated_count")):
            text = subprocess.run([program, "--text", "--show_bytes", option, "/bin/true", folder / "report.heap"],
                                  capture_output=True, text=True, errors="replace").stdout
            total = re.search(r"^Total: (\d+)", text, re.M)
            if not total or int(total[1]) != sums[key]:
                bad += 1
                print(f"{program} {option}: {total and total[1]}, expected {sums[key]}")
        print(f"{program}: {len(text.splitlines())} lines, totals " + ("differ" if bad else "agree"))
    return 1 if bad else 0


DECODE = """
const fs = require("fs"), zlib = require("zlib"), { Profile } = require("pprof-format");
const p = Profile.decode(zlib.gunzipSync(fs.readFileSync(process.argv[2])));
const s = (n) => p.stringTable.strings[Number(n)], sums = {};
const known = new Map(p.location.map((l) => [Number(l.id), l]));
const functions = new Map(p.function.map((f) => [Number(f.id), f]));
for (const sample of p.sample) {
  if (sample.value.length !== p.sampleType.length) throw new Error("values and types differ in number");
  for (const id of sample.locationId) {
    const l = known.get(Number(id));
    if (!l || !l.line.length || l.line.some((x) => !functions.has(Number(x.functionId)))) throw new Error("location " + id);
  }
  sample.value.forEach((v, i) => { const k = s(p.sampleType[i].type); sums[k] = (sums[k] || 0) + Number(v); });
}
sums.default = s(p.defaultSampleType);
sums.buildIds = p.mapping.map((m) => s(m.buildId)).filter(Boolean).length;
console.log(JSON.stringify(sums));
"""


def npm(folder, place):
    modules = place / "node_modules"
    if not ((modules / "pprof-format").exists() and (modules / "speedscope").exists()):
        program = shutil.which("npm") or skip("no npm here")
        place.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run([program, "install", "--prefix", place, "--no-audit", "--no-fund", "--ignore-scripts",
                                   "--fetch-retries=0", "--fetch-timeout=20000", "pprof-format@2.3.2", "speedscope@1.25.0"],
                                  cwd=place, capture_output=True, text=True, timeout=180)
        except subprocess.TimeoutExpired:
            skip("npm's registry does not answer")
        if done.returncode != 0:
            skip("npm's registry is not reachable: " + (done.stderr.strip().splitlines() or ["?"])[-1])
    script = place / "decode.js"
    script.write_text(DECODE)
    done = subprocess.run([node(), script, folder / "report.pb.gz"], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr)
        return 1
    got, sums, bad = json.loads(done.stdout), totals(folder), 0
    for mine, theirs in (("allocated_bytes", "alloc_space"), ("allocated_count", "alloc_objects"),
                         ("live_bytes", "inuse_space"), ("live_count", "inuse_objects"),
                         ("at_peak_bytes", "peak_space"), ("requested_bytes", "requested_space")):
        if got.get(theirs, 0) != sums[mine]:
            bad += 1
            print(f"pprof-format: {theirs} is {got.get(theirs)}, expected {sums[mine]}")
    print("pprof-format: " + ("totals differ" if bad else "totals agree") + f", opens with {got['default']}")
    dist = modules / "speedscope" / "dist" / "release"
    seen = subprocess.run([sys.executable, "-B", HERE / "browser.py", "speedscope", folder, "--speedscope", dist]).returncode
    return 1 if bad or seen not in (0, SKIP) else 0


def go(folder):
    program = shutil.which("go") or skip("no go here (apt-get install golang-go)")
    if subprocess.run([program, "tool", "-n", "pprof"], capture_output=True).returncode != 0:
        skip("this go has no pprof")
    if (folder / "report.pb.gz").stat().st_size > 1 << 20:
        skip("it takes pprof half a minute to print this one")
    report, bad = json.loads((folder / "report.json").read_text(encoding="utf-8")), 0
    for index, key in (("alloc_space", "allocated_bytes"), ("alloc_objects", "allocated_count"),
                       ("inuse_space", "live_bytes"), ("inuse_objects", "live_count")):
        done = subprocess.run([program, "tool", "pprof", "-top", "-nodecount=1000000", "-nodefraction=0", "-symbolize=none",
                               "-unit=" + ("B" if index.endswith("space") else "count"), "-sample_index=" + index,
                               folder / "report.pb.gz"], capture_output=True, text=True, errors="replace")
        found, expected = Counter(), Counter()
        for line in done.stdout.splitlines():
            row = re.match(r" *(\d+)B? +[\d.e+-]+% +[\d.e+-]+% +\d+B? +[\d.e+-]+%  (.+?)(?: \(partial-inline\)| \(inline\))?$", line)
            if row:
                found[row[2]] += int(row[1])
        for row in report["rows"]:
            expected[row["function"]] += row["values"][key]
        differ = [name for name in expected | found if expected[name] != found[name]]
        for name in differ[:5]:
            print(f"go tool pprof, {index}: {name} has {found[name]}, expected {expected[name]}")
        bad += len(differ) + (done.returncode != 0) + (not found)
        if done.returncode != 0 or not found:
            print(done.stderr)
    print(f"go tool pprof: {len(expected)} functions " + ("differ" if bad else "agree"))
    return 1 if bad else 0


def main():
    what, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    if what == "dh_view":
        return dh_view(folder)
    if what == "perl":
        return perl(folder)
    if what == "go":
        return go(folder)
    return npm(folder, Path(sys.argv[3]).resolve())


sys.exit(main())
