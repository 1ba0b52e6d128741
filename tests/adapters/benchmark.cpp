/* SPDX-License-Identifier: MIT
 *
 * benchmark.cpp - benchmarks whose allocations are known; benchmark.py reads what Google Benchmark says of them.
 */
#include <cstdlib>

#include "mod_alloc_benchmark.hpp"

static void nothing(benchmark::State &state) {
    for (auto _ : state) {
        benchmark::ClobberMemory();
    }
}
BENCHMARK(nothing);

static void three_blocks(benchmark::State &state) {
    for (auto _ : state) {
        for (int i = 0; i < 3; i++) {
            void *block = std::malloc(64);
            benchmark::DoNotOptimize(block);
            std::free(block);
        }
    }
}
BENCHMARK(three_blocks);

static void three_blocks_in_a_window(benchmark::State &state) {
    void *before = std::malloc(10000); /* not in the window */
    benchmark::DoNotOptimize(before);
    mod_alloc::benchmark_window window(state);
    for (auto _ : state) {
        for (int i = 0; i < 3; i++) {
            void *block = std::malloc(64);
            benchmark::DoNotOptimize(block);
            std::free(block);
        }
    }
    std::free(before);
}
BENCHMARK(three_blocks_in_a_window);

static void one_is_kept(benchmark::State &state) {
    mod_alloc::benchmark_window window(state);
    void *kept = std::malloc(256);
    benchmark::DoNotOptimize(kept);
    for (auto _ : state) {
        benchmark::ClobberMemory();
    }
}
BENCHMARK(one_is_kept)->Iterations(100);

static void grows_and_shrinks(benchmark::State &state) {
    mod_alloc::benchmark_window window(state);
    void *blocks[4] = {};
    for (auto _ : state) {
        for (void *&block : blocks) {
            block = std::malloc(1024);
            benchmark::DoNotOptimize(block);
        }
        for (void *block : blocks) {
            std::free(block);
        }
    }
}
BENCHMARK(grows_and_shrinks);

static void on_two_threads(benchmark::State &state) {
    mod_alloc::benchmark_window window(state);
    for (auto _ : state) {
        void *block = std::malloc(128);
        benchmark::DoNotOptimize(block);
        std::free(block);
    }
}
BENCHMARK(on_two_threads)->Threads(2);

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (std::getenv("WITHOUT_REPORTER")) { /* as a program that is there already may do it */
        mod_alloc::register_benchmark_memory();
        benchmark::RunSpecifiedBenchmarks();
    } else {
        mod_alloc::run_benchmarks();
    }
    return 0;
}
