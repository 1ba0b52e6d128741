#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""signals.py MOD_ALLOC PROGRAMS - a signal sent to `mod-alloc run` reaches the program once; ^C on a terminal
reaches it once, too, and mod-alloc lives on to write its report."""
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
    first = read_until(process.stdout.fileno(), b"ready\n", 10)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
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
        os.execv(command[0], command)
    text = read_until(terminal, b"ready", 10)
    for _ in range(KEYS):  # a signal sent on may melt into the terminal's own, but not each time
        os.write(terminal, key)
        text += read_until(terminal, b"got", 10)  # two at once would be one for the kernel
        time.sleep(0.01)
    text += read_until(terminal, b"resident", 30)
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

sys.exit(failed)
