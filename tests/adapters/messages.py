# SPDX-License-Identifier: MIT
"""messages.py FAILING FAILING_CRITERION [FAILING_NAMED] - what failing assertions say, and how they end."""
import os
import signal
import subprocess
import sys
import unittest

FAILING, CRITERION = sys.argv[1:3]
NAMED = sys.argv[3] if len(sys.argv) > 3 else None


def run(program, *arguments, sample=None):
    """Without MOD_ALLOC_SAMPLE, as a test program is run, unless it is given."""
    environment = {name: value for name, value in os.environ.items() if name != "MOD_ALLOC_SAMPLE"}
    return subprocess.run([program, *arguments], env=environment | ({"MOD_ALLOC_SAMPLE": sample} if sample else {}),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)


class Messages(unittest.TestCase):
    def fails(self, case, *expected, program=FAILING, sample=None):
        done = run(program, case, sample=sample)
        self.assertEqual(done.returncode, -signal.SIGABRT, done.stderr)
        for text in expected:
            self.assertIn(text, done.stderr)
        return done.stderr

    def test_counts_and_call_sites(self):
        said = self.fails("1", "failing.c:", "5 allocations; wanted == 3", "4 allocations, ", "1 allocation, ",
                          "make_a_list (", "make_one_more (")
        self.assertEqual(said.count("allocations, "), 1, "what was allocated before the block is not shown:\n" + said)

    def test_call_sites_with_every_allocation_sampled_by_the_environment(self):
        self.fails("1", "make_a_list (", "make_one_more (", sample="1")

    def test_after_a_thousand_blocks_it_says_that_sites_are_no_longer_kept(self):
        said = self.fails("5", "1 allocations; wanted == 0", "first 1,000 blocks")
        self.assertNotIn("make_one_more", said)

    def test_growth(self):
        self.fails("2", "blocks or bytes of growth; wanted == 0", "growth 1 blocks", "make_one_more (")

    def test_peak(self):
        self.fails("3", "bytes at peak; wanted < 100")

    def test_a_block_left_by_return(self):
        self.fails("4", "1 allocations; wanted == 0")

    def test_without_samples_it_says_how_to_get_them(self):
        said = self.fails("1", "5 allocations; wanted == 3", "MOD_ALLOC_SAMPLE=1", sample="0")
        self.assertNotIn("make_a_list", said)

    @unittest.skipUnless(NAMED, "no report library")
    def test_with_the_report_library_lines_are_named(self):
        self.fails("1", "make_a_list (", "failing.c:2", "make_one_more (", program=NAMED)

    def test_criterion_reports_a_failed_test(self):
        done = run(CRITERION)
        said = done.stdout + done.stderr
        self.assertIn("says_why", said)
        self.assertIn("allocate_ten (", said, "the call site")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("1 allocations; wanted == 0", said)
        self.assertIn("Passing: 1", said)
        self.assertIn("Failing: 1", said)
        self.assertIn("Crashing: 0", said)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
