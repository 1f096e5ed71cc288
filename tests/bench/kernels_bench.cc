// GFLOP/s of kernels on one thread, and the bytes of weights they read: kernels_bench --benchmark_filter=linear
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "kernels/ref/linear.h"

namespace sirocco {
namespace {

constexpr std::size_t kInputs = 4096;
constexpr std::size_t kOutputs = 512;

// Bytes from 0x20 to 0x3F make scales and floats of every type that are finite and not subnormal.
std::vector<std::byte> random_weights(std::size_t bytes) {
  std::mt19937 random(1);
  std::vector<std::byte> weights(bytes);
  for (std::byte& byte : weights) byte = static_cast<std::byte>(0x20 + random() % 0x20);
  return weights;
}

void linear(benchmark::State& state, TensorType type) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const std::vector<std::byte> weights = random_weights(kOutputs * row_bytes(type, kInputs));
  const ref::Matrix matrix{type, weights.data(), kInputs, kOutputs};
  const std::vector<float> x(rows * kInputs, 0.5F);
  std::vector<float> y(rows * kOutputs);
  std::vector<float> scratch(kInputs);
  for ([[maybe_unused]] auto iteration : state) {
    ref::linear(matrix, x, rows, 0, kOutputs, y, scratch);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  const auto per_second = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["flop/s"] = benchmark::Counter(2.0 * static_cast<double>(rows * kInputs * kOutputs), per_second);
  state.counters["weights B/s"] = benchmark::Counter(static_cast<double>(weights.size()), per_second);
}

BENCHMARK_CAPTURE(linear, Q4_1, TensorType::q4_1)->Arg(1)->Arg(16);
BENCHMARK_CAPTURE(linear, Q4_K, TensorType::q4_k)->Arg(1)->Arg(16);
BENCHMARK_CAPTURE(linear, Q6_K, TensorType::q6_k)->Arg(1)->Arg(16);
BENCHMARK_CAPTURE(linear, F32, TensorType::f32)->Arg(1)->Arg(16);

}  // namespace
}  // namespace sirocco

BENCHMARK_MAIN();
