#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lines.py --program BENCH_LINES_WRITTEN --plain LIB --ours LIB - which cache lines malloc and free write.

What keeps an allocator from scaling is not how many instructions it runs but which lines several cores write:
each such store moves the line from one core to the other, 50 to 200 ns at a time, and all cores that want
it queue up. So this counts them: valgrind's lackey lists every store of two threads that do the same pairs
of malloc and free; a line that both write is shared.

It ends with status 1 if a pair of malloc and free on its fast path writes a shared line, in any mode but that
of every allocation, which has sites to share. Then it prints how often slow paths do, per MiB allocated, and
what that makes at 64 and 512 threads (README.md, "Scaling"). Counts, no timings: the same each time, but for
slow paths that look at the clock.
"""
import argparse
import collections
import os
import subprocess
import sys

from instructions import MODES, environment

LINE = 64
TRANSFER_NS = 200  # of a contended line between sockets: a high one
THREADS = (1, 64, 512)
FAST, SLOW = (64, 200), (1000, 20000)  # bytes of a block, pairs: the latter pass slow paths, and the heap stays level
SLOW_STORES_A_MIB = {"plain": 0.5, "counters": 100, "sampled": 110}


def stores(spec, program, size, pairs):
    """Two Counters, one a thread: line -> stores during its turn."""
    trace = ["valgrind", "--tool=lackey", "--trace-mem=yes", "--log-fd=9", "--", program, str(size), str(pairs)]
    reader, writer = os.pipe()
    with open(os.devnull) as nothing:
        os.dup2(writer, 9, inheritable=True)
        process = subprocess.Popen(trace, env=environment(spec), stdin=nothing, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, pass_fds=[9])
        os.close(writer)
        os.close(9)
    written = []  # lines in the order of stores; where the turns lie is known at the end
    with os.fdopen(reader, errors="replace") as lines:
        for line in lines:
            if line[:2] in (" S", " M"):
                address, _, width = line[3:].partition(",")
                first = int(address, 16) // LINE
                written.append(first)
                last = (int(address, 16) + int(width) - 1) // LINE
                if last != first:
                    written.append(last)
    marks = [int(m, 16) // LINE for m in process.communicate()[0].split()]
    if process.returncode or len(marks) != 4:
        sys.exit(f"lines.py: {' '.join(trace)} under {spec}: status {process.returncode}")
    at = [written.index(mark) for mark in marks]
    return [collections.Counter(written[begin + 1:end]) for begin, end in ((at[0], at[1]), (at[2], at[3]))]


def shared_stores(spec, program, size, pairs):
    """Of the second thread's turn: lines written, lines that the first writes, too, and stores to those."""
    first, second = stores(spec, os.path.abspath(program), size, pairs)
    shared = set(first) & set(second)
    return {"lines": len(second), "shared": len(shared), "stores": sum(second[line] for line in shared)}


def measure(program, plain, ours, has_model):
    """{fast: {mode: shared_stores}, slow: {...}, level: {...}, model: {mode: {threads: share of time}}}"""
    specs = [("plain", plain)] + [(mode, f"{ours}:{setting}") for mode, setting in MODES]
    found = {"fast": {name: shared_stores(spec, program, *FAST) for name, spec in specs}}
    if not has_model:
        return found
    found["slow"] = {name: shared_stores(spec, program, *SLOW) for name, spec in specs[:3]}
    mib = SLOW[0] * SLOW[1] / 2**20
    for entry in found["slow"].values():
        entry["stores_a_mib"] = entry["stores"] / mib
    found["model"] = {name: {str(threads): share_taken(entry["stores_a_mib"], threads) for threads in THREADS}
                      for name, entry in found["slow"].items()}
    return found


def share_taken(stores_a_mib, threads, gib_a_second=1.0):
    """How much of the time the shared lines are taken, if each store moves one: at 1 threads queue up."""
    return stores_a_mib * 1024 * gib_a_second * TRANSFER_NS * 1e-9 * threads


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "plain", "ours"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--fast-paths-only", action="store_true", help="some seconds")
    arguments = parser.parse_args()
    found = measure(arguments.program, arguments.plain, arguments.ours, not arguments.fast_paths_only)
    bad = 0
    print(f"fast path, {FAST[1]} pairs of {FAST[0]} bytes: lines written by one thread; of those, by the other one, too")
    for name, entry in found["fast"].items():
        print(f"  {name:9} {entry['lines']:4} lines, {entry['shared']} shared")
        bad += name != "exact" and entry["shared"] > 0
    if "slow" in found:
        print(f"slow paths, {SLOW[1]} pairs of {SLOW[0]} bytes: stores to shared lines for each MiB allocated, and how much "
              f"of the time those lines are taken at 1 GiB/s a thread and {TRANSFER_NS} ns a store")
        for name, entry in found["slow"].items():
            bar = SLOW_STORES_A_MIB.get(name)
            is_over = bar is not None and entry["stores_a_mib"] > bar
            bad += is_over
            print(f"  {name:9} {entry['stores_a_mib']:.2f} (at most {'any' if bar is None else bar}): "
                  + ", ".join(f"{100 * share:.3f} % by {threads} thread{'s' * (threads != '1')}"
                              for threads, share in found["model"][name].items()) + " TOO MANY" * is_over)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
