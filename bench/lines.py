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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("program", "plain", "ours"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--fast-paths-only", action="store_true", help="what ctest asks for: some seconds")
    arguments = parser.parse_args()
    specs = [("plain", arguments.plain)] + [(mode, f"{arguments.ours}:{setting}") for mode, setting in MODES]
    bad = 0
    print("fast path, 200 pairs of 64 bytes: lines written by one thread; of those, by the other one, too")
    for name, spec in specs:
        first, second = stores(spec, os.path.abspath(arguments.program), 64, 200)
        shared = set(first) & set(second)
        print(f"  {name:9} {len(second):4} lines, {len(shared)} shared")
        bad += name != "exact" and len(shared) > 0
    if arguments.fast_paths_only:
        return 1 if bad else 0
    print("slow paths, 20000 pairs of 1000 bytes: stores to shared lines for each MiB allocated")
    for name, spec in specs[:3]:
        size, pairs = 1000, 20000
        first, second = stores(spec, os.path.abspath(arguments.program), size, pairs)
        shared = set(first) & set(second)
        rate = sum(second[line] for line in shared) / (size * pairs / 2**20)
        share = lambda threads: 100 * rate * 1024 * TRANSFER_NS * 1e-9 * threads
        print(f"  {name:9} {rate:.2f}; at 1 GiB/s a thread and {TRANSFER_NS} ns a store the shared lines are taken at most "
              f"{share(1):.3f} % by one thread, {share(64):.1f} % by 64, {share(512):.0f} % by 512")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
