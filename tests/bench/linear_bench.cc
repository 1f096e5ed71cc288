// The linear kernels against what the machine can do, on ThreadPool's threads: one row against reading the same
// weights, many rows against the peak of the integer dot product. Kernel and bound take turns; what counts is the
// median of the ratios of neighbours.
//
//   linear_bench [--isa NAME] [--threads N] [--pairs N] [--rows 1,512] [--types Q4_K,Q8_0] [--json FILE]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cli/roofline.h"
#include "engine/base/thread_pool.h"
#include "kernels/cpu/kernels.h"

namespace sirocco {
namespace {

constexpr std::size_t kInputs = 4096;
constexpr std::size_t kOutputs = 14336;
constexpr std::size_t kLeastBytes = 400'000'000;  // of weights, and more where a cache would hold them

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Spread {
  double median;
  double low;   // first quartile
  double high;  // third
};
Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.25), at(0.75)};
}

struct Options {
  std::string isa;
  std::size_t threads = 0;
  std::size_t pairs = 9;
  std::vector<std::size_t> rows = {1, 512};
  std::vector<std::string> types = {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q8_0", "MXFP4"};
  std::size_t panel_rows = kMaxRowGroup + 1;  // so many and more are multiplied by panels
  std::string json;
};
// Up to so many rows are bound by memory, more by products.
constexpr std::size_t kFewRows = 16;

template <class T>
std::unique_ptr<T, decltype(&std::free)> aligned(std::size_t count) {
  const std::size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
  std::unique_ptr<T, decltype(&std::free)> memory(static_cast<T*>(std::aligned_alloc(64, bytes)), &std::free);
  std::memset(memory.get(), 0, bytes);
  return memory;
}

// Matrices of one type, and rows of activations for them.
class Weights {
 public:
  Weights(const Kernels& kernels, TensorType type, std::size_t rows, bool panels)
      : kernels_(kernels),
        linear_(kernels.linear(type)),
        type_(type),
        rows_(rows),
        matrix_bytes_(kOutputs * row_bytes(type, kInputs)),
        matrices_(std::max(kLeastBytes, bytes_beyond_caches()) / matrix_bytes_ + 1),
        bytes_(matrices_ * matrix_bytes_),
        activation_bytes_(kernels.activation_bytes(kernels.activation_format(type), kInputs)),
        activations_(aligned<std::byte>(rows * activation_bytes_)),
        y_(rows * kOutputs) {
    std::mt19937 random(1);
    // Bytes from 0x20 to 0x3F make scales and floats of every type that are finite and not subnormal.
    for (std::size_t i = 0; i < matrix_bytes_; ++i) bytes_[i] = static_cast<std::byte>(0x20 + random() % 0x20);
    for (std::size_t m = 1; m < matrices_; ++m)
      std::memcpy(bytes_.data() + m * matrix_bytes_, bytes_.data(), matrix_bytes_);
    std::vector<float> x(kInputs);
    std::normal_distribution<float> normal;
    for (std::size_t row = 0; row < rows; ++row) {
      for (float& value : x) value = normal(random);
      std::byte* to = activations_.get() + row * activation_bytes_;
      kernels.quantise(kernels.activation_format(type), x.data(), kInputs, to);
      pointers_.push_back(to);
    }
    if (panels) pack();
  }

  std::size_t bytes() const { return matrices_ * matrix_bytes_; }

  // One pass over all matrices.
  void stream(ThreadPool& pool) {
    constexpr std::size_t kOutputsAChunk = 64;
    scratch(pool, row_scratch_floats(kInputs) * sizeof(float));
    pool.run(matrices_ * (kOutputs / kOutputsAChunk), [&](std::size_t chunk, std::size_t thread) {
      const std::size_t first = chunk % (kOutputs / kOutputsAChunk) * kOutputsAChunk;
      linear_.rows(matrix(chunk / (kOutputs / kOutputsAChunk)), pointers_.data(), rows_, first, first + kOutputsAChunk,
                   y_.data(), kOutputs, reinterpret_cast<float*>(scratch_[thread].get()));
    });
  }
  void read(ThreadPool& pool) {
    constexpr std::size_t kChunk = 256 * 1024;
    pool.run(bytes() / kChunk, [&](std::size_t chunk, std::size_t) {
      checksum_ += kernels_.read_memory(bytes_.data() + chunk * kChunk, kChunk);
    });
  }
  // The first `matrices` times all rows, by panels.
  void multiply(ThreadPool& pool, std::size_t matrices) {
    scratch(pool, panel_scratch_bytes(rows_));
    const std::size_t outputs = kernels_.panel_outputs * (rows_ <= kFewRows ? 4 : 1);
    const std::size_t chunks = kOutputs / outputs;
    pool.run(matrices * chunks, [&](std::size_t chunk, std::size_t thread) {
      const std::size_t first = chunk % chunks * outputs;
      linear_.panel(matrix(chunk / chunks), tiles_.get(), rows_, first, first + outputs, y_.data(), kOutputs,
                    scratch_[thread].get());
    });
  }
  std::size_t matrices() const { return matrices_; }
  double multiplies() const { return static_cast<double>(rows_) * kInputs * kOutputs; }

