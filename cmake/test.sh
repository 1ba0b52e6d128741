#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds and runs all tests, stage by stage. With arguments: the named stages alone.
#
#   gcc      all tests, as released; with it those built with ThreadSanitizer or laws of their own
#   clang    what depends on the compiler; libFuzzer on unwind tables and stacks; warnings of both are errors; then clang-tidy
#            over all of src
#   asan     rooms and report under AddressSanitizer and UndefinedBehaviorSanitizer, cheap laws checked
#   aarch64  rooms and small programs, cross-compiled, run by qemu-user
#   asserts  as clang, by gcc, with every law checked while running (MOD_ALLOC_ASSERTS=full)
#
# MOD_ALLOC_MIMALLOC_DIR=folder takes mimalloc's sources from there. BUILD=folder builds there (default: build).
set -eu
cd "$(dirname "$0")/.."
. cmake/packages.sh
build=${BUILD:-build}
jobs=$(nproc)
# Tests of the code that a compiler may make otherwise: not those of formats, files, scripts and other programs.
compiled='^(unit|unwind|whole|stress|recording|report|adapters)$'
once='signal_at_each_instruction|\.long\.' # and of these, what takes longest: in the stage gcc alone

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
    run_tests asserts -L "$compiled" -E "$once"
}
stage_clang() {
    configure clang -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
    run_tests clang -L "$compiled" -E "$once"
    cmake --build "$build/clang" --target tidy >"$build/tidy.log" 2>&1 || {
        cat "$build/tidy.log"
        return 1
    }
    echo "clang-tidy finds nothing"
}
stage_asan() {
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    configure asan -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DMOD_ALLOC_ASSERTS=on \
        -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags"
    # One test waits for a signal that the sanitizer would catch. Of the writers: what is compiled.
    ASAN_OPTIONS=handle_segv=0 run_tests asan -R '^unit_|^report_|^test_writers$|^writers\.write\.'
}
stage_aarch64() {
    configure aarch64 -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
        -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF # unused helpers of tests that are for x86-64
    # What qemu-user does as a machine would: not fork with threads, nor exec, address space limits, residence.
    programs='rows|shadow_steps|windows|threads|reset|family|early_and_late|signals'
    run_tests aarch64 --timeout 300 -R "^unit_(base|sample|site)|^unit_(region_modules|region_region|shard_words)\$|^unwind_(walk|static|fuzz|objects)|^whole\\.($programs)\\.(counters|exact)\\.preload\$|^stress\\.(exact|many_threads)\$|^whole\\.(windows|family)\\.sampled\\.(linked|static|full)\$"
}

# shellcheck disable=SC2086
install_missing $packages_build $packages_test
mkdir -p "$build"
[ $# -gt 0 ] || set -- gcc asan aarch64 clang asserts
for stage in "$@"; do
    case "$stage" in
    gcc | clang | asan | aarch64 | asserts) ;;
    *)
        echo "test.sh: there is no stage '$stage' (gcc clang asan aarch64 asserts)" >&2
        exit 2
        ;;
    esac
done
for stage in "$@"; do
    "stage_$stage"
done
echo
echo "All stages passed: $*"
