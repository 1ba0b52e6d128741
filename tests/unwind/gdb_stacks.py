# SPDX-License-Identifier: MIT
#
# gdb_stacks.py LIBRARY LAYOUT EXPECT AT_LEAST PROGRAM [ARGUMENT...] - the stacks that are recorded of a program are
# those that gdb sees.
#
# The program runs under gdb, every allocation recorded. At some calls of malloc, calloc, realloc and operator new gdb
# walks the stack; when the call has returned, the block's header leads to its site, and the site's frames are compared
# with gdb's, one by one, up to the outermost. So all that lies between the call and what is recorded is compared: where
# the walk begins, the walk, what was remembered of an earlier one, the table of sites.
#
#   LAYOUT    gdb_layout, which says where in memory that is: nothing here needs debug information
#   EXPECT    equal: 99.9 % of the stacks are gdb's; differs: some are not, since rows are spoiled on the way
#   AT_LEAST  stacks that must have been compared
#
# The calls compared get rarer as the program goes on: of the first MODA_GDB_STACKS (default 60) of each function all,
# of the first n about 60 * (1 + ln(n / 60)), so that all of the run has its share. Inlined functions and tail calls,
# which gdb would make frames of where it has debug information, have no return address and are no frames here. Nor are
# addresses that are no code, which gdb's guess makes of what lies on the stack behind a function without a table
# (ld.so's _dl_start_user, from where libraries are initialized: gdb goes on to argc and argv). What has no tables at
# all (code made while running, by java or node) is left to the comparison with libunwind.
# Exit status: 0 as expected, 1 not, 77 where gdb or the program is not here, or nothing may be traced.
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

try:
    import gdb
except ImportError:
    gdb = None

FUNCTIONS = ["malloc", "calloc", "realloc", "_Znwm"]
LOCALS = ["moda_region_header_ptr", "moda_live_secret", "moda_rows"]
SKIPPED = 77
SPOILED_FROM = 100  # stacks


# ---- outside: starts gdb, judges what it counted ----


def skip(why):
    print("skipped:", why)
    sys.exit(SKIPPED)


def symbols(library):
    found = {}
    for line in subprocess.run(["nm", library], check=True, capture_output=True, text=True).stdout.splitlines():
        value, _, name = line.rpartition(" ")
        if name in FUNCTIONS + LOCALS:
            found[name] = int(value.split()[0], 16)
    return found


def run_gdb(library, layout, expect, command):
    fields = subprocess.run([layout], check=True, capture_output=True, text=True).stdout.split()
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "library": os.path.realpath(library),
            "layout": dict(zip(fields[0::2], map(int, fields[1::2]))),
            "symbols": symbols(library),
            "spoil": expect == "differs",
            "stacks": int(os.environ.get("MODA_GDB_STACKS", "60")),
            "result": os.path.join(folder, "result"),
        }
        if set(job["symbols"]) != set(FUNCTIONS + LOCALS):
            skip(f"{library} has no symbols")
        environment = dict(os.environ, MODA_GDB_JOB=json.dumps(job), SHELL="/bin/sh")
        words = ["gdb", "-nx", "-batch", "-x", os.path.realpath(__file__), "--args", *command]
        done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            with open(job["result"]) as file:
                return json.load(file)
        except OSError:
            print(done.stdout[-3000:])
            sys.exit(1)


def outside():
    library, layout, expect, at_least, *command = sys.argv[1:]
    if not shutil.which("gdb"):
        skip("gdb is not here")
    command[0] = shutil.which(command[0]) or skip(f"{command[0]} is not here")
    result = run_gdb(library, layout, expect, command)
    if result["untraceable"]:
        skip("gdb cannot run it: " + result["untraceable"])
    n = result["stacks"]
    print("{calls} calls, {stacks} stacks of {distinct} kinds compared, {frames} frames".format(**result))
    print("equal {equal}, not recorded {unrecorded}, different {different}".format(**result))
    for text in result["examples"]:
        print(text)
    if result["ended"] not in ("exited with status 0", "exited with status 1"):  # 1: git, where files differ
        print("the program did not reach its end:", result["ended"])
        sys.exit(1)
    if n < int(at_least):
        print(f"only {n} stacks, at least {at_least} wanted")
        sys.exit(1)
    if expect == "differs":
        sys.exit(0 if result["different"] * 1000 > n else 1)
    sys.exit(0 if result["equal"] * 1000 >= n * 999 else 1)


