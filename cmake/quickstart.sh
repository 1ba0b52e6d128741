#!/bin/sh
# SPDX-License-Identifier: MIT
#
# From a fresh clone to the first profile: installs what is missing, builds, runs sqlite3 on mod-alloc.
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
# shellcheck disable=SC2086
install_missing $packages_build $packages_quickstart

cmake -S . -B build/gcc -G Ninja -DBUILD_TESTING=OFF -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++
cmake --build build/gcc
echo
echo '$ mod-alloc run -- sqlite3 :memory: ".read cmake/quickstart.sql"'
exec build/gcc/bin/mod-alloc run -- sqlite3 :memory: ".read cmake/quickstart.sql"
