#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# large_debug.py MOD_ALLOC LIBRARY FOLDER [UNITS] - the report of a program with very much debug information: makes one
# of UNITS compilation units (100: 500 MB of it and 100,000 call sites), records each allocation of it, and looks at
# every name, inlined call and line in the report. Prints what the report took on the wall, on the processor and in
# memory, once after the other: the first run has the file's pages, too. What was built stays in FOLDER.
#
# A unit is compiled once. The others are copies of the object with another name of the same length in place of the
# first's: symbols, debug information and all. So a large program takes a minute.
import json, os, re, subprocess, sys, time
from pathlib import Path

FUNCTIONS, SITES = 250, 4  # of a unit; call sites in each of them
UNIT = """
#include <utility>
#include <vector>
namespace unit0000 {
template <int N> struct item {
    char bytes[16 + N % 7 * 16];
    int place = N;
};
template <int N> struct holder {
    std::vector<item<N>> items;
    item<N> *spare = nullptr, *own = nullptr;
    void grow() {
        items.reserve(1); // line RESERVE
        spare = new item<N>; // line SPARE
    }
};
template <int N> inline holder<N> *make() {
    return new holder<N>; // line NEW
}
template <int N> __attribute__((noinline)) void *site() {
    holder<N> *const made = make<N>(); // line MAKE
    made->grow(); // line GROW
    made->own = new item<N>; // line OWN
    return made;
}
template <int... N> void run(std::integer_sequence<int, N...>) {
    static void *volatile sink;
    ((sink = site<N>()), ...);
}
void run() { run(std::make_integer_sequence<int, FUNCTIONS>()); }
}
""".replace("FUNCTIONS", str(FUNCTIONS))
LINES = {word: 1 + next(i for i, line in enumerate(UNIT.splitlines()) if line.endswith(f"// line {word}"))
         for word in ("RESERVE", "SPARE", "NEW", "MAKE", "GROW", "OWN")}
KINDS = {(LINES["RESERVE"], LINES["GROW"]): "reserve", (LINES["SPARE"], LINES["GROW"]): "spare",
         (LINES["NEW"], LINES["MAKE"]): "new", (0, LINES["OWN"]): "own"}  # by the lines of site() and of what it calls


def name(unit):
    return f"unit{unit:04d}"


def build(folder, units):
    program = folder / f"program{units}"
    if program.exists():
        return program
    (folder / "unit.cpp").write_text(UNIT)
    subprocess.run(["c++", "-std=c++17", "-g", "-O2", "-c", "-o", folder / "unit0000.o", folder / "unit.cpp"], check=True)
    first, objects = (folder / "unit0000.o").read_bytes(), []
    for unit in range(units):
        objects.append(folder / f"{name(unit)}.o")
        objects[-1].write_bytes(first.replace(b"unit0000", name(unit).encode()))
    (folder / "main.cpp").write_text("".join(f"namespace {name(u)} {{ void run(); }}\n" for u in range(units)) +
                                     "int main() {\n" + "".join(f"    {name(u)}::run();\n" for u in range(units)) + "}\n")
    (folder / "objects").write_text("\n".join(map(str, objects)))
    subprocess.run(["c++", "-g", "-o", program, folder / "main.cpp", f"@{folder / 'objects'}"], check=True)
    for made in objects:
        made.unlink()
    return program


def debug_bytes(program):
    text = subprocess.run(["readelf", "-WS", program], check=True, capture_output=True, text=True).stdout
    return sum(int(size, 16) for size in re.findall(r" \.debug_\S+ +PROGBITS +\S+ \S+ (\S+)", text))


def report(mod_alloc, profile, what, to):
    start = time.monotonic()
    process = subprocess.Popen([mod_alloc, "report", "--quiet", *what, "-o", to, profile])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"report {what}: status {process.returncode}"
    print(f"report {' '.join(what)}: {time.monotonic() - start:.2f} s on the wall, {usage.ru_utime + usage.ru_stime:.2f} s on "
          f"the processor, {usage.ru_maxrss / 1024:.0f} MiB, {os.path.getsize(to):,} bytes written", flush=True)


def check(path, units):
    """Each of our call sites: the frames of make() and grow() of its own unit and number, at their lines."""
    data = json.loads(path.read_text())
    frames, seen = data["frames"], {}
    for row in data["rows"]:
        stack = [(frames[f]["function"], frames[f]["line"], frames[f]["is_inlined"]) for f in row["stack"]]
        at = next((i for i, f in enumerate(stack) if "::site<" in f[0]), None)
        if at is None:
            continue
        own = re.fullmatch(r"void\* (unit\d{4})::site<(\d+)>\(\)", stack[at][0])
        assert own and not stack[at][2], stack
        unit, number = own.groups()
        assert all(f[2] and f[1] for f in stack[:at]), ("inlined, with lines", stack)
        item, holder = f"{unit}::item<{number}>", f"{unit}::holder<{number}>"
        near = [f[:2] for f in stack[at - 1:at + 1]] if at > 0 else [("", 0), stack[0][:2]]
        kind = KINDS[near[0][1], near[1][1]]
        assert near[0][0] == {"new": f"{holder}* {unit}::make<{number}>()", "own": ""}.get(kind, f"{holder}::grow()"), stack
        assert at == 1 or kind in ("reserve", "own") and (kind == "own") == (at == 0), stack
        assert all(item in f[0] for f in stack[:max(at - 1, 0)]), stack
        assert [f[0].split("<")[0] for f in stack[at + 1:at + 4]] == [f"void {unit}::run", f"{unit}::run()", "main"], stack
        assert row["values"]["live_count"] == 1, row
        assert row["values"]["live_requested_bytes"] == (40 if kind == "new" else 20 + int(number) % 7 * 16), row
        assert (unit, number, kind) not in seen, ("two sites", unit, number, kind)
        seen[unit, number, kind] = True
    wanted = units * FUNCTIONS * SITES
    assert len(seen) == wanted, (len(seen), wanted)
    print(f"{len(seen):,} call sites, each with its own function, inlined calls and lines")


def main():
    mod_alloc, library, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    units = int(sys.argv[4]) if len(sys.argv) > 4 else 100
    folder.mkdir(parents=True, exist_ok=True)
    program = build(folder, units)
    profile = folder / "profile"
    profile.unlink(missing_ok=True)
    subprocess.run([program], check=True, env={**os.environ, "LD_PRELOAD": library, "MOD_ALLOC_SAMPLE": "1",
                                               "MOD_ALLOC_MEMORY": "256M", "MOD_ALLOC_PROFILE": str(profile)})
    print(f"{program.stat().st_size:,} bytes, {debug_bytes(program):,} of debug information")
    for what in (["--format", "text"], ["--format", "text", "--top", "0"], ["--format", "json"]):
        report(mod_alloc, profile, what, folder / "report.out")
    check(folder / "report.out", units)
    profile.unlink()


main()
