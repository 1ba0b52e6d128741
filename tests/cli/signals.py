#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""signals.py MOD_ALLOC PROGRAMS - a signal sent to `mod-alloc run` reaches the program once; ^C on a terminal
reaches it once, too, and mod-alloc lives on to write its report."""
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

mod_alloc, programs = sys.argv[1:3]
command = [mod_alloc, "run", programs + "/catcher"]
failed = False
KEYS = 20


def fail(text):
    global failed
    failed = True
    print("signals.py:", text, file=sys.stderr)


def read_until(fd, wanted, seconds):
    text = b""
    end = time.monotonic() + seconds
    while wanted not in text and time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                piece = os.read(fd, 4096)
            except OSError:
                break
            if not piece:
                break
            text += piece
    return text


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = read_until(process.stdout.fileno(), b"ready\n", 60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    out = first + out
    if out.count(b"got %02d" % number) != 1:
        fail("signal %d sent to mod-alloc: the program says %r" % (number, out))
    if process.returncode != 41:
        fail("signal %d: status %d, expected 41" % (number, process.returncode))
    if b"allocated" not in err or b"exit status 41" not in err:
        fail("signal %d: no report: %r" % (number, err))

for key, number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command + [str(KEYS)])
    text = read_until(terminal, b"ready", 60)
    for _ in range(KEYS):  # a signal sent on may melt into the terminal's own, but not each time
        os.write(terminal, key)
        text += read_until(terminal, b"got", 60)  # two at once would be one for the kernel
        time.sleep(0.01)
    text += read_until(terminal, b"resident", 60)
    status = os.waitpid(pid, 0)[1]
    if text.count(b"got %02d" % number) != KEYS:
        fail("key %r on the terminal: the program says %r" % (key, text))
    if os.waitstatus_to_exitcode(status) != 40 + KEYS or b"allocated" not in text:
        fail("key %r: status %d, %r" % (key, os.waitstatus_to_exitcode(status), text))
    os.close(terminal)

# Whoever reads the table may go before its end: the program's status and the files stay what they are.
with tempfile.TemporaryDirectory() as folder:
    for stream, options in (("stderr", ["--format", "folded", "--output", "sites.folded"]),
                            ("stdout", ["--quiet", "--format", "folded", "--output", "-", "--json", "sites.folded"])):
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run([mod_alloc, "run", "--exact", *options, programs + "/allocate", "keep", "1000", "64", "exit", "7"],
                               cwd=folder, **{stream: writer})
        os.close(writer)
        if ended.returncode != 7:
            fail(f"nobody reads {stream}: ended with {ended.returncode}, expected 7")
        if not os.path.exists(folder + "/sites.folded"):
            fail(f"nobody reads {stream}: the file is not written")
        else:
            os.unlink(folder + "/sites.folded")

# SIGPIPE of a pipe that nobody reads any more is an end as any: nothing is left that was not asked for. With a standard
# output that could be written to, it is not: some other pipe or socket, and the program did not expect it.
def run_in(folder, stdout, *command, ended_by=signal.SIGPIPE):
    ended = subprocess.run([mod_alloc, "run", *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout,
                           stderr=subprocess.PIPE, text=True, timeout=60)  # Popen gives SIGPIPE back its default
    if ended.returncode != -ended_by:
        fail(f"{command}: ended with {ended.returncode}, expected by signal {ended_by}")
    return ended.stderr, sorted(name for name in os.listdir(folder) if not name.startswith("core"))


dies = [programs + "/allocate", "keep", "100", "64", "signal", str(int(signal.SIGPIPE))]
with tempfile.TemporaryDirectory() as folder:
    reader, unread = os.pipe()
    os.close(reader)
    err, files = run_in(folder, unread, *dies)
    if "killed" in err or "kept" in err or "ended with its reader (SIGPIPE)" not in err or files != []:
        fail(f"nobody reads the program's output: it leaves {files} and says {err}")
    err, files = run_in(folder, unread, "--output", "x.prof", "--json", "x.json", *dies)
    if "killed" in err or "the profile is in x.prof" not in err or files != ["x.json", "x.prof"]:
        fail(f"nobody reads the program's output, --output: it leaves {files} and says {err}")
    with open(folder + "/x.json") as written:
        if json.load(written)["signal"] != signal.SIGPIPE:
            fail("nobody reads the program's output: the counters do not tell of SIGPIPE")
    err, files = run_in(folder, unread, "--quiet", "--output", "x.prof", *dies)
    if err != "":
        fail(f"nobody reads the program's output, --quiet: it says {err}")
    os.unlink(folder + "/x.prof")
    os.unlink(folder + "/x.json")
    err, files = run_in(folder, unread, *dies[:-1], str(int(signal.SIGABRT)), ended_by=signal.SIGABRT)
    if "killed by signal 6 (SIGABRT); the profile up to then is kept" not in err or len(files) != 1:
        fail(f"nobody reads, but another signal: it leaves {files} and says {err}")
    os.close(unread)
for stdout in (subprocess.DEVNULL, subprocess.PIPE):
    with tempfile.TemporaryDirectory() as folder:
        err, files = run_in(folder, stdout, *dies)
        if "killed by signal 13 (SIGPIPE); the profile up to then is kept" not in err or len(files) != 1:
            fail(f"SIGPIPE of another pipe: it leaves {files} and says {err}")
with tempfile.TemporaryDirectory() as folder:  # the pipeline itself
    yes = subprocess.Popen([mod_alloc, "run", "yes"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    read_until(yes.stdout.fileno(), b"y\n", 60)
    yes.stdout.close()
    err = yes.stderr.read()
    if yes.wait(60) != -signal.SIGPIPE or b"killed" in err or os.listdir(folder) != []:
        fail(f"yes | head: ended with {yes.returncode}, leaves {os.listdir(folder)} and says {err}")

sys.exit(failed)
