#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""top.py MOD_ALLOC PROGRAMS LIBRARY - `top` on a running program: the screen shows its sites, keys order them,
q gives the terminal back; plain lines otherwise; both for a profile in a file and for one in the program's
memory alone."""
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time

mod_alloc, programs, library = sys.argv[1:4]
failed = False


def fail(text):
    global failed
    failed = True
    print("top.py:", text, file=sys.stderr)


def start(profile):
    environment = dict(os.environ, LD_PRELOAD=library, MOD_ALLOC_SAMPLE="4096")
    environment.pop("MOD_ALLOC_PROFILE", None)
    if profile:
        environment["MOD_ALLOC_PROFILE"] = profile
    process = subprocess.Popen([programs + "/allocate", "loop", "1000"], env=environment, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def read_until(terminal, *wanted):
    """All that is wanted, or a minute, or the end."""
    text = b""
    end = time.monotonic() + 60
    while time.monotonic() < end and not (wanted and all(one in text for one in wanted)):
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
    return text


def on_a_screen(operand):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(mod_alloc, [mod_alloc, "top", "--interval", "0.2", str(operand)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    screen = read_until(terminal, b"keep_blocks", b"allocations/s")
    if b"\x1b[?1049h" not in screen or b"keep_blocks" not in screen or b"allocations/s" not in screen:
        fail("the screen of top %s: %r" % (operand, screen))
    os.write(terminal, b"r")
    if b"order by \x1b[1mrate" not in read_until(terminal, b"order by \x1b[1mrate"):
        fail("key r does not order by rate")
    for row in re.split(rb"\r\n|\x1b\[H", screen)[:-1]:  # the last may be a part
        shown = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", row).decode("utf-8", "replace")
        if len(shown) > 100:
            fail("a row of the screen has %d columns: %r" % (len(shown), shown))
    os.write(terminal, b"q")
    end = read_until(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0 or b"\x1b[?1049l" not in end:
        fail("q: status %d, %r" % (status, end))
    os.close(terminal)


def in_plain_lines(operand):
    result = subprocess.run([mod_alloc, "top", "--interval", "0.2", "--looks", "3", "--top", "2", str(operand)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    lines = result.stdout.decode().splitlines()
    if result.returncode != 0 or b"\x1b" in result.stdout or "allocate (pid" not in lines[0]:
        fail("plain lines: status %d, %r %r" % (result.returncode, result.stdout, result.stderr))
    looks = [line for line in lines if re.match(r" *\d\S* (s|ms|min) ", line)]
    if len(looks) != 3 or "keep_blocks" not in result.stdout.decode():
        fail("plain lines: %d looks: %r" % (len(looks), lines))
    if not any(re.search(r"[1-9]\S* [KM]iB/s", look) for look in looks[1:]):
        fail("no rate in %r" % looks[1:])


with tempfile.TemporaryDirectory() as folder:
    for profile in (None, folder + "/live.prof"):
        program = start(profile)
        try:
            on_a_screen(program.pid)
            in_plain_lines(program.pid)
            if profile:
                in_plain_lines(profile)
            out = subprocess.run([mod_alloc, "stat", str(program.pid)], stdout=subprocess.PIPE).stdout
            if b"running" not in out:
                fail("stat of a running program: %r" % out)
            out = subprocess.run([mod_alloc, "report", "--format", "json", str(program.pid)], stdout=subprocess.PIPE).stdout
            process = json.loads(out)["processes"][0]
            with open("/proc/%d/status" % program.pid) as status:
                highest = int(re.search(r"VmHWM:\s*(\d+)", status.read())[1]) * 1024
            # it grows meanwhile, and the system adds up what its cores have counted now and then
            if not 1 << 20 <= process["resident_bytes"] <= highest + (4 << 20):
                fail("%d bytes are resident, at most %d were" % (process["resident_bytes"], highest))
        finally:
            program.kill()
            program.wait()
    # one that waits, and notes no time, is as old as it is
    environment = dict(os.environ, LD_PRELOAD=library, MOD_ALLOC_SAMPLE="1")
    program = subprocess.Popen([programs + "/allocate", "keep", "1", "8", "say", "ready", "sleep", "1000"], env=environment,
                               stdout=subprocess.PIPE)
    program.stdout.readline()
    begin = time.monotonic()
    time.sleep(1)
    out = subprocess.run([mod_alloc, "report", "--format", "json", str(program.pid)], stdout=subprocess.PIPE).stdout
    age = json.loads(out)["processes"][0]["duration_ns"]
    if age < 1000000000:
        fail("a program that has waited %.3f s is %d ns old" % (time.monotonic() - begin, age))
    program.kill()
    program.wait()
    # ends with the program
    program = start(None)
    top = subprocess.Popen([mod_alloc, "top", "--interval", "0.1", str(program.pid)], stdout=subprocess.PIPE)
    top.stdout.readline()
    program.kill()
    program.wait()
    if top.wait(timeout=60) != 0:
        fail("top of a program that ended: status %d" % top.returncode)

sys.exit(failed)
