#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lines.py --program BENCH_LINES_WRITTEN --plain LIB --ours LIB - which cache lines malloc and free write.

What keeps an allocator from scaling is not how many instructions it runs but which lines several cores write:
each such store moves the line from one core to the other, 50 to 200 ns at a time, and all cores that want
it queue up. So this counts them: valgrind's lackey lists every store of two threads that do the same pairs
of malloc and free; a line that both write is shared.

It ends with status 1 if a pair of malloc and free on its fast path writes a shared line, in any mode but that of every
allocation, which has sites to share; or if slow paths do so more often, per MiB allocated, than BARS says: never, in a
thread whose heap stays level. Then it prints what that makes at 64 and 512 threads (README.md, "Scaling"). Counts, no
timings: the clock stands still, and what is done by the processor's tick counter (a few times a second, however much is
allocated) is left out.
"""
import argparse
import bisect
import collections
import os
import subprocess
import sys

from instructions import BY_THE_CLOCK, MODES, environment

LINE = 64
TRANSFER_NS = 200  # of a contended line between sockets: a high one
THREADS = (1, 64, 512)
# Bytes of a block, pairs, and whether blocks are kept. The fast path; slow paths with a heap that stays level; and with
# one that grows, which is made known to the process now and then.
FAST, LEVEL, GROWING = (64, 200, 0), (1000, 5000, 0), (1000, 5000, 1)
# At most so many stores to shared lines for each MiB allocated; None = printed only: a sample's row or site may be new.
BARS = {"level": {"plain": 0, "counters": 0, "sampled": None}, "growing": {"plain": None, "counters": 60, "sampled": None}}


class Functions:
    """Which function of the preloaded library an instruction belongs to."""

    def __init__(self, library):
        self.starts, self.names = [], []
        listed = subprocess.run(["nm", "--defined-only", library], capture_output=True, text=True, check=True).stdout
        for start, kind, name in sorted((int(f[0], 16), f[1], f[2]) for f in map(str.split, listed.splitlines())
                                        if len(f) == 3 and f[1] in "tTwW"):
            self.starts.append(start)
            self.names.append(name)
            if name == "malloc":
                self.malloc = start
        self.base, self.end = 0, self.starts[-1] + 4096

    def lies_at(self, malloc):
        self.base = malloc - self.malloc

    def of(self, address):
        offset = address - self.base
        at = bisect.bisect_right(self.starts, offset) - 1
        return self.names[at] if 0 <= offset < self.end and at >= 0 else None


def trace(spec, arguments, still):
    """The lines of lackey's trace, and what the program printed."""
    command = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--log-fd=9", "--", *map(str, arguments)]
    reader, writer = os.pipe()
    with open(os.devnull) as nothing:
        os.dup2(writer, 9, inheritable=True)
        process = subprocess.Popen(command, env=environment(spec, still), stdin=nothing, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, pass_fds=[9])
        os.close(writer)
        os.close(9)
    with os.fdopen(reader, errors="replace") as lines:
        traced = lines.readlines()
    printed = [int(m, 16) for m in process.communicate()[0].split()]
    if process.returncode or len(printed) != 5:
        sys.exit(f"lines.py: {' '.join(command)} under {spec}: status {process.returncode}")
    return traced, printed


