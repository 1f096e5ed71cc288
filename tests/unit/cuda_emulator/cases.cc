#include "tests/unit/cuda_emulator/cases.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <vector>

#include "tests/unit/cuda/device.h"
#include "tests/unit/cuda_emulator/kernels.h"

namespace sirocco::test {

namespace {

std::vector<float> floats(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(-1, 1);
  std::vector<float> result(n);
  for (float& v : result) v = distribution(generator);
  return result;
}

std::vector<__half> halves(std::size_t n, unsigned seed) {
  std::vector<__half> result;
  for (const float v : floats(n, seed)) result.push_back(__float2half(v));
  return result;
}

bool near(const std::vector<float>& got, const std::vector<double>& want) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (!(std::fabs(got[i] - want[i]) <= 1e-3 * (1 + std::fabs(want[i])))) {
      std::printf("WRONG at %zu: %g, not %g\n", i, static_cast<double>(got[i]), want[i]);
      return false;
    }
  }
  return true;
}

bool run_row_sums(Bug bug) {
  constexpr int kRows = 61;
  constexpr int kWidth = 96;
  const auto x = floats(kRows * kWidth, 1);
  std::vector<double> want(kRows);
  for (std::size_t i = 0; i < x.size(); ++i) want[i / kWidth] += static_cast<double>(x[i]);
  const Stream stream;
  const DeviceBuffer<float> device_x(x);
  const DeviceBuffer<float> out(kRows);
  must(row_sums(bug, device_x.data(), out.data(), kRows, kWidth, stream), "row_sums");
  return near(out.download(), want);
}

bool run_argmax(Bug bug) {
  constexpr int kRows = 5;
  constexpr int kWidth = 100;
  const auto x = floats(kRows * kWidth, 2);
  std::vector<double> want;
  std::vector<int> want_where;
  for (int row = 0; row < kRows; ++row) {
    const auto* first = x.data() + row * kWidth;
    const auto* best = std::max_element(first, first + kWidth);
    want.push_back(static_cast<double>(*best));
    want_where.push_back(static_cast<int>(best - first));
  }
  const Stream stream;
  const DeviceBuffer<float> device_x(x);
  const DeviceBuffer<float> out(kRows);
  const DeviceBuffer<int> where(kRows);
  must(row_argmax(bug, device_x.data(), out.data(), where.data(), kRows, kWidth, stream), "row_argmax");
  return near(out.download(), want) && where.download() == want_where;
}

bool run_paged(Bug bug) {
  constexpr int kRows = 61;
  constexpr std::size_t kPageElements = 16 * 64;
  const std::vector<int> pages = {2, 0, 3, 1};
  const auto x = halves(pages.size() * kPageElements, 3);
  std::vector<double> want(64);
  for (int row = 0; row < kRows; ++row) {
    const auto page = static_cast<std::size_t>(pages[static_cast<std::size_t>(row) / 16]);
    const __half* from = x.data() + page * kPageElements + row % 16 * 64;
    double sum = 0;
    for (int i = 0; i < 64; ++i) sum += static_cast<double>(__half2float(from[i]));
    for (std::size_t i = 0; i < 64; ++i) want[i] += sum * static_cast<double>(__half2float(from[i]));
  }
  const Stream stream;
  const DeviceBuffer<__half> device_x(x);
  const DeviceBuffer<int> device_pages(pages);
  const DeviceBuffer<float> out(64);
  must(paged_sum(bug, device_x.data(), device_pages.data(), out.data(), kRows, stream), "paged_sum");
  return near(out.download(), want);
}

bool run_multiply(Bug bug) {
  constexpr int kM = 32;
  constexpr int kN = 24;
  constexpr int kK = 48;
  const auto a = halves(kM * kK, 4);
  const auto b = halves(kN * kK, 5);
  std::vector<double> want;
  for (std::size_t m = 0; m < kM; ++m) {
    for (std::size_t n = 0; n < kN; ++n) {
      double sum = 0;
      for (std::size_t k = 0; k < kK; ++k) {
        sum += static_cast<double>(__half2float(a[m * kK + k]) * __half2float(b[n * kK + k]));
      }
      want.push_back(sum);
    }
  }
  const Stream stream;
  const DeviceBuffer<__half> device_a(a);
  const DeviceBuffer<__half> device_b(b);
  const DeviceBuffer<float> c(kM * kN);
  must(multiply_f16(bug, device_a.data(), device_b.data(), c.data(), kM, kN, kK, stream), "multiply_f16");
  return near(c.download(), want);
}

bool run_grid(Bug bug) {
  const auto x = floats(5000, 6);
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v);
  const Stream stream;
  const DeviceBuffer<float> device_x(x);
  const DeviceBuffer<float> parts(8);
  const DeviceBuffer<float> out(1);
  must(grid_sum(bug, device_x.data(), parts.data(), out.data(), static_cast<int>(x.size()), stream), "grid_sum");
  return near(out.download(), {sum});
}

template <class T>
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t n) {
    must(cudaMallocHost(reinterpret_cast<void**>(&data_), n * sizeof(T)), "cudaMallocHost");
  }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
};

