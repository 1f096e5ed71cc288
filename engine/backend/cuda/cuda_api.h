// The CUDA runtime's objects as values that end themselves, and its failures as errors. Whoever owns what a stream
// still uses waits for the stream before it lets go.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco::cuda {

// SIROCCO_CHECK(checked(cudaStreamSynchronize(stream), "cudaStreamSynchronize")). Error: OUT_OF_MEMORY, or IO.
Result<void> checked(cudaError_t status, std::string_view call);

template <class T, cudaError_t (*destroy)(T*)>
struct Destroy {
  void operator()(T* object) const { destroy(object); }
};
using Stream = std::unique_ptr<CUstream_st, Destroy<CUstream_st, cudaStreamDestroy>>;
using Event = std::unique_ptr<CUevent_st, Destroy<CUevent_st, cudaEventDestroy>>;
using Graph = std::unique_ptr<CUgraph_st, Destroy<CUgraph_st, cudaGraphDestroy>>;
using GraphExec = std::unique_ptr<CUgraphExec_st, Destroy<CUgraphExec_st, cudaGraphExecDestroy>>;

// After a failure all that the process has on the device may be gone or wrong, and calls go on failing, until the
// device is reset. That takes what every user of it has there: the last one to go does it, if one of them has asked for
// it. To be destroyed after every object on the device.
class DeviceUser {
 public:
  DeviceUser() { ++users_; }
  DeviceUser(const DeviceUser&) = delete;
  DeviceUser& operator=(const DeviceUser&) = delete;
  ~DeviceUser() {
    if (--users_ == 0 && reset_wanted_.exchange(false)) cudaDeviceReset();
  }
  void want_reset() { reset_wanted_ = true; }

 private:
  static inline std::atomic<int> users_ = 0;
  static inline std::atomic<bool> reset_wanted_ = false;
};

Result<Stream> make_stream();  // of the least priority
Result<Event> make_event();

struct FreeDevice {
  void operator()(std::byte* p) const { cudaFree(p); }
};
struct FreePinned {
  void operator()(std::byte* p) const { cudaFreeHost(p); }
};
using DeviceMemory = std::unique_ptr<std::byte[], FreeDevice>;
using PinnedMemory = std::unique_ptr<std::byte[], FreePinned>;  // page-locked, of the host

Result<DeviceMemory> allocate_device(std::size_t bytes);
Result<PinnedMemory> allocate_pinned(std::size_t bytes);  // all zero

// Hands out a region piece by piece, each at a multiple of 256 bytes. Without a region it hands out null and counts:
// the plan and the allocation are one piece of code.
class Bump {
 public:
  Bump() = default;
  explicit Bump(std::byte* region) : region_(region) {}

  template <class T>
  T* take(std::size_t count) {
    const std::size_t at = used_;
    used_ = (used_ + count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return region_ == nullptr ? nullptr : reinterpret_cast<T*>(region_ + at);
  }
  std::size_t used() const { return used_; }

 private:
  static constexpr std::size_t kAlignment = 256;
  std::byte* region_ = nullptr;
  std::size_t used_ = 0;
};

struct DeviceInfo {
  std::string name;             // "NVIDIA H100 PCIe"
  std::string isa;              // "sm_90"
  std::string pci_bus_id;       // "0000:01:00.0"
  std::string cuda;             // that the driver is made for, "CUDA 13.0"
  bool integrated = false;      // its memory is the host's
  bool reads_pageable = false;  // kernels use any memory of the process
  bool registers = false;       // or what is registered
  std::uint64_t free = 0;       // bytes that nobody uses now
  std::uint64_t total = 0;
};
// Of the first device (CUDA_VISIBLE_DEVICES says which that is). Error: NOT_FOUND: no driver, or no device;
// UNSUPPORTED: a driver that does not work.
Result<DeviceInfo> find_device();

// Bytes that nobody uses now, from any thread. Of an integrated device: of the host's memory, where the runtime does
// not count what the kernel can take back from the page cache.
Result<std::uint64_t> free_memory(bool integrated);

}  // namespace sirocco::cuda
