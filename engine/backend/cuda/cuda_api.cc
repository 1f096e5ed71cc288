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
  int least = 0;
  int greatest = 0;
  SIROCCO_CHECK(checked(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange"));
  cudaStream_t stream = nullptr;
  SIROCCO_CHECK(
      checked(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, least), "cudaStreamCreateWithPriority"));
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
  DeviceInfo info = {.name = properties.name,
                     .isa = fmt::format("sm_{}{}", properties.major, properties.minor),
                     .pci_bus_id = fmt::format("{:04x}:{:02x}:{:02x}.0", properties.pciDomainID, properties.pciBusID,
                                               properties.pciDeviceID),
                     .cuda = fmt::format("CUDA {}.{}", driver / 1000, driver % 1000 / 10),
                     .integrated = properties.integrated != 0,
                     .reads_pageable = properties.pageableMemoryAccess != 0,
                     .registers = properties.hostRegisterSupported != 0,
                     .free = 0,
                     .total = properties.totalGlobalMem};
  SIROCCO_TRY(info.free, free_memory(info.integrated));
  return info;
}

Result<std::uint64_t> free_memory(bool integrated) {
  if (integrated) return memory_status().free();
  std::size_t free = 0;
  std::size_t total = 0;
  SIROCCO_CHECK(checked(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  return free;
}

}  // namespace sirocco::cuda