class Event {
 public:
  Event() { must(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }  // NOLINT: it is one

 private:
  cudaEvent_t event_ = nullptr;
};

constexpr int kPipeWidth = 1000;
constexpr std::size_t kPipeBytes = kPipeWidth * sizeof(float);

// What a host must not do with a device's memory and its work.
void misuse(const std::string& bug, float* y, float* pinned, const Stream& stream) {
  if (bug == "host_deref") std::printf("%g\n", static_cast<double>(y[3]));
  if (bug == "host_pointer") {
    float on_stack = 0;
    must(add_scaled(&on_stack, y, 1, 1, stream), bug.c_str());
  }
  if (bug == "copy_tail") must(cudaMemcpyAsync(pinned, y + 1, kPipeBytes, cudaMemcpyDeviceToHost, stream), "copy");
  if (bug == "pageable") {
    const std::vector<float> pageable(kPipeWidth);
    must(cudaMemcpyAsync(y, pageable.data(), kPipeBytes, cudaMemcpyHostToDevice, stream), "copy");
  }
  if (bug == "freed") {
    float* gone = nullptr;
    must(cudaMalloc(reinterpret_cast<void**>(&gone), kPipeBytes), "cudaMalloc");
    must(cudaFree(gone), "cudaFree");
    must(add_scaled(gone, y, 1, kPipeWidth, stream), bug.c_str());
  }
}

// Two streams: one copies into two device buffers in turn, the other adds them up and brings the sum back.
bool run_pipe(const std::string& bug) {
  const Stream copies;
  const Stream sums;
  const Event full[2];
  const Event empty[2];
  const PinnedBuffer<float> from[2] = {PinnedBuffer<float>(kPipeWidth), PinnedBuffer<float>(kPipeWidth)};
  const PinnedBuffer<float> back(kPipeWidth);
  const DeviceBuffer<float> buffers[2] = {DeviceBuffer<float>(kPipeWidth), DeviceBuffer<float>(kPipeWidth)};
  const DeviceBuffer<float> y(kPipeWidth);
  must(cudaMemsetAsync(y.data(), 0, kPipeBytes, sums), "memset");
  std::vector<double> want(kPipeWidth);
  for (int chunk = 0; chunk < 6; ++chunk) {
    const int i = chunk % 2;
    if (chunk >= 2 && bug != "host_reuse") must(cudaEventSynchronize(full[i]), "wait for the copy");
    for (int j = 0; j < kPipeWidth; ++j) {
      from[i].data()[j] = static_cast<float>(chunk * kPipeWidth + j);
      want[static_cast<std::size_t>(j)] += static_cast<double>(from[i].data()[j]);
    }
    if (chunk >= 2 && bug != "no_empty_wait") must(cudaStreamWaitEvent(copies, empty[i], 0), "wait");
    must(cudaMemcpyAsync(buffers[i].data(), from[i].data(), kPipeBytes, cudaMemcpyHostToDevice, copies), "copy");
    must(cudaEventRecord(full[i], copies), "record");
    if (bug != "no_full_wait") must(cudaStreamWaitEvent(sums, full[i], 0), "wait");
    must(add_scaled(buffers[i].data(), y.data(), 1, kPipeWidth, sums), "add_scaled");
    must(cudaEventRecord(empty[i], sums), "record");
  }
  must(cudaMemcpyAsync(back.data(), y.data(), kPipeBytes, cudaMemcpyDeviceToHost, sums), "copy");
  if (bug != "no_final_sync") sums.wait();
  misuse(bug, y.data(), back.data(), sums);
  const bool right = near(std::vector<float>(back.data(), back.data() + kPipeWidth), want);
  must(cudaDeviceSynchronize(), "the end");
  return right;
}

// A captured fork and join, replayed twice: y += x, z += 2 x, y += z.
bool run_graph(const std::string& bug) {
  constexpr int kWidth = 300;
  const DeviceBuffer<float> x(std::vector<float>(kWidth, 1));
  const DeviceBuffer<float> y(std::vector<float>(kWidth, 0));
  const DeviceBuffer<float> z(std::vector<float>(kWidth, 0));
  const bool race = bug == "branch_race";  // both branches add to y
  const Stream main;
  const Stream branch;
  const Event fork;
  const Event join;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  must(cudaStreamBeginCapture(main, cudaStreamCaptureModeGlobal), "capture");
  must(cudaEventRecord(fork, main), "fork");
  must(cudaStreamWaitEvent(branch, fork, 0), "fork");
  must(add_scaled(x.data(), y.data(), 1, kWidth, main), "add_scaled");
  must(add_scaled(x.data(), race ? y.data() : z.data(), 2, kWidth, branch), "add_scaled");
  must(cudaEventRecord(join, branch), "join");
  must(cudaStreamWaitEvent(main, join, 0), "join");
  if (!race) must(add_scaled(z.data(), y.data(), 1, kWidth, main), "add_scaled");
  must(cudaStreamEndCapture(main, &graph), "end of capture");
  must(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  for (int i = 0; i < 2; ++i) must(cudaGraphLaunch(executable, main), "launch");
  main.wait();
  const bool right = near(y.download(), std::vector<double>(kWidth, race ? 6 : 8));
  must(cudaGraphExecDestroy(executable), "destroy");
  must(cudaGraphDestroy(graph), "destroy");
  return right;
}

}  // namespace

bool run_case(const std::string& name, const std::string& bug) {
  static const std::map<std::string, Bug> kernel_bugs = {
      {"off_by_one", Bug::off_by_one},   {"no_sync", Bug::no_sync},
      {"divergent", Bug::divergent},     {"war", Bug::war},
      {"uninit", Bug::uninit},           {"no_copy_wait", Bug::no_copy_wait},
      {"no_syncwarp", Bug::no_syncwarp}, {"grid_race", Bug::grid_race}};
  if (name == "pipe") return run_pipe(bug);
  if (name == "graph") return run_graph(bug);
  const Bug seeded = bug.empty() ? Bug::none : kernel_bugs.at(bug);
  static const std::map<std::string, bool (*)(Bug)> cases = {{"row_sums", run_row_sums},
                                                             {"argmax", run_argmax},
                                                             {"paged", run_paged},
                                                             {"multiply", run_multiply},
                                                             {"grid", run_grid}};
  return cases.at(name)(seeded);
}

}  // namespace sirocco::test
