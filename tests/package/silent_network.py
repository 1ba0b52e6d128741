#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""On a network that takes connections and never answers, the way to upstream gives up in seconds, saying why.

silent_network.py CMAKE SOURCE_DIR WORK
"""
import os
import socket
import subprocess
import sys
import time

cmake, source, work = sys.argv[1:]
os.makedirs(work, exist_ok=True)
script = os.path.join(work, "by_git.cmake")
with open(script, "w", encoding="utf-8") as file:
    file.write(f"""cmake_minimum_required(VERSION 3.25)
include("{source}/cmake/mimalloc_ways.cmake")
set(MODA_MIMALLOC_WORK "{work}/mimalloc")
mimalloc_by_git()
message("found '${{found}}' why '${{why}}'")
""")

listener = socket.create_server(("127.0.0.1", 0))  # connections wait in its queue; nobody answers
environment = dict(
    os.environ,
    GIT_CONFIG_COUNT="1",
    GIT_CONFIG_KEY_0="http.proxy",
    GIT_CONFIG_VALUE_0=f"http://127.0.0.1:{listener.getsockname()[1]}",
)
start = time.monotonic()
run = subprocess.run([cmake, "-P", script], env=environment, capture_output=True, text=True, check=True)
elapsed = time.monotonic() - start
print(f"{elapsed:.1f} s: {run.stderr.strip()}")
if "found ''" not in run.stderr or "timeout" not in run.stderr:
    sys.exit("it should have given up, and said that it was a timeout")
