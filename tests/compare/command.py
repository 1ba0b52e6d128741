# SPDX-License-Identifier: MIT
"""command.py COMPARE LIBMOD_ALLOC LIBMIMALLOC_PLAIN VICTIM - `mod-alloc compare` on commands whose answer is
known: counts, limits, failures, files and exit status. No time is judged here."""
import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

COMPARE, LIBRARY, PLAIN, VICTIM = (os.path.abspath(path) for path in sys.argv[1:5])


def compare(*arguments, pairs=2):
    environment = dict(os.environ, MOD_ALLOC_LIBRARY=LIBRARY, MOD_ALLOC_PLAIN=PLAIN)
    return subprocess.run([COMPARE, "--pairs", str(pairs)] + list(arguments), env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)


def as_json(*arguments, **keywords):
    done = compare("--quiet", "--json", "-", *arguments, **keywords)
    return done, json.loads(done.stdout)


def counted(result, variant):
    return {line["metric"]: int(line["value"]) for line in result["counted"] if line["variant"] == variant}


class Compare(unittest.TestCase):
    def test_counts_are_exact_and_come_first(self):
        done, result = as_json(f"{VICTIM} allocate 1000 64", f"{VICTIM} allocate 3000 64")
        self.assertEqual(done.returncode, 0, done.stderr)
        a, b = counted(result, "A"), counted(result, "B")
        self.assertEqual(b["allocations"] - a["allocations"], 2000)
        self.assertEqual(b["frees"] - a["frees"], 2000)
        self.assertEqual(b["total"] - a["total"], 2000 * 64)
        self.assertEqual(b["requested"] - a["requested"], 2000 * 64)
        for same in ("live", "live-blocks", "peak"):
            self.assertEqual(a[same], b[same], same)
        text = compare(f"{VICTIM} allocate 1000 64", f"{VICTIM} allocate 3000 64").stdout
        self.assertLess(text.index("counted"), text.index("measured"))

    def test_counts_are_the_same_in_every_mode(self):
        _, result = as_json("--allocators", "plain,counters,sampled,exact", f"{VICTIM} allocate 5000 1000")
        counters = counted(result, "counters")
        self.assertGreaterEqual(counters["allocations"], 5000)
        self.assertEqual(counters, counted(result, "sampled"))
        self.assertEqual(counters, counted(result, "exact"))
        self.assertEqual(counted(result, "plain"), {})
        self.assertEqual({l["verdict"] for l in result["counted"] if l["variant"] == "exact"}, {"equal"})

    def test_a_limit_on_a_count_is_a_gate(self):
        commands = [f"{VICTIM} allocate 1000 64", f"{VICTIM} allocate 100000 64"]
        broken = compare("--limit", "allocations<=1.02", *commands)
        self.assertEqual(broken.returncode, 1)
        self.assertIn("allocations<=1.02", broken.stderr)
        for kept in ("allocations>=2", "live==1", "live<1.1", "live-blocks>0.9", "user+sys<=1000"):
            done = compare("--limit", kept, *commands)
            self.assertEqual(done.returncode, 0, kept + done.stderr)
        for tripped in ("live<1", "live>1", "allocations==1"):
            self.assertEqual(compare("--limit", tripped, *commands).returncode, 1, tripped)
        one_of_two = compare("--limit", "live==1", "--limit", "total<=1", *commands)
        self.assertEqual(one_of_two.returncode, 1)

    def test_a_limit_that_cannot_be_checked_is_trouble(self):
        done = compare("--allocators", "system", "--limit", "allocations<=1", f"{VICTIM} say a", f"{VICTIM} say a")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be checked", done.stderr)

    def test_a_command_that_fails_is_reported_and_not_averaged(self):
        done, result = as_json(f"{VICTIM} say a", f"{VICTIM} fail 3", f"{VICTIM} die", "/no/such/program")
        self.assertEqual(done.returncode, 1)
        self.assertIn("exit status 3: victim says no", done.stderr)
        self.assertIn("signal 6", done.stderr)
        self.assertIn("exit status 127", done.stderr)
        self.assertEqual({line["variant"] for line in result["measured"]}, {"A"})

    def test_a_pair_with_a_failed_half_is_left_out(self):
        with tempfile.TemporaryDirectory() as directory:
            done, result = as_json("--allocators", "system", "--skip-noise", "--warm-up", "1", f"{VICTIM} say a",
                                   f"{VICTIM} sometimes {directory}/runs", pairs=12)
        self.assertEqual(done.returncode, 1)
        self.assertIn("3 of 12 pairs of B are left out", done.stderr)
        pairs = {line["pairs"] for line in result["measured"] if line["metric"] == "user+sys"}
        self.assertEqual(pairs, {9})

    def test_output_that_differs_is_reported(self):
        done, _ = as_json("--check-output", f"{VICTIM} say a", f"{VICTIM} say a", f"{VICTIM} say b")
        self.assertEqual(done.returncode, 1)
        self.assertIn("C is not measured: its standard output differs", done.stderr)
        self.assertNotIn("B is not measured", done.stderr)
        done, _ = as_json("--check-output", f"{VICTIM} unlike")
        self.assertEqual(done.returncode, 1)
        done, _ = as_json(f"{VICTIM} say a", f"{VICTIM} say b")
        self.assertEqual(done.returncode, 0, "without --check-output nobody looks")

    def test_misuse_is_status_2(self):
        command = f"{VICTIM} say a"
        for arguments in ([], [command, "--limit", "user+sys"], [command, "--limit", "weight<=1"],
                          [command, "--limit", "rss=<1"], [command, "--allocators", "/no/such.so"],
                          [command, "--until", "0"], [command, "--pairs", "0"], [command, "--nonsense"],
                          [command, "--skip-noise"], [""], [command, "--core", "1023"],
                          [command, "--allocator", "system@X"], [command, "--json", "/no/such/dir/x"]):
            done = compare(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertRegex(done.stderr, r"^mod-alloc compare: ")

    def test_variables_reach_the_command(self):
        done, _ = as_json("--check-output", "--allocator", "system@GREETING=a", "--allocator", "system@GREETING=b",
                          'echo "$GREETING"')
        self.assertIn("system@GREETING=b is not measured: its standard output differs", done.stderr)

    def test_every_file_is_written_and_can_be_read(self):
        with tempfile.TemporaryDirectory() as directory:
            path = {kind: f"{directory}/out.{kind}" for kind in ("json", "csv", "md", "svg")}
            done = compare("--json", path["json"], "--csv", path["csv"], "--markdown", path["md"],
                           "--plot", path["svg"], "--name", "<old> & \"good\"", "--name", "new",
                           f"{VICTIM} allocate 10 10", f"{VICTIM} allocate 20 10", pairs=8)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path["json"]) as file:
                result = json.load(file)
            with open(path["csv"], newline="") as file:
                rows = list(csv.DictReader(file))
            with open(path["md"]) as file:
                markdown = [line for line in file if line.startswith("| ")]
            svg = xml.etree.ElementTree.parse(path["svg"]).getroot()
        self.assertEqual(len(rows), len(result["counted"]) + len(result["measured"]))
        for line in result["measured"]:
            self.assertEqual(len(line["ratios"]), line["pairs"])
            self.assertLessEqual(line["low"], line["ratio"])
            self.assertLessEqual(line["ratio"], line["high"])
        self.assertEqual({row["variant"] for row in rows}, {'<old> & "good"', "new"})
        self.assertEqual({line.count("|") for line in markdown}, {7})
        dots = [e for e in svg.iter() if e.tag.endswith("circle")]
        self.assertEqual(len(dots), 16, "a dot for each pair of two rows")

    def test_in_turns_wall_time_is_shown(self):
        self.assertIn("wall time", compare("--turns", f"{VICTIM} say a", f"{VICTIM} say b").stdout)
        self.assertNotIn("wall time", compare(f"{VICTIM} say a", f"{VICTIM} say b").stdout)

    def test_in_turns_each_run_is_alone(self):
        with tempfile.TemporaryDirectory() as directory:
            alone = f"{VICTIM} alone {directory}/here"
            done, result = as_json("--turns", "--allocators", "system", alone, alone, pairs=8)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(result["order"], "in turns")
            together, _ = as_json("--allocators", "system", alone, alone, pairs=8)
        self.assertEqual(together.returncode, 1, "at the same moment they meet")

    def test_both_of_a_pair_run_on_one_core(self):
        where = "grep Cpus_allowed_list /proc/self/status"
        core = str(min(os.sched_getaffinity(0)))
        with tempfile.TemporaryDirectory() as directory:
            compare("--allocators", "system", "--core", core, f"{where} >>{directory}/a", f"{where} >>{directory}/a")
            with open(f"{directory}/a") as file:
                self.assertEqual({re.sub(r"\s+", "", line) for line in file}, {f"Cpus_allowed_list:{core}"})

    def test_time_is_kept(self):
        done, result = as_json("--time", "1", "--allocators", "system", "sleep 0.2", pairs=1000)
        self.assertEqual(done.returncode, 0)
        self.assertLess(result["elapsed_seconds"], 60, "a thousand pairs take 200 s at least")

    def test_until_goes_on_until_the_interval_is_narrow(self):
        _, wide = as_json("--until", "90%", "--allocators", "system", f"{VICTIM} say a", pairs=1)
        pairs = next(l["pairs"] for l in wide["measured"] if l["metric"] == "user+sys")
        self.assertGreaterEqual(pairs, 6, "below 6 pairs nothing is known")
        self.assertLessEqual(wide["half_width"], wide["until"])

    def test_until_the_time_is_up_is_said(self):
        done = compare("--until", "0.000001", "--time", "1", "--allocators", "system", f"{VICTIM} say a", pairs=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"known to \+- [0-9.]+ %, \+- 0\.00 % was asked for: not reached in the time")

    def test_output_that_differs_now_and_then_is_left_out(self):
        with tempfile.TemporaryDirectory() as directory:
            done, result = as_json("--check-output", "--allocators", "system", "--skip-noise", "--warm-up", "1",
                                   f"{VICTIM} say yes", f"{VICTIM} moody {directory}/runs", pairs=12)
        self.assertEqual(done.returncode, 1)
        self.assertIn("3 of 12 pairs of B are left out; the last of them: B: standard output differs", done.stderr)
        self.assertEqual({l["pairs"] for l in result["measured"] if l["metric"] == "user+sys"}, {9})

    def test_mallocs_by_name_and_by_path(self):
        done, result = as_json("--allocators", f"plain,system,{LIBRARY}", "--allocator", f"{PLAIN}@X=1", f"{VICTIM} say a")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([v["name"] for v in result["variants"]],
                         ["plain", "system", os.path.basename(LIBRARY), f"{PLAIN}@X=1"])
        self.assertEqual([v["preload"] and os.path.realpath(v["preload"]) for v in result["variants"]],
                         [os.path.realpath(p) if p else None for p in (PLAIN, None, LIBRARY, PLAIN)])
        self.assertEqual({l["variant"] for l in result["counted"]}, {os.path.basename(LIBRARY)})

    def test_counts_can_be_left_out(self):
        done, result = as_json("--skip-counts", f"{VICTIM} say a", f"{VICTIM} say b")
        self.assertEqual((done.returncode, result["counted"]), (0, []), done.stderr)

    def test_a_limit_on_what_is_measured_is_a_gate(self):
        commands = ["--allocators", "system", f"{VICTIM} say a", f"{VICTIM} allocate 1 100000000"]
        self.assertEqual(compare("--limit", "rss<=1000", *commands).returncode, 0)
        done = compare("--limit", "rss<0.001", *commands)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"B: the ratio is [0-9.]+, the limit is rss<0.001")

    def test_instructions_are_compared(self):
        """By the machine's counter where it has one for us, else by Valgrind: 100,000 more of a known loop."""
        a, b = f"{VICTIM} allocate 1000 64", f"{VICTIM} allocate 101000 64"
        done, result = as_json("--allocators", "system", "--count-instructions", "--limit", "instructions<=1.5", a, b)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("the limit is instructions<=1.5", done.stderr)
        lines = [l for l in result["counted"] + result["measured"] if l["metric"] == "instructions" and l["variant"] == "B"]
        self.assertEqual(len(lines), 1)
        self.assertGreater(lines[0]["value"] - lines[0]["base"], 100000 * 20)
        self.assertEqual(lines[0]["verdict"], "more" if lines[0] in result["counted"] else lines[0]["verdict"])
        _, same = as_json("--allocators", "plain", "--count-instructions", a, a)
        for line in same["counted"]:
            self.assertIn(line["verdict"], ("", "equal", "no difference shown"))

    def on_a_terminal(self, *arguments, pairs, until_seen=None):
        """Runs compare with its standard error on a terminal of its own; returns what was drawn there, the status, and
        standard output. Sends SIGINT once `until_seen` was drawn."""
        terminal, end = pty.openpty()
        process = subprocess.Popen([COMPARE, "--pairs", str(pairs), "--allocators", "system", *arguments], stderr=end,
                                   stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        os.close(end)
        drawn = ""
        while True:
            try:
                got = os.read(terminal, 4096).decode()
            except OSError: # EIO: the other end is closed
                break
            drawn += got
            if not got:
                break
            if until_seen and until_seen in drawn:
                process.send_signal(signal.SIGINT)
                until_seen = None
        os.close(terminal)
        output = process.communicate(timeout=120)[0]
        return drawn, process.returncode, output

    def test_a_bar_is_drawn_on_a_terminal(self):
        drawn, status, _ = self.on_a_terminal(f"{VICTIM} say a", f"{VICTIM} say b", pairs=12)
        self.assertEqual(status, 0)
        frames = drawn.split("\r\033[K")
        self.assertRegex(frames[1], r"^\[#*\.*\] 1 pairs")
        self.assertRegex(frames[12], r"^\[#{24}\] 12 pairs  user\+sys [0-9.]+ \+- [0-9.]+ %  0:00 left$")
        self.assertEqual(frames[13:], [""], "at the end the line is wiped")
        left = [re.search(r"(\d+):(\d\d) left", frame) for frame in frames[2:13]]
        self.assertTrue(all(left), "the time left is told from the second pair on")

    def test_stopped_by_the_user_it_shows_what_is_there(self):
        drawn, status, output = self.on_a_terminal(f"{VICTIM} say a", f"{VICTIM} say b", pairs=100000,
                                                   until_seen="] 8 pairs")
        self.assertEqual(status, 1)
        self.assertIn("stopped before it was done", output)
        self.assertIn("user+sys time", output)

    def test_no_bar_is_drawn_where_no_one_looks(self):
        self.assertEqual(compare(f"{VICTIM} say a", f"{VICTIM} say b").stderr, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
