# SPDX-License-Identifier: MIT
#
# opened_by_python.py LIBRARY - ctypes opens the library: not where another malloc serves already, and where mod-alloc
# does, its calls work.
import ctypes
import os
import subprocess
import sys

library = sys.argv[1]
modes = (ctypes.DEFAULT_MODE, ctypes.RTLD_GLOBAL, os.RTLD_LAZY, os.RTLD_NOW | os.RTLD_DEEPBIND)

if len(sys.argv) == 2:
    for mode in modes:
        try:
            ctypes.CDLL(library, mode=mode)
        except OSError as error:
            assert "libmod_alloc.so" in str(error) and "dlopen" in str(error), error
        else:
            sys.exit(f"mode {mode}: ctypes opened {library}")
    environment = dict(os.environ, LD_PRELOAD=library)
    sys.exit(subprocess.run([sys.executable, *sys.argv, "preloaded"], env=environment).returncode)

for mode in modes:
    mod_alloc = ctypes.CDLL(library, mode=mode)
    assert mod_alloc.mod_alloc_is_active() == 1, mode
stats = (ctypes.c_uint64 * 16)()
mod_alloc.mod_alloc_snapshot(stats)
before = stats[0]
block = ctypes.create_string_buffer(100_000)
mod_alloc.mod_alloc_snapshot(stats)
assert stats[0] > before and stats[3] > 100_000, list(stats)
