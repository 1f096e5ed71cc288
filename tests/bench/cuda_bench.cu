// What the kernels of kernels/cuda reach next to the device's bounds, measured in the same run: memory by a copy, the
// integer tensor cores by a loop of mma alone and, where libcublasLt is found, by its int8 product of the same shape.
// Its F16 product of that shape stands for "dequantise, then cuBLAS", without the time that dequantising takes. Medians
// of `rounds`, interleaved with the bounds. Prints JSON.
//
//   cuda_bench [--rounds N] [--type Q4_K]…
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"
#include "tests/bench/cublas_lt.h"

using namespace sirocco;
using namespace sirocco::cuda;

namespace {

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "cuda_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* allocate(std::size_t count) {
  T* memory = nullptr;
  must(cudaMalloc(reinterpret_cast<void**>(&memory), count * sizeof(T)), "cudaMalloc");
  return memory;
}

__global__ void fill_kernel(std::uint32_t* words, std::size_t count, std::uint32_t mask, std::uint32_t bits) {
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435761U;
    x ^= x >> 15;
    x *= 2246822519U;
    x ^= x >> 13;
    words[i] = (x & mask) | bits;
  }
}

// Random bytes that are sane floats where halves are read: exponents of 2^-8 to 2^-1 and so on do not matter for speed,
// NaN and subnormals do not either on this hardware.
void fill(void* memory, std::size_t bytes, cudaStream_t stream) {
  must(launch({.grid = dim3(1024), .block = dim3(256)}, stream, fill_kernel, static_cast<std::uint32_t*>(memory),
              bytes / 4, 0xB7FFB7FFU, 0U),
       "fill");
}
void fill_floats(float* memory, std::size_t count, cudaStream_t stream) {
  must(launch({.grid = dim3(1024), .block = dim3(256)}, stream, fill_kernel, reinterpret_cast<std::uint32_t*>(memory),
              count, 0x80FFFFFFU, 0x3F000000U),
       "fill");
}

__global__ void copy_kernel(const uint4* from, uint4* to, std::size_t count) {
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    to[i] = __ldcs(from + i);
}
__global__ void read_kernel(const uint4* from, std::uint32_t* sink, std::size_t count) {
  std::uint32_t x = 0;
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x;
  for (; i + 3 * step < count; i += 4 * step) {
    const uint4 a = __ldcs(from + i);
    const uint4 b = __ldcs(from + i + step);
    const uint4 c = __ldcs(from + i + 2 * step);
    const uint4 d = __ldcs(from + i + 3 * step);
    x ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
  }
  if (x == 12345) *sink = x;
}
__global__ void mma_peak_kernel(int* sink, int rounds) {
  int c[8][4] = {};
  const std::uint32_t a[4] = {threadIdx.x, threadIdx.x * 3, threadIdx.x * 5, threadIdx.x * 7};
  const std::uint32_t b[2] = {threadIdx.x * 11, threadIdx.x * 13};
  for (int i = 0; i < rounds; ++i) {
#pragma unroll
    for (auto& tile : c) mma_s8(tile, a, b);
  }
  int sum = 0;
  for (auto& tile : c)
    for (const int x : tile) sum += x;
  if (sum == 12345) *sink = sum;
}

class Timer {
 public:
  Timer() {
    must(cudaEventCreate(&begin_), "event");
    must(cudaEventCreate(&end_), "event");
    must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  }
  cudaStream_t stream() const { return stream_; }
  // Microseconds of one of `repeats` calls of f(i), replayed as a graph.
  double time(int repeats, const std::function<cudaError_t(int)>& f) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    for (int i = 0; i < repeats; ++i) must(f(i), "kernel");
    must(cudaStreamSynchronize(stream_), "kernel");
    must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < repeats; ++i) must(f(i), "kernel");
    must(cudaStreamEndCapture(stream_, &graph), "capture");
    must(cudaGraphInstantiate(&exec, graph, 0), "graph");
    must(cudaGraphLaunch(exec, stream_), "graph");
    must(cudaEventRecord(begin_, stream_), "event");
    must(cudaGraphLaunch(exec, stream_), "graph");
    must(cudaEventRecord(end_, stream_), "event");
    must(cudaEventSynchronize(end_), "kernel");
    float ms = 0;
    must(cudaEventElapsedTime(&ms, begin_, end_), "event");
    must(cudaGraphExecDestroy(exec), "graph");
    must(cudaGraphDestroy(graph), "graph");
    return 1e3 * ms / repeats;
  }

 private:
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

