/* SPDX-License-Identifier: MIT
 *
 * mod_alloc_benchmark.hpp - allocations in the output of Google Benchmark (libbenchmark 1.7 and later).
 *
 * In the program with the benchmarks, once, before they run:
 *
 *   int main(int argc, char **argv) {
 *       benchmark::Initialize(&argc, argv);
 *       mod_alloc::run_benchmarks();
 *   }
 *
 * The library then runs each benchmark a few turns more (at most 16), outside the timing, and its output, console and
 * JSON, has allocs_per_iter, max_bytes_used, total_allocated_bytes and net_heap_growth of them. These hold what
 * Google Benchmark itself allocates around those turns, too (1.7: one small object for all of them).
 *
 * Where the program calls benchmark::RunSpecifiedBenchmarks() itself, mod_alloc::register_benchmark_memory() before it
 * brings the four into the JSON output, and a mod_alloc::benchmark_reporter as its argument into the console's, too.
 *
 * For figures that hold the loop alone, exactly, and that stand in the console's columns as well, put a
 * window before the loop:
 *
 *   static void vector_of_ints(benchmark::State &state) {
 *       mod_alloc::benchmark_window window(state);
 *       for (auto _ : state) { ... }
 *   }
 *
 * It adds the counters allocs/iter, bytes/iter, peak_bytes and net_bytes of the thread that runs the
 * benchmark, and the four JSON fields are then those of the window. It costs some 30 ns a run, not a turn.
 */
#ifndef MOD_ALLOC_BENCHMARK_HPP
#define MOD_ALLOC_BENCHMARK_HPP

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "mod_alloc.h"

namespace mod_alloc {

namespace benchmark_detail {

/* The last window closed between a memory run's start and stop: it runs on one thread. */
struct memory_run {
    bool is_open = false;
    bool has_window = false;
    mod_alloc_stats stats{};
    std::int64_t net_bytes = 0;
};

inline memory_run &current_run() {
    static memory_run run;
    return run;
}

} // namespace benchmark_detail

/* Nothing says `override`: libbenchmark 1.7 has one that takes a pointer, pure, and one that takes a
 * reference; later ones have the latter alone. */
class benchmark_memory_manager : public benchmark::MemoryManager {
  public:
    void Start() {
        auto &run = benchmark_detail::current_run();
        run = benchmark_detail::memory_run{};
        run.is_open = true;
        mod_alloc_profiler_start(&window_);
    }

    void Stop(Result *result) {
        fill(*result);
    }

    void Stop(Result &result) {
        fill(result);
    }

  private:
    void fill(Result &result) {
        auto &run = benchmark_detail::current_run();
        mod_alloc_stats stats;
        mod_alloc_profiler_stop(&window_, &stats);
        std::int64_t net_bytes = window_.net_bytes;
        /* Peaks of a process window are absolute; what a benchmark wants is its own share. */
        std::int64_t peak = static_cast<std::int64_t>(stats.peak_bytes) - before(net_bytes);
        if (run.has_window) {
            stats = run.stats;
            net_bytes = run.net_bytes;
            peak = static_cast<std::int64_t>(stats.peak_bytes);
        }
        run.is_open = false;
        result.num_allocs = static_cast<std::int64_t>(stats.alloc_count);
        result.max_bytes_used = peak;
        result.total_allocated_bytes = static_cast<std::int64_t>(stats.total_bytes);
        result.net_heap_growth = net_bytes;
    }

    /* Bytes live when the window began. */
    static std::int64_t before(std::int64_t net_bytes) {
        mod_alloc_stats now;
        mod_alloc_snapshot(&now);
        return static_cast<std::int64_t>(now.current_bytes) - net_bytes;
    }

    mod_alloc_profiler window_;
};

/* Does nothing where malloc is not mod-alloc's: the fields then stay out of the output, rather than 0. */
inline void register_benchmark_memory() {
    static benchmark_memory_manager manager;
    if (mod_alloc_is_active()) {
        benchmark::RegisterMemoryManager(&manager);
    }
}

/* The reporter that --benchmark_format asks for; the console's shows the four memory figures as columns, too (the others
 * have them already). */
class benchmark_reporter : public benchmark::BenchmarkReporter {
  public:
    benchmark_reporter() : inner_(benchmark::CreateDefaultDisplayReporter()) {
    }

    bool ReportContext(const Context &context) override {
        return inner_->ReportContext(context);
    }

    void ReportRuns(const std::vector<Run> &runs) override {
        if (dynamic_cast<benchmark::ConsoleReporter *>(inner_.get()) == nullptr) {
            inner_->ReportRuns(runs);
            return;
        }
        std::vector<Run> shown = runs;
        for (Run &run : shown) {
            if (run.memory_result != nullptr) {
                const auto count = [](std::int64_t value) {
                    return benchmark::Counter(static_cast<double>(value));
                };
                run.counters["allocs_per_iter"] = benchmark::Counter(run.allocs_per_iter);
                run.counters["max_bytes_used"] = count(run.memory_result->max_bytes_used);
                run.counters["total_allocated_bytes"] = count(run.memory_result->total_allocated_bytes);
                run.counters["net_heap_growth"] = count(run.memory_result->net_heap_growth);
            }
        }
        inner_->ReportRuns(shown);
    }

    void Finalize() override {
        inner_->Finalize();
    }

  private:
    std::unique_ptr<benchmark::BenchmarkReporter> inner_;
};

/* benchmark::RunSpecifiedBenchmarks, with memory figures in its output. */
inline std::size_t run_benchmarks() {
    register_benchmark_memory();
    benchmark_reporter reporter;
    return benchmark::RunSpecifiedBenchmarks(&reporter);
}

/* Declare it right before the benchmark's loop, in the function that runs it. */
class benchmark_window {
  public:
    explicit benchmark_window(benchmark::State &state) : state_(state) {
        mod_alloc_thread_profiler_start(&window_);
    }

    ~benchmark_window() {
        mod_alloc_stats stats;
        mod_alloc_thread_profiler_stop(&window_, &stats);
        auto &run = benchmark_detail::current_run();
        if (run.is_open) {
            run.stats = stats;
            run.net_bytes = window_.net_bytes;
            run.has_window = true;
        }
        if (!mod_alloc_is_active()) {
            return;
        }
        using benchmark::Counter;
        const auto a_turn = Counter::kAvgIterations, a_thread = Counter::kAvgThreads;
        state_.counters["allocs/iter"] = Counter(static_cast<double>(stats.alloc_count), a_turn);
        state_.counters["bytes/iter"] = Counter(static_cast<double>(stats.total_bytes), a_turn);
        state_.counters["peak_bytes"] = Counter(static_cast<double>(stats.peak_bytes), a_thread);
        state_.counters["net_bytes"] = Counter(static_cast<double>(window_.net_bytes), a_thread);
    }

    benchmark_window(const benchmark_window &) = delete;
    benchmark_window &operator=(const benchmark_window &) = delete;

  private:
    benchmark::State &state_;
    mod_alloc_profiler window_;
};

} // namespace mod_alloc

#endif