# ---- inside gdb ----


class Process:
    """The memory of the program, and what the library keeps there."""

    def __init__(self, job):
        self.at = job["layout"]
        self.inferior = gdb.selected_inferior()
        base, self.end = self.range_of(job["library"])
        self.base = base
        self.address = {name: base + value for name, value in job["symbols"].items()}

    def range_of(self, library):
        with open(f"/proc/{self.inferior.pid}/maps") as maps:
            parts = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(library)]
        return int(parts[0][0], 16), int(parts[-1][1], 16)

    def is_ours(self, address):
        return self.base <= address < self.end

    def read(self, address, form):
        return struct.unpack(form, self.inferior.read_memory(address, struct.calcsize(form)).tobytes())

    def word(self, address):
        return self.read(address, "<Q")[0]

    def code_only(self, frames):
        """The frames up to the first that is no code."""
        with open(f"/proc/{self.inferior.pid}/maps") as maps:
            fields = [line.split()[:2] for line in maps]
        code = [[int(end, 16) for end in f[0].split("-")] for f in fields if "x" in f[1]]
        wrong = (i for i, pc in enumerate(frames) if not any(low < pc <= high for low, high in code))
        return frames[: next(wrong, len(frames))]

    def site_of(self, block):
        """(frames, how the walk ended) of the site where a block is at home, or None."""
        at = self.at
        secret = self.word(self.address["moda_live_secret"])
        for form in ("small_header", "large_header"):  # src/live/header.h: the check is made of address and form
            header = block - at[form]
            proved = header + (8 if form == "small_header" else 0)
            if block != 0 and self.word(header) == ((proved ^ secret) * 0x9E3779B97F4A7C15) % (1 << 64) | 1:
                break
        else:
            return None
        ref = self.read(header + at["header_site"], "<I")[0]
        site = self.word(self.address["moda_region_header_ptr"]) + ref * at["ref_unit"]
        count = self.read(site + at["site_frame_count"], "<H")[0]
        end = self.read(site + at["site_walk_end"], "<B")[0]
        return list(self.read(site + at["site_frames"], f"<{count}Q")), end

    def spoil_rows(self):
        at = self.at
        table = self.word(self.address["moda_rows"] + at["rows_table"])
        used = 0
        for i in range(1 << self.read(table + at["table_bits"], "<I")[0] if table else 0):
            row_at = table + at["table_slots"] + i * at["slot_size"] + at["slot_row"]
            row = self.word(row_at)
            used += row != 0
            if row != 0 and used % 3 == 0:
                self.inferior.write_memory(row_at, struct.pack("<Q", (row + (1 << 40)) % (1 << 64)))