struct Median {
  std::vector<double> values;
  double at(double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
  }
};

struct Case {
  std::string name;
  double bytes = 0;             // of weights that it must read
  double macs = 0;              // multiplications of int8
  std::function<double()> run;  // microseconds
  Median us;
  std::function<double(bool int8)> run_cublas;  // of prompts
  Median cublas_s8_us;
  Median cublas_f16_us;
};

struct Setup {
  Timer timer;
  std::byte* weights = nullptr;
  std::size_t weight_bytes = 0;
  float* x = nullptr;
  float* y = nullptr;
  Rows rows;
  std::vector<Case> cases;
  CublasLt cublas;
};

constexpr std::uint32_t kMostRows = 4096;
constexpr std::uint32_t kMostInputs = 14336;

void make_rows(Setup& s) {
  s.x = allocate<float>(std::size_t{kMostRows} * kMostInputs);
  s.y = allocate<float>(std::size_t{kMostRows} * 32768);
  fill_floats(s.x, std::size_t{kMostRows} * kMostInputs, s.timer.stream());
  for (Activations* a : {&s.rows.q8_32, &s.rows.q8_256}) {
    a->q = allocate<std::int8_t>(std::size_t{kMostRows} * kMostInputs);
    a->sums = allocate<std::int16_t>(std::size_t{kMostRows} * kMostInputs / 16);
    a->scales = allocate<float>(std::size_t{kMostRows} * kMostInputs / 32);
  }
  s.rows.f32 = s.x;
  must(quantise(s.x, kMostRows, kMostInputs, s.rows.q8_32, s.rows.q8_256, s.timer.stream()), "quantise");
}

// Weights are taken from all over `weights`, so that none is in the cache.
void add_linear(Setup& s, TensorType type, std::uint32_t inputs, std::uint32_t outputs, std::uint32_t rows,
                bool gate_and_up) {
  const std::size_t bytes = matrix_bytes(type, inputs, outputs);
  const std::size_t of_call = gate_and_up ? 2 * bytes : bytes;
  const int repeats = static_cast<int>(std::clamp<std::size_t>(s.weight_bytes / of_call, 1, rows > 64 ? 4 : 40));
  char name[100];
  std::snprintf(name, sizeof name, "%s%s %ux%u rows %u", gate_and_up ? "gate+up " : "",
                std::string(tensor_type_info(type)->name).c_str(), inputs, outputs, rows);
  Case c;
  c.name = name;
  c.bytes = static_cast<double>(of_call);
  c.macs = static_cast<double>(inputs) * outputs * rows * (gate_and_up ? 2 : 1);
  c.run = [&s, type, inputs, outputs, rows, gate_and_up, of_call, bytes, repeats] {
    return s.timer.time(repeats, [&](int i) {
      const DeviceMatrix w = {type, s.weights + static_cast<std::size_t>(i) * of_call, inputs, outputs};
      if (gate_and_up) {
        DeviceMatrix up = w;
        up.data += bytes;
        return gated({rows, w, up, s.rows, s.y}, s.timer.stream());
      }
      LinearArguments a = {.rows = rows, .parts = 1, .part = {}, .x = s.rows};
      a.part[0] = {w, s.y};
      return linear(a, s.timer.stream());
    });
  };
  CublasLt::Product products[2];
  const std::uint64_t all_outputs = std::uint64_t{outputs} * (gate_and_up ? 2 : 1);
  if (rows > 64 && s.cublas.there() && s.cublas.prepare(false, rows, inputs, all_outputs, products[0]) &&
      s.cublas.prepare(true, rows, inputs, all_outputs, products[1])) {
    c.run_cublas = [&s, inputs, all_outputs, products](bool int8) {
      const std::size_t of_matrix = all_outputs * inputs * (int8 ? 1 : 2);
      const int calls = static_cast<int>(std::clamp<std::size_t>(s.weight_bytes / of_matrix, 1, 4));
      return s.timer.time(calls, [&](int i) {
        return s.cublas.multiply(products[int8 ? 1 : 0], s.weights + static_cast<std::size_t>(i) * of_matrix,
                                 s.rows.q8_32.q, s.y, s.timer.stream());
      });
    };
  }
  s.cases.push_back(std::move(c));
}

