# SPDX-License-Identifier: MIT
#
# processes.py LIBRARY ENDS MOD-ALLOC WORK - what becomes of the profile and of the counters' file as processes begin and
# end in each way: fork, exec, vfork, posix_spawn, daemon, clone, exit, _exit, quick_exit, abort, SIGKILL. No
# profile is lost, none is written by two processes, each is whole.
import json
import os
import shutil
import signal
import subprocess
import sys

library, ends, mod_alloc, work = sys.argv[1:5]
failures = 0
where = ""


def check(claim, *text):
    global failures
    if not claim:
        failures += 1
        print(f"{where}: not so:", *text)


def run(name, words, profile="prof", stats=None, sample="1", status=0):
    """Runs ENDS in a folder of its own; its profiles by name. A pipe is read to its end, so that a daemon has ended too."""
    global where
    where = name
    folder = os.path.join(work, name.replace(" ", "-"))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    environment = dict(os.environ, LD_PRELOAD=library, MOD_ALLOC_SAMPLE=sample)
    if profile:
        environment["MOD_ALLOC_PROFILE"] = profile
    if stats:
        environment["MOD_ALLOC_STATS"] = stats
    done = subprocess.Popen([ends, *words.split()], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate()
    if done.returncode == 77:
        print(name, "left out:", out.decode().strip())
        return None
    check(done.returncode == status, "status", done.returncode, "expected", status, err.decode())
    check(stats == "stderr" or not err, "stderr is", err.decode())
    found = {}
    for file in sorted(os.listdir(folder)):
        path = os.path.join(folder, file)
        if "prof" in file:
            report = subprocess.run([mod_alloc, "report", "--format", "json", path], capture_output=True)
            said = report.stderr.decode()
            check(report.returncode == 0 and (not said or "no call sites" in said), file, "reads as", said)
            if report.returncode == 0:
                whole = json.loads(report.stdout)
                found[file] = process = whole["processes"][0]
                process["sites_live"] = whole["site_totals"]["live_count"]
        else:
            with open(path, encoding="utf-8") as text:
                found[file] = text.read()
    found["pid"] = done.pid
    found["stderr"] = err.decode()
    return found


def kept(process):
    """Blocks kept, of those of 1000 bytes: what a program of these words has besides is less than 100."""
    live = process["totals"]["live_count"]
    check(live % 1000 < 100, "live blocks", live)
    check(process["sample_bytes"] != 1 or process["sites_live"] == live, "sites have", process["sites_live"], "live blocks of", live)
    return live // 1000


def names(found):
    return sorted(name for name in found if name not in ("pid", "stderr"))


def ends_of(process):
    return process["exited_cleanly"], process["exit_status"]


# ---- the ways to end ----

for way, status, is_clean in (
    ("exit 0", 0, True),
    ("exit 7", 7, True),
    ("quick_exit 5", 5, True),
    ("_exit 4", 4, False),
    ("abort", -signal.SIGABRT, False),
    ("kill", -signal.SIGKILL, False),
    ("", 0, True),
):
    found = run("end by " + (way or "return"), "keep 3000 " + way, stats="stats.json", status=status)
    check("prof" in found, names(found))
    check(kept(found["prof"]) == 3, found["prof"]["totals"])
    check(found["prof"]["exited_cleanly"] == is_clean, ends_of(found["prof"]))
    check(("stats.json" in found) == is_clean, "stats.json:", names(found))
    if is_clean and not way.startswith("quick"):
        check(found["prof"]["exit_status"] == status, ends_of(found["prof"]))
    if "stats.json" in found:
        check(json.loads(found["stats.json"])["live_count"] // 1000 == 3, found["stats.json"])

# ---- exec: one process, several programs ----

for pattern in ("prof", "%p.prof", "%e.prof", "%p.%n.prof"):
    found = run("exec " + pattern.replace("%", ""), "keep 1000 exec keep 2000 exec keep 3000 exit 6", profile=pattern,
                stats="stats.json", status=6)
    last = pattern.replace("%p", str(found["pid"])).replace("%e", os.path.basename(ends)).replace("%n", "0")
    check(names(found) == sorted([last, last + ".exec1", last + ".exec2", "stats.json"]), names(found))
    check([kept(found[last + end]) for end in (".exec1", ".exec2", "")] == [1, 2, 3], "not in order")
    check([found[last + end]["exited_cleanly"] for end in (".exec1", ".exec2", "")] == [False, False, True], "marks")
    check(len({found[last + end]["pid"] for end in (".exec1", ".exec2", "")}) == 1, "pids")
    check(json.loads(found["stats.json"])["live_count"] // 1000 == 3, "the counters' file is the last program's")

found = run("exec at once", "exec exec exec keep 1000", profile="%p-%t.prof")
check(len(names(found)) == 4, "four programs within a second:", names(found))

# the same again over what the last time has left: nothing piles up
for _ in range(2):
    again = os.path.join(work, "again")
    os.makedirs(again, exist_ok=True)
    subprocess.run([ends, "exec", "keep", "1000"], cwd=again, check=True,
                   env=dict(os.environ, LD_PRELOAD=library, MOD_ALLOC_PROFILE="prof"))
    check(sorted(os.listdir(again)) == ["prof", "prof.exec1"], os.listdir(again))

# ---- fork ----

found = run("fork plain", "keep 1000 fork keep 1000 end keep 2000", stats="stats.json")
of_child = [name for name in names(found) if name.startswith("prof.")]
check(len(of_child) == 1 and names(found)[0] == "prof" and len(names(found)) == 4, names(found))
child = found[of_child[0]]
check(of_child[0] == f"prof.{child['pid']}" and child["parent_pid"] == found["pid"], child["pid"])
check(kept(found["prof"]) == 3 and kept(child) == 2, "blocks of parent and child")
check(child["is_forked"] and not found["prof"]["is_forked"], "which was forked")
check(child["exited_cleanly"] and found["prof"]["exited_cleanly"], "both have ended in good order")
check(json.loads(found["stats.json"])["pid"] == found["pid"], "the counters' file is the parent's")
check(json.loads(found[f"stats.json.{child['pid']}"])["pid"] == child["pid"], "the child has one of its own")

# two children of one parent have the same number of forks
found = run("fork two", "fork keep 1000 end fork keep 2000 end", profile="prof.%n")
check(names(found)[1] == "prof.1", names(found))
check(len(names(found)) == 3 and sorted(kept(found[name]) for name in names(found)) == [0, 1, 2], names(found))

found = run("fork and exec", "keep 1000 fork keep 1000 exec keep 5000 end keep 1000", profile="%p.prof")
parent = f"{found['pid']}.prof"
other = [name for name in names(found) if not name.startswith(parent)]
check(len(other) == 2 and other[1] == other[0] + ".exec1", names(found))
check(kept(found[parent]) == 2 and kept(found[other[0]]) == 5 and kept(found[other[1]]) == 2, "blocks")

# the parent runs on: its file is not taken from it, whatever its child becomes
found = run("fork and exec plain", "keep 1000 fork exec keep 5000 end keep 1000")
check(kept(found["prof"]) == 2 and found["prof"]["pid"] == found["pid"], "the parent's")
check(sorted(kept(found[name]) for name in names(found)) == [1, 2, 5], names(found))

for how in ("vfork", "spawn"):
    found = run(how, f"keep 1000 {how} keep 5000 exit 0 end keep 1000")
    check(names(found)[0] == "prof" and len(names(found)) == 2, names(found))
    check(kept(found["prof"]) == 2 and kept(found[names(found)[1]]) == 5, "blocks")
    check(found["prof"]["pid"] == found["pid"], "the parent's stays its own")

found = run("daemon", "keep 1000 daemon keep 2000", stats="stats.json")
check(len(names(found)) == 3, names(found))
daemon = found[names(found)[1]]
check(kept(found["prof"]) == 1 and not found["prof"]["exited_cleanly"], "what was there ended by _exit")
check(kept(daemon) == 3 and daemon["exited_cleanly"] and daemon["pid"] != found["pid"], "the daemon")
check(names(found)[2] == f"stats.json.{daemon['pid']}", "counters are written by the one that exits")

# ---- children that run no handlers ----

for how in ("clone", "_Fork"):
    for sample in ("1", "0"):
        found = run(f"{how} {sample}", f"keep 1000 {how} keep 5000 end keep 1000", sample=sample, stats="stats.json")
        if not found:
            continue
        profiles = [name for name in names(found) if name.startswith("prof")]
        check(len(profiles) == 2, names(found))
        live = [found[name]["totals"]["live_count"] for name in profiles]
        # with no sample due a child is noticed after 192 KiB: so much can be counted as its parent's
        slack = 100 if sample == "1" else 100 + 192 * 1024 // 1000
        check(2000 <= live[0] < 2000 + slack, "the parent's blocks", live)
        check(6000 <= live[1] < 6000 + 100, "the child's blocks", live)
        check(found["prof"]["exited_cleanly"] and found["prof"]["pid"] == found["pid"], "the parent's end")

found = run("clone that does nothing", "keep 1000 clone end exit 3", status=3)
check(found["prof"]["pid"] == found["pid"] and ends_of(found["prof"]) == (True, 3), ends_of(found["prof"]))

# a child whose parent the system names another, as that of a parent that has ended: what it inherited is not its own
found = run("cousin", "keep 1000 cousin keep 5000 end")
cousin = [found[name] for name in names(found) if name != "prof"]
check(len(cousin) == 1 and cousin[0]["parent_pid"] == found["pid"], names(found), [process["parent_pid"] for process in cousin])
folder = os.path.join(work, "cousin")
merged = subprocess.run([mod_alloc, "merge", "--format", "json", "-o", "-", *names(found)], cwd=folder, capture_output=True)
check(json.loads(merged.stdout)["totals"]["live_count"] // 1000 == 6, "blocks of both", merged.stdout[:1000], merged.stderr)

# ---- processes of several containers, whose numbers mean nothing to each other, and one file name ----

where = "containers"
folder = os.path.join(work, where)
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
environment = dict(os.environ, LD_PRELOAD=library, MOD_ALLOC_SAMPLE="1", MOD_ALLOC_PROFILE="prof")
elsewhere = (0x7ffffffe).to_bytes(4, sys.byteorder)


def is_of_another():
    with open(os.path.join(folder, "prof"), "rb") as file:
        return elsewhere in file.read(1024)


def begin_elsewhere():
    """A process that waits for the end of its input, and whose profile tells a number that no process has here."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()"], cwd=folder,
                               env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "r+b") as file:
            head = file.read(1024)
            file.seek(0)
            file.write(head.replace(process.pid.to_bytes(4, sys.byteorder), elsewhere))
    return process


def end(process):
    process.stdin.close()
    process.wait()


first = begin_elsewhere()
second = begin_elsewhere()
third = subprocess.Popen([ends, "keep", "1000"], cwd=folder, env=environment)
third.wait()
check(is_of_another(), "the file of one that runs elsewhere was taken")
check(sorted(os.listdir(folder)) == ["prof", f"prof.{second.pid}", f"prof.{third.pid}"], os.listdir(folder))
end(second)
end(first)
subprocess.run([ends, "keep", "1000"], cwd=folder, env=environment, check=True)
check(not is_of_another(), "the file of one that has ended stays in the way")

# ---- the table on stderr ----

found = run("stderr", "keep 1000", stats="stderr", profile=None)
check("allocated" in found["stderr"], found["stderr"])
found = run("stderr closed", "keep 1000 close keep 1000", stats="stderr", profile=None)
check(found["other"] == "", "a file of the program's was written to:", found["other"])

sys.exit(failures != 0)
