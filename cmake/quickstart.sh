#!/bin/sh
# SPDX-License-Identifier: MIT
#
# From a fresh clone to the first profile: installs what is missing, builds, runs python3 on mod-alloc.
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_missing $packages_build $packages_quickstart

CC=gcc CXX=g++ cmake -S . -B build/gcc -G Ninja -DBUILD_TESTING=OFF
cmake --build build/gcc
echo
# Python keeps small objects in a pool of its own unless it is told to use malloc.
set -- env PYTHONMALLOC=malloc build/gcc/bin/mod-alloc run --exact --frames 6 --top 3 -- python3 cmake/quickstart.py
echo "\$ $*"
exec "$@"