// What cuBLAS took, if it was measured.
std::string cublas_part(Case& c) {
  if (!c.run_cublas) return "";
  char text[100];
  std::snprintf(text, sizeof text, ", \"cublas_s8_us\": %.2f, \"cublas_f16_us\": %.2f", c.cublas_s8_us.at(0.5),
                c.cublas_f16_us.at(0.5));
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 7;
  std::vector<TensorType> types;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--rounds") == 0) rounds = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--type") == 0)
      for (const TensorTypeInfo& info : tensor_types())
        if (info.name == argv[i + 1]) types.push_back(info.type);
  }
  if (types.empty()) types = {TensorType::q4_k, TensorType::q8_0, TensorType::q6_k};
  cudaDeviceProp properties = {};
  must(cudaGetDeviceProperties(&properties, 0), "device");
  Setup s;
  s.weight_bytes = std::size_t{3} << 30;
  s.weights = allocate<std::byte>(s.weight_bytes);
  fill(s.weights, s.weight_bytes, s.timer.stream());
  make_rows(s);
  for (const TensorType type : types) {
    for (const std::uint32_t rows : {1U, 4U, 8U, 16U, 32U}) add_linear(s, type, 4096, 14336, rows, true);
    for (const std::uint32_t rows : {1U, 8U, 16U}) add_linear(s, type, 14336, 4096, rows, false);
    for (const std::uint32_t rows : {1U, 8U, 16U}) add_linear(s, type, 4096, 6144, rows, false);
    add_linear(s, type, 4096, 32000, 1, false);
    add_linear(s, type, 2048, 768, 1, true);
    for (const std::uint32_t rows : {128U, 512U, 2048U}) add_linear(s, type, 4096, 14336, rows, true);
    add_linear(s, type, 14336, 4096, 2048, false);
  }
  auto* const half = reinterpret_cast<uint4*>(s.weights + s.weight_bytes / 2);
  auto* const sink = allocate<int>(1);
  Median copy, read, peak;
  for (int round = 0; round < rounds; ++round) {
    const std::size_t half_words = s.weight_bytes / 32;
    copy.values.push_back(2.0 * 16 * static_cast<double>(half_words) / s.timer.time(1, [&](int) {
      return launch({.grid = dim3(properties.multiProcessorCount * 16), .block = dim3(512)}, s.timer.stream(),
                    copy_kernel, reinterpret_cast<const uint4*>(s.weights), half, half_words);
    }) / 1e3);
    read.values.push_back(static_cast<double>(s.weight_bytes) / s.timer.time(1, [&](int) {
      return launch({.grid = dim3(properties.multiProcessorCount * 8), .block = dim3(512)}, s.timer.stream(),
                    read_kernel, reinterpret_cast<const uint4*>(s.weights), reinterpret_cast<std::uint32_t*>(sink),
                    s.weight_bytes / 16);
    }) / 1e3);
    constexpr int kRounds = 4096;
    const double macs = static_cast<double>(properties.multiProcessorCount) * 4 * 8 * 8 * 4096.0 * kRounds;
    peak.values.push_back(2 * macs / s.timer.time(1, [&](int) {
      return launch({.grid = dim3(properties.multiProcessorCount * 4), .block = dim3(256)}, s.timer.stream(),
                    mma_peak_kernel, sink, kRounds);
    }) / 1e6);
    for (Case& c : s.cases) {
      c.us.values.push_back(c.run());
      if (!c.run_cublas) continue;
      c.cublas_s8_us.values.push_back(c.run_cublas(true));
      c.cublas_f16_us.values.push_back(c.run_cublas(false));
    }
  }
  const double read_gb_s = read.at(0.5);
  const double tops = peak.at(0.5);
  std::printf(
      "{\"device\": \"%s\", \"copy_gb_s\": %.0f, \"read_gb_s\": %.0f, \"mma_s8_tops\": %.0f, \"cublas\": %s, "
      "\"rounds\": %d, \"cases\": [\n",
      properties.name, copy.at(0.5), read_gb_s, tops, s.cublas.there() ? "true" : "false", rounds);
  for (std::size_t i = 0; i < s.cases.size(); ++i) {
    Case& c = s.cases[i];
    const double us = c.us.at(0.5);
    std::printf(
        " {\"case\": \"%s\", \"us\": %.2f, \"us_low\": %.2f, \"us_high\": %.2f, \"of_read\": %.3f, \"of_mma\": "
        "%.3f%s}%s\n",
        c.name.c_str(), us, c.us.at(0), c.us.at(1), c.bytes / us / 1e3 / read_gb_s, 2 * c.macs / us / 1e6 / tops,
        cublas_part(c).c_str(), i + 1 < s.cases.size() ? "," : "");
  }
  std::printf("]}\n");
  return 0;
}