def lines_of(line):
    address, _, width = line[3:].partition(",")
    first, last = int(address, 16), int(address, 16) + int(width) - 1
    return range(first // LINE, last // LINE + 1)


def stores(spec, arguments, still=None):
    """For each thread's turn a Counter: (line, function) -> stores."""
    traced, printed = trace(spec, arguments, still)
    marks, functions = [m // LINE for m in printed[:4]], Functions(spec.split(":")[0])
    functions.lies_at(printed[4])
    turns, turn, at = [collections.Counter(), collections.Counter()], None, 0
    names, name, returns_to = {}, None, None
    for line in traced:
        kind = line[:2]
        if kind == "I ":
            address = line[3:line.index(",")]
            if address not in names:
                names[address] = functions.of(int(address, 16))
            if returns_to is None and names[address] and BY_THE_CLOCK.match(names[address]):
                returns_to = name
            elif returns_to is not None and names[address] == returns_to:
                returns_to = None
            name = names[address]
        elif kind in (" S", " M"):
            for written in lines_of(line):
                if at < 4 and written == marks[at]:
                    turn, at = at // 2 if at % 2 == 0 else None, at + 1
                elif turn is not None and returns_to is None:
                    turns[turn][written, name] += 1
    return turns


def shared_stores(spec, arguments, still):
    """Of the second thread's turn: lines written, lines that the first writes, too, stores to those, and by whom."""
    first, second = stores(spec, arguments, still)
    shared = {line for line, _ in first} & {line for line, _ in second}
    by = collections.Counter()
    for (line, function), count in second.items():
        if line in shared:
            by[function or "elsewhere"] += count
    return {"lines": len({line for line, _ in second}), "shared": len(shared), "stores": sum(by.values()), "by": by}


def measure(program, plain, ours, still, only_guarded=False):
    """{fast: {mode: shared_stores}, level: {...}, growing: {...}, model: {level|growing: {mode: {threads: share}}}}"""
    specs = {"plain": plain, **{mode: f"{ours}:{setting}" for mode, setting in MODES}}
    of = lambda name, work: shared_stores(specs[name], [os.path.abspath(program), *work], still)
    fast = ("counters", "sampled") if only_guarded else specs
    modes = ("counters",) if only_guarded else ("plain", "counters", "sampled")
    found = {"fast": {name: of(name, FAST) for name in fast}, "model": {}}
    for kind, work in (("level", LEVEL), ("growing", GROWING)):
        found[kind] = {name: of(name, work) for name in modes}
        for entry in found[kind].values():
            entry["stores_a_mib"] = entry["stores"] / (work[0] * work[1] / 2**20)
        found["model"][kind] = {name: {str(n): share_taken(entry["stores_a_mib"], n) for n in THREADS}
                                for name, entry in found[kind].items()}
    return found


def share_taken(stores_a_mib, threads, gib_a_second=1.0):
    """How much of the time the shared lines are taken, if each store moves one: at 1 threads queue up."""
    return stores_a_mib * 1024 * gib_a_second * TRANSFER_NS * 1e-9 * threads


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "plain", "ours", "still-clock"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--only-guarded", action="store_true", help="only what has a bar: what ctest asks for")
    arguments = parser.parse_args()
    found = measure(arguments.program, arguments.plain, arguments.ours, arguments.still_clock, arguments.only_guarded)
    bad = 0
    print(f"fast path, {FAST[1]} pairs of {FAST[0]} bytes: lines written by one thread; of those, by the other one, too")
    for name, entry in found["fast"].items():
        print(f"  {name:9} {entry['lines']:4} lines, {entry['shared']} shared {dict(entry['by']) or ''}")
        bad += name != "exact" and entry["shared"] > 0
    print(f"slow paths, {LEVEL[1]} blocks of {LEVEL[0]} bytes: stores to shared lines for each MiB allocated, and how much of "
          f"the time those lines are taken at 1 GiB/s a thread and {TRANSFER_NS} ns a store")
    for kind in BARS:
        for name, entry in found[kind].items():
            bar = BARS[kind][name]
            is_over = bar is not None and entry["stores_a_mib"] > bar
            bad += is_over
            shares = ", ".join(f"{100 * share:.3f} % by {n}" for n, share in found["model"][kind][name].items())
            print(f"  {kind:8} {name:9} {entry['stores_a_mib']:.2f}" + (f" (at most {bar})" if bar is not None else "")
                  + f": {shares} thread(s)" + " TOO MANY" * is_over)
            for function, count in entry["by"].most_common(8):
                print(f"      {count} by {function}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
