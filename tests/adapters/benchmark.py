# SPDX-License-Identifier: MIT
"""benchmark.py PROGRAM - Google Benchmark's output with mod-alloc's figures: those known in advance, exactly."""
import json
import os
import re
import subprocess
import sys
import unittest

PROGRAM = sys.argv[1]


def run(*arguments, **variables):
    done = subprocess.run([PROGRAM, "--benchmark_min_time=0.01", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=300, env=dict(os.environ, **variables))
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


def memory_turns(iterations):
    """A memory run's: at most 16. A pause of the system may be all the time that the run before it is to last."""
    return min(16, iterations)


class Benchmark(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.figures = {b["name"].split("/")[0]: b for b in json.loads(run("--benchmark_format=json"))["benchmarks"]}

    def test_without_a_window_it_is_the_loop_and_one_object_of_the_library(self):
        """The library's own share is what a benchmark of nothing shows."""
        own = self.figures["nothing"]
        self.assertAlmostEqual(own["allocs_per_iter"] * memory_turns(own["iterations"]), 1)
        self.assertEqual(own["net_heap_growth"], 0)
        self.assertEqual(own["max_bytes_used"], own["total_allocated_bytes"])
        three = self.figures["three_blocks"]
        turns = memory_turns(three["iterations"])
        self.assertAlmostEqual(three["allocs_per_iter"] * turns, 1 + 3 * turns)
        self.assertEqual(three["total_allocated_bytes"] - own["total_allocated_bytes"], turns * 3 * 64)
        self.assertEqual(three["max_bytes_used"] - own["max_bytes_used"], 64)
        self.assertEqual(three["net_heap_growth"], 0)

    def test_a_window_holds_the_loop_alone(self):
        b = self.figures["three_blocks_in_a_window"]
        self.assertEqual(b["allocs_per_iter"], 3)
        self.assertEqual(b["total_allocated_bytes"], memory_turns(b["iterations"]) * 3 * 64)
        self.assertEqual(b["max_bytes_used"], 64)
        self.assertEqual(b["allocs/iter"], 3)
        self.assertEqual(b["bytes/iter"], 3 * 64)
        self.assertEqual(b["peak_bytes"], 64)

    def test_growth(self):
        b = self.figures["one_is_kept"]
        self.assertEqual(b["net_heap_growth"], 256)
        self.assertEqual(b["net_bytes"], 256)

    def test_a_peak_is_the_most_at_one_time(self):
        b = self.figures["grows_and_shrinks"]
        self.assertEqual((b["allocs_per_iter"], b["max_bytes_used"], b["net_heap_growth"]), (4, 4 * 1024, 0))
        self.assertEqual((b["allocs/iter"], b["bytes/iter"], b["peak_bytes"], b["net_bytes"]), (4, 4096, 4096, 0))

    def test_each_of_two_threads_counts_its_own(self):
        b = self.figures["on_two_threads"]
        self.assertEqual((b["allocs/iter"], b["bytes/iter"], b["peak_bytes"], b["net_bytes"]), (1, 128, 128, 0))

    def line(self, name, **variables):
        return next(l for l in run(f"--benchmark_filter=^{name}$", **variables).splitlines() if l.startswith(name))

    def test_the_console_shows_the_four_fields(self):
        line = self.line("three_blocks")
        shown = dict(re.findall(r"(\w+)=([\d.]+k?)", line))
        turns = memory_turns(int(re.match(r"\w+ +[\d.]+ ns +[\d.]+ ns +(\d+) ", line)[1]))
        self.assertAlmostEqual(float(shown["allocs_per_iter"]), (1 + 3 * turns) / turns, 4)
        self.assertEqual(shown["net_heap_growth"], "0")
        for name in ("max_bytes_used", "total_allocated_bytes"):
            self.assertIn(name, shown)
        exact = dict(re.findall(r"(\w+)=([\d.]+k?)", self.line("grows_and_shrinks")))
        self.assertEqual(exact["allocs_per_iter"], "4")

    def test_the_console_shows_the_window_s_counters(self):
        line = self.line("three_blocks_in_a_window")
        self.assertIn("allocs/iter=3 ", line + " ")
        self.assertIn("bytes/iter=192 ", line + " ")

    def test_a_program_s_own_call_has_them_in_json(self):
        b = json.loads(run("--benchmark_format=json", WITHOUT_REPORTER="1"))["benchmarks"]
        self.assertEqual({x["name"]: x["allocs_per_iter"] for x in b}["three_blocks_in_a_window"], 3)
        self.assertNotIn("max_bytes_used", self.line("three_blocks", WITHOUT_REPORTER="1"))

    def test_csv_is_csv(self):
        """Google Benchmark's own wants the same counters of each run in it."""
        said = run("--benchmark_format=csv", "--benchmark_filter=^(nothing|three_blocks)$")
        self.assertRegex(said, r'(?m)^name,iterations,.*\n"nothing",.*\n"three_blocks",')


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