class Call(gdb.Breakpoint if gdb else object):
    """A function of the malloc family: where it is called, now and then."""

    def __init__(self, name, address, stacks):
        super().__init__(f"*{address:#x}", internal=True)
        self.silent = True
        self.name, self.stacks = name, stacks
        self.random = random.Random(name)

    def rest(self):
        """Until the next call that is compared."""
        self.ignore_count = self.random.randrange(2 * (self.hit_count // self.stacks) + 1)


def frames_of_gdb():
    """Return addresses, from the caller of the newest frame on."""
    frames = []
    frame = gdb.newest_frame()
    while frame is not None:
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            frames.append(frame.pc())
        frame = frame.older()
    return frames[1:]


def name_of(address):
    block = gdb.execute(f"info symbol {address - 1:#x}", to_string=True).strip()
    return block if not block.startswith("No symbol") else gdb.solib_name(address) or "?"


class Comparison:
    def __init__(self, process, job):
        self.process, self.job = process, job
        self.calls = [Call(name, process.address[name], job["stacks"]) for name in FUNCTIONS]
        self.result = {"stacks": 0, "frames": 0, "equal": 0, "unrecorded": 0, "different": 0, "examples": []}
        self.kinds = set()
        self.ended = "killed by a signal"
        gdb.events.exited.connect(self.note_exit)

    def note_exit(self, event):
        if hasattr(event, "exit_code"):
            self.ended = f"exited with status {event.exit_code}"

    def run(self):
        while True:
            gdb.execute("continue", to_string=True)
            thread = gdb.selected_thread()
            if thread is None or not thread.is_valid():
                return self.finish(self.ended)
            pc = gdb.newest_frame().pc()
            call = next((c for c in self.calls if self.process.address[c.name] == pc), None)
            if call is None:
                return self.finish(f"stopped at {pc:#x}, {name_of(pc)}")
            self.compare(call, thread)

    def finish(self, how):
        self.result.update(ended=how, calls=sum(c.hit_count for c in self.calls if c.is_valid()), distinct=len(self.kinds))
        return self.result

    def compare(self, call, thread):
        expected = frames_of_gdb()
        if any(map(self.process.is_ours, expected)):
            return  # what the library itself has libc allocate is nobody's
        for each in self.calls:
            each.enabled = False
        stack = int(gdb.parse_and_eval("(unsigned long)$rsp"))
        back = gdb.Breakpoint(f"*{self.process.word(stack):#x}", internal=True)
        back.silent, back.thread = True, thread.num
        back.condition = f"(unsigned long)$rsp == {stack + 8:#x}"
        gdb.execute("continue", to_string=True)
        back.delete()
        for each in self.calls:
            each.enabled = True
        call.rest()
        if gdb.selected_thread() is not None:
            self.judge(call.name, expected, self.process.site_of(int(gdb.parse_and_eval("(unsigned long)$rax"))))

    def judge(self, name, expected, site):
        r = self.result
        r["stacks"] += 1
        if self.job["spoil"] and r["stacks"] == SPOILED_FROM:
            self.process.spoil_rows()
        if site is None:
            r["unrecorded"] += 1
            self.note(f"{name}: not recorded", [], expected)
            return
        frames, end = site
        r["frames"] += len(frames)
        self.kinds.add(tuple(frames))
        if end == self.process.at["walk_cut"]:
            expected = expected[: len(frames)]
        if frames == expected or frames == self.process.code_only(expected):
            r["equal"] += 1
        else:
            r["different"] += 1
            self.note(f"{name}: different; ours ended by {end}", frames, expected)

    def note(self, text, ours, theirs):
        examples = self.result["examples"]
        if len(examples) < 3 and not self.job["spoil"]:
            lines = [f"  ours {a:#x} {name_of(a)}" for a in ours] + [f"  gdb  {a:#x} {name_of(a)}" for a in theirs]
            examples.append("\n".join([text, *lines]))


def start(job):
    """Runs the program up to where the library is mapped; why not, if it cannot be."""
    for setting in (
        "pagination off", "confirm off", "debuginfod enabled off", "stop-on-solib-events 1",
        "backtrace past-main on", "backtrace past-entry on", "backtrace limit unlimited", "auto-load safe-path /",
        "environment MOD_ALLOC_SAMPLE 1", "environment MOD_ALLOC_FRAMES 512", "environment PYTHONMALLOC malloc",
        f"exec-wrapper env LD_PRELOAD={job['library']}",
    ):  # fmt: skip
        try:
            gdb.execute("set " + setting, to_string=True)
        except gdb.error:
            pass  # a gdb without it
    gdb.execute("handle all nostop noprint pass", to_string=True)
    try:
        gdb.execute("run", to_string=True)
    except gdb.error as error:
        return str(error)
    while gdb.selected_inferior().pid != 0:
        if any(o.filename and os.path.realpath(o.filename) == job["library"] for o in gdb.objfiles()):
            gdb.execute("set stop-on-solib-events 0")
            return None
        gdb.execute("continue", to_string=True)
    return "it ended before the library was mapped"


def inside():
    job = json.loads(os.environ["MODA_GDB_JOB"])
    why = start(job)
    result = {"untraceable": why}
    if why is None:
        result.update(Comparison(Process(job), job).run())
    with open(job["result"], "w") as file:
        json.dump(result, file)


if gdb:
    inside()
else:
    outside()
