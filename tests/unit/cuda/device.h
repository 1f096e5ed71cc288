// What tests of CUDA code need on the host: buffers, a stream, and a word about where they run. The same sources run on
// the emulator (`./dev test`) and on a GPU (`./dev gpu`, which leaves tests with "Large" in their names out of its runs
// under compute-sanitizer).
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <span>
#include <vector>

namespace sirocco::test {

// Ends the program: a test that cannot reach its device has nothing more to say.
inline void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::cerr << what << ": " << cudaGetErrorString(error) << std::endl;
  std::abort();
}

// n elements of device memory; on the emulator with red zones, and NaN where nothing was written.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t count) : size_(count) {
    must(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)), "cudaMalloc");
  }
  explicit DeviceBuffer(std::span<const T> from) : DeviceBuffer(from.size()) { upload(from); }
  explicit DeviceBuffer(const std::vector<T>& from) : DeviceBuffer(std::span<const T>(from)) {}
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return size_; }

  void upload(std::span<const T> from) {
    if (from.size() > size_) must(cudaErrorInvalidValue, "DeviceBuffer::upload");
    must(cudaMemcpy(data_, from.data(), from.size_bytes(), cudaMemcpyHostToDevice), "upload");
  }
  // Waits for all streams of the device: what a test has launched has ended.
  std::vector<T> download() const {
    std::vector<T> result(size_);
    must(cudaDeviceSynchronize(), "the kernels before a download");
    must(cudaMemcpy(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return result;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

class Stream {
 public:
  Stream() { must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT: it is one
  void wait() const { must(cudaStreamSynchronize(stream_), "the stream's work"); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Whether there is a device at all: the emulator always plays one.
inline bool has_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

}  // namespace sirocco::test

// The first line of a test, or of its SetUp().
#define SIROCCO_NEEDS_DEVICE() \
  if (!::sirocco::test::has_device()) GTEST_SKIP() << "no NVIDIA GPU on this machine (cudaGetDeviceCount)"
