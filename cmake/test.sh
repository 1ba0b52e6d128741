#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds and runs all tests, as released. With arguments: the named stages instead.
#
#   gcc      all tests, as released
#   asserts  all tests, with every law checked while running (MOD_ALLOC_ASSERTS=full)
#   clang    all tests, warnings of both compilers being errors
#   asan     rooms and report under AddressSanitizer and UndefinedBehaviorSanitizer
#   aarch64  rooms and small programs, cross-compiled, run by qemu-user
#
# MOD_ALLOC_MIMALLOC_DIR=folder takes mimalloc's sources from there. BUILD=folder builds there (default: build).
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
build=${BUILD:-build}
jobs=$(nproc)
# Run by the first stage alone: what depends on the code as gcc builds it, or on the outside, or takes minutes.
once='shape|programs|readme|writers|golden|package|bench|compare'
once_tests='signal_at_each_instruction|\.long\.|bench_'

# configure STAGE ARGUMENT...: mimalloc is fetched once, by the first stage, and handed to the others.
configure() {
    stage=$1
    shift
    mimalloc=${MOD_ALLOC_MIMALLOC_DIR:-}
    if [ -z "$mimalloc" ]; then
        for cache in "$build"/*/CMakeCache.txt; do
            if [ -e "$cache" ] && [ "$cache" != "$build/$stage/CMakeCache.txt" ]; then
                mimalloc=$(sed -n 's/^MODA_MIMALLOC_FOUND:INTERNAL=//p' "$cache")
                [ -z "$mimalloc" ] || break
            fi
        done
    fi
    echo
    echo "==== $stage ===="
    cmake -S . -B "$build/$stage" -G Ninja -DBUILD_TESTING=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON \
        -DMOD_ALLOC_MIMALLOC_DIR="$mimalloc" "$@" >"$build/$stage.log" 2>&1 || {
        cat "$build/$stage.log"
        return 1
    }
    grep 'mod-alloc [0-9]' "$build/$stage.log"
    cmake --build "$build/$stage" -- -j"$jobs" --quiet
}

run_tests() {
    stage=$1
    shift
    ctest --test-dir "$build/$stage" --output-on-failure -j"$jobs" --no-tests=error "$@" </dev/null
}

stage_gcc() {
    configure gcc -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++
    run_tests gcc
}
stage_asserts() {
    configure asserts -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DMOD_ALLOC_ASSERTS=full
    run_tests asserts -LE "$once" -E "$once_tests"
}
stage_clang() {
    configure clang -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
    run_tests clang -LE "$once" -E "$once_tests"
}
stage_asan() {
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    configure asan -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DMOD_ALLOC_ASSERTS=on \
        -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags"
    # Left out: what needs little address space, which the sanitizer itself has no room in; and names, which
    # its own frames change. One test waits for a signal that it would catch.
    ASAN_OPTIONS=handle_segv=0 run_tests asan -R '^unit_|^report_(read|fuzz)' -E '^unit_region_region$'
}
stage_aarch64() {
    configure aarch64 -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
        -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF # unused helpers of tests that are for x86-64
    # What qemu-user does as a machine would: not fork with threads, nor exec, address space limits, residence.
    programs='rows|shadow_steps|windows|threads|reset|family|early_and_late|signals'
    run_tests aarch64 --timeout 300 -R "^unit_(base|sample|site)|^unwind_(walk|static|fuzz)|^whole\\.($programs)\\.(counters|exact)\\.preload\$|^whole\\.(windows|family)\\.sampled\\.(linked|static|full)\$"
}

# shellcheck disable=SC2086
install_missing $packages_build $packages_test
mkdir -p "$build"
[ $# -gt 0 ] || set -- gcc
for stage in "$@"; do
    case "$stage" in
    gcc | asserts | clang | asan | aarch64) ;;
    *)
        echo "test.sh: there is no stage '$stage' (gcc asserts clang asan aarch64)" >&2
        exit 2
        ;;
    esac
done
for stage in "$@"; do
    "stage_$stage"
done
echo
echo "All stages passed: $*"