 private:
  Matrix matrix(std::size_t m) const { return {type_, bytes_.data() + m * matrix_bytes_, kInputs, kOutputs}; }
  void pack() {
    const std::size_t whole = linear_.tile_bytes(kernels_.tile_rows, kInputs);
    tiles_ = aligned<std::byte>((rows_ / kernels_.tile_rows + 1) * whole);
    for (std::size_t row = 0; row < rows_; row += kernels_.tile_rows)
      linear_.pack(&pointers_[row], std::min(kernels_.tile_rows, rows_ - row), kInputs,
                   tiles_.get() + row / kernels_.tile_rows * whole);
  }
  void scratch(ThreadPool& pool, std::size_t bytes) {
    while (scratch_.size() < pool.threads()) scratch_.push_back(aligned<std::byte>(bytes));
  }

  const Kernels& kernels_;
  const LinearFunctions& linear_;
  TensorType type_;
  std::size_t rows_;
  std::size_t matrix_bytes_;
  std::size_t matrices_;
  std::vector<std::byte> bytes_;
  std::size_t activation_bytes_;
  std::unique_ptr<std::byte, decltype(&std::free)> activations_;
  std::vector<const std::byte*> pointers_;
  std::unique_ptr<std::byte, decltype(&std::free)> tiles_{nullptr, &std::free};
  std::vector<std::unique_ptr<std::byte, decltype(&std::free)>> scratch_;
  std::vector<float> y_;
  std::atomic<std::uint64_t> checksum_{0};
};

nlohmann::ordered_json measure(const Kernels& kernels, ThreadPool& pool, Roofline& roofline, const TensorTypeInfo& type,
                               std::size_t rows, const Options& options) {
  const bool panels = rows >= options.panel_rows || rows > kMaxRowGroup;
  Weights weights(kernels, type.type, rows, panels);
  const bool few = rows <= kFewRows;
  std::vector<double> ratios;
  std::vector<double> speeds;
  for (std::size_t pair = 0; pair <= options.pairs; ++pair) {
    auto begin = std::chrono::steady_clock::now();
    double speed;
    double bound;
    if (few) {
      panels ? weights.multiply(pool, weights.matrices()) : weights.stream(pool);
      speed = static_cast<double>(weights.bytes()) / seconds_since(begin);
      begin = std::chrono::steady_clock::now();
      weights.read(pool);
      bound = static_cast<double>(weights.bytes()) / seconds_since(begin);
    } else {
      weights.multiply(pool, 1);
      speed = weights.multiplies() / seconds_since(begin);
      bound = roofline.multiply().value_or(0);
    }
    if (pair == 0) continue;  // memory and clocks warm up
    ratios.push_back(speed / bound);
    speeds.push_back(speed);
  }
  const Spread ratio = spread(ratios);
  const Spread speed = spread(speeds);
  std::printf("%-6s %4zu rows  %7.1f %s  %.3f of the bound (quartiles %.3f to %.3f)\n", std::string(type.name).c_str(),
              rows, speed.median * (few ? 1e-9 : 2e-9), few ? "GB/s " : "GOP/s", ratio.median, ratio.low, ratio.high);
  std::fflush(stdout);
  return {{"type", type.name},
          {"rows", rows},
          {"speed", speed.median * (few ? 1e-9 : 2e-9)},
          {"unit", few ? "GB/s" : "GOP/s"},
          {"bound", few ? "reading the same memory" : "peak of the integer dot product"},
          {"ratio", ratio.median},
          {"quartiles", {ratio.low, ratio.high}}};
}

int run(const Options& options) {
  const Kernels* kernels = options.isa.empty() ? nullptr : cpu::find_kernels(options.isa);
  if (options.isa.empty() && !cpu::kernels().empty()) kernels = cpu::kernels().front();
  if (kernels == nullptr) {
    std::fprintf(stderr, "no kernels for this machine%s%s\n", options.isa.empty() ? "" : " named ",
                 options.isa.c_str());
    return 1;
  }
  auto made = ThreadPool::create(options.threads);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message().c_str());
    return 1;
  }
  ThreadPool& pool = *made;
  Roofline roofline(*kernels, pool);
  std::printf("isa %s, %zu threads, %zu pairs\n", std::string(kernels->isa).c_str(), pool.threads(), options.pairs);
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const std::size_t rows : options.rows) {
    for (const TensorTypeInfo& type : tensor_types()) {
      if (std::find(options.types.begin(), options.types.end(), type.name) == options.types.end()) continue;
      results.push_back(measure(*kernels, pool, roofline, type, rows, options));
    }
  }
  if (!options.json.empty()) {
    const nlohmann::ordered_json report = {{"isa", kernels->isa}, {"threads", pool.threads()}, {"results", results}};
    std::ofstream(options.json) << report.dump(1) << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace sirocco

int main(int argc, char** argv) {
  CLI::App app("Linear kernels against the machine's bounds");
  sirocco::Options options;
  app.add_option("--isa", options.isa);
  app.add_option("--threads", options.threads);
  app.add_option("--pairs", options.pairs);
  app.add_option("--rows", options.rows)->delimiter(',');
  app.add_option("--types", options.types)->delimiter(',');
  app.add_option("--panel-rows", options.panel_rows);
  app.add_option("--json", options.json);
  CLI11_PARSE(app, argc, argv);
  return sirocco::run(options);
}
