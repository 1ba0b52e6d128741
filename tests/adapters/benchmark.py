# SPDX-License-Identifier: MIT
"""benchmark.py PROGRAM - Google Benchmark's output with mod-alloc's figures: those known in advance, exactly."""
import json
import subprocess
import sys
import unittest

PROGRAM = sys.argv[1]


def run(*arguments):
    done = subprocess.run([PROGRAM, "--benchmark_min_time=0.01", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=300)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


class Benchmark(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.figures = {b["name"].split("/")[0]: b for b in json.loads(run("--benchmark_format=json"))["benchmarks"]}

    def test_without_a_window_it_is_the_loop_and_what_the_library_itself_allocates(self):
        """A memory run is of at most 16 turns; the library's own share is what a benchmark of nothing shows."""
        own = self.figures["nothing"]["allocs_per_iter"]
        self.assertLess(own, 1)
        self.assertEqual(self.figures["three_blocks"]["allocs_per_iter"] - own, 3)
        turns = 16
        self.assertEqual(self.figures["three_blocks"]["total_allocated_bytes"]
                         - self.figures["nothing"]["total_allocated_bytes"], turns * 3 * 64)
        self.assertEqual(self.figures["nothing"]["net_heap_growth"], 0)

    def test_a_window_holds_the_loop_alone(self):
        b = self.figures["three_blocks_in_a_window"]
        self.assertEqual(b["allocs_per_iter"], 3)
        self.assertEqual(b["total_allocated_bytes"], 16 * 3 * 64)
        self.assertEqual(b["max_bytes_used"], 64)
        self.assertEqual(b["allocs/iter"], 3)
        self.assertEqual(b["bytes/iter"], 3 * 64)
        self.assertEqual(b["peak_bytes"], 64)

    def test_growth(self):
        b = self.figures["one_is_kept"]
        self.assertEqual(b["net_heap_growth"], 256)
        self.assertEqual(b["net_bytes"], 256)

    def test_the_console_shows_the_counters(self):
        line = next(l for l in run("--benchmark_filter=in_a_window").splitlines() if "three_blocks_in_a_window" in l)
        self.assertIn("allocs/iter=3", line)
        self.assertIn("bytes/iter=192", line)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
