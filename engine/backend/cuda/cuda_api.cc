#include "engine/backend/cuda/cuda_api.h"

#include <algorithm>
#include <cstring>

#include "engine/base/cgroup.h"

namespace sirocco::cuda {

Result<void> checked(cudaError_t status, std::string_view call) {
  if (status == cudaSuccess) return {};
  cudaGetLastError();  // or the next call that looks reports this one's failure
  const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::io;
  return fail(code, "{}: {} ({})", call, cudaGetErrorName(status), cudaGetErrorString(status));
}

Result<Stream> make_stream() {
  cudaStream_t stream = nullptr;
  SIROCCO_CHECK(checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
  return Stream(stream);
}

Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  SIROCCO_CHECK(checked(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
  return Event(event);
}

Result<DeviceMemory> allocate_device(std::size_t bytes) {
  void* memory = nullptr;
  SIROCCO_CHECK(checked(cudaMalloc(&memory, bytes), fmt::format("cudaMalloc of {} bytes", bytes)));
  return DeviceMemory(static_cast<std::byte*>(memory));
}

Result<PinnedMemory> allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  SIROCCO_CHECK(
      checked(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), fmt::format("cudaHostAlloc of {} bytes", bytes)));
  std::memset(memory, 0, bytes);
  return PinnedMemory(static_cast<std::byte*>(memory));
}

Result<DeviceInfo> find_device() {
  int driver = 0;
  SIROCCO_CHECK(checked(cudaDriverGetVersion(&driver), "cudaDriverGetVersion"));
  if (driver == 0) return fail(ErrorCode::not_found, "backend \"cuda\": no NVIDIA driver is installed; use cpu");
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return fail(ErrorCode::not_found, "backend \"cuda\": there is no device; use cpu");
  if (status != cudaSuccess) {
    cudaGetLastError();
    return fail(ErrorCode::unsupported,
                "backend \"cuda\": {} ({}); the driver is for CUDA {}.{}: look at it with nvidia-smi, or use cpu",
                cudaGetErrorString(status), cudaGetErrorName(status), driver / 1000, driver % 1000 / 10);
  }
  cudaDeviceProp properties = {};
  SIROCCO_CHECK(checked(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties"));
  std::size_t free = 0;
  std::size_t total = 0;
  SIROCCO_CHECK(checked(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  DeviceInfo info = {.name = properties.name,
                     .isa = fmt::format("sm_{}{}", properties.major, properties.minor),
                     .integrated = properties.integrated != 0,
                     .reads_pageable = properties.pageableMemoryAccess != 0,
                     .registers = properties.hostRegisterSupported != 0,
                     .free = free,
                     .total = total};
  // There the runtime does not count what the kernel can take back from the page cache.
  if (info.integrated) info.free = memory_status().free();
  return info;
}

}  // namespace sirocco::cuda
