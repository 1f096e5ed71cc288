// Devices and their properties, errors, configuration, and what tests ask for (cuda_emulator_control.h).
#include "host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace cudaemu {

Host& host = *new Host;  // never destroyed: the leak checker reaches what it holds

static thread_local int this_device = 0;
int current_device() {
  return this_device;
}

static Config read_config() {
  const auto variable = [](const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : otherwise);
  };
  using Schedule = Config::Schedule;
  const std::string schedule = variable("CUDAEMU_SCHED", "random");
  return {.schedule = schedule == "late"    ? Schedule::late
                      : schedule == "eager" ? Schedule::eager
                                            : Schedule::random,
          .seed = std::strtoull(variable("CUDAEMU_SEED", "1").c_str(), nullptr, 10),
          .resident = static_cast<unsigned>(std::max(1, std::atoi(variable("CUDAEMU_RESIDENT", "2").c_str()))),
          .strict_pinned = variable("CUDAEMU_STRICT_PINNED", "1") == "1"};
}

std::uint64_t seed() {
  return config().seed;
}
const Config& config() {
  static const Config instance = read_config();
  return instance;
}

static std::atomic<pid_t> lock_owner{0};
static int lock_depth = 0;
Lock::Lock() {
  const pid_t self = gettid();
  if (lock_owner.load() != self) {
    pid_t nobody = 0;
    while (!lock_owner.compare_exchange_weak(nobody, self)) {
      nobody = 0;
      sched_yield();
    }
  }
  ++lock_depth;
}
Lock::~Lock() {
  if (--lock_depth == 0) lock_owner.store(0);
}

cudaError_t returned(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) host.last_error = error;
  return error;
}

cudaError_t injected(const char* api, bool allocates) {
  if (host.machine.devices == 0) return cudaErrorNoDevice;
  if (host.breaks.calls > 0 && host.breaks.api == api && --host.breaks.calls == 0) {
    host.broken = host.breaks.error;
    for (CUstream_st* stream : host.streams) stream->queue.clear();
  }
  if (host.broken != cudaSuccess) return host.broken;
  if (host.calls_until_failure > 0 && --host.calls_until_failure == 0) {
    host.calls_until_failure = -1;
    return allocates ? cudaErrorMemoryAllocation : cudaErrorUnknown;
  }
  if (host.failures.empty()) return cudaSuccess;
  const auto it = host.failures.find(api);
  if (it == host.failures.end() || --it->second.first != 0) return cudaSuccess;
  return it->second.second;
}

// --- what tests ask for

void play(const Machine& machine) {
  const Lock lock;
  initialise();
  drain_all();
  for (CUstream_st* stream : host.streams) {
    order_drop(stream->order);
    delete stream;
  }
  host.streams.clear();
  host.events.clear();
  host.graphs = 0;
  host.failures.clear();
  host.calls_until_failure = 0;
  host.breaks = {};
  host.broken = cudaSuccess;
  host.copied = {};
  host.most_urgent = kLeastPriority;
  host.used_by_others = 0;
  host.last_error = cudaSuccess;
  host.machine = machine;
  this_device = 0;
  free_everything();
}

Copied copied() {
  const Lock lock;
  return host.copied;
}

int most_urgent_stream() {
  const Lock lock;
  return host.most_urgent;
}

void use_by_others(std::size_t bytes) {
  const Lock lock;
  host.used_by_others = bytes;
}

std::size_t live_objects() {
  const Lock lock;
  initialise();
  std::size_t live = host.pinned.size() + host.events.size() + static_cast<std::size_t>(host.graphs) +
                     host.streams.size() - host.devices.size();
  for (const Device& device : host.devices) {
    for (const auto& [address, allocation] : device.allocations) live += allocation.freed ? 0 : 1;
  }
  return live;
}

void fail_call(const char* api, int nth, cudaError_t error) {
  const Lock lock;
  host.failures[api] = {nth, error};
}

void break_device(const char* api, int nth, cudaError_t error, Mends mends) {
  const Lock lock;
  host.breaks = {.api = api, .calls = nth, .error = error, .for_good = mends == Mends::never};
}

void fail_nth_call(int nth) {
  const Lock lock;
  host.calls_until_failure = nth;
}

bool failure_happened() {
  const Lock lock;
  return std::exchange(host.calls_until_failure, 0) < 0;
}

static bool exists(int device) {
  return device >= 0 && device < host.machine.devices;
}

}  // namespace cudaemu

using namespace cudaemu;  // NOLINT: every function below is of the toolkit's header

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  CUDAEMU_API(cudaGetDeviceCount);
  *count = host.machine.devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  CUDAEMU_API(cudaSetDevice);
  if (!exists(device)) return returned(cudaErrorInvalidDevice);
  this_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  CUDAEMU_API(cudaGetDevice);
  *device = current_device();
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  CUDAEMU_API(cudaGetDeviceProperties);
  if (!exists(device)) return returned(cudaErrorInvalidDevice);
  std::memset(static_cast<void*>(properties), 0, sizeof *properties);
  std::strcpy(properties->name, "emulated GPU");
  properties->major = host.machine.compute_major;
  properties->minor = host.machine.compute_minor;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = host.machine.memory;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 163 << 10;
  properties->cooperativeLaunch = 1;
  properties->integrated = host.machine.integrated ? 1 : 0;
  properties->pageableMemoryAccess = host.machine.pageable_memory_access ? 1 : 0;
  properties->hostRegisterSupported = host.machine.host_register ? 1 : 0;
  properties->canMapHostMemory = 1;
  properties->unifiedAddressing = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  CUDAEMU_API(cudaDeviceGetAttribute);
  if (!exists(device)) return returned(cudaErrorInvalidDevice);
  const Machine& machine = host.machine;
  const std::map<int, int> values = {
      {cudaDevAttrMultiProcessorCount, 4},
      {cudaDevAttrComputeCapabilityMajor, machine.compute_major},
      {cudaDevAttrComputeCapabilityMinor, machine.compute_minor},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrMaxSharedMemoryPerBlock, 48 << 10},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 163 << 10},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrUnifiedAddressing, 1},
      {cudaDevAttrCanMapHostMemory, 1},
      {cudaDevAttrMemoryPoolsSupported, 1},
      {cudaDevAttrIntegrated, machine.integrated ? 1 : 0},
      {cudaDevAttrPageableMemoryAccess, machine.pageable_memory_access ? 1 : 0},
      {cudaDevAttrPageableMemoryAccessUsesHostPageTables, machine.pageable_memory_access ? 1 : 0},
      {cudaDevAttrHostRegisterSupported, machine.host_register ? 1 : 0},
      {cudaDevAttrHostRegisterReadOnlySupported, machine.host_register && machine.register_read_only ? 1 : 0},
      {cudaDevAttrCanUseHostPointerForRegisteredMem, machine.host_register ? 1 : 0},
  };
  const auto it = values.find(static_cast<int>(attribute));
  if (it == values.end()) fail("emulator", "device attribute %d is not played: host.cc", static_cast<int>(attribute));
  *value = it->second;
  return cudaSuccess;
}
cudaError_t cudaDeviceReset() {
  CUDAEMU_API_THAT_FREES;
  if (live_objects() != 0) fail("emulator", "cudaDeviceReset is played when everything has been freed alone");
  if (!host.breaks.for_good) host.broken = cudaSuccess;
  host.last_error = cudaSuccess;
  return host.broken;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  CUDAEMU_API(cudaDeviceGetStreamPriorityRange);
  *least = kLeastPriority;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  CUDAEMU_API(cudaDeviceCanAccessPeer);
  if (!exists(device) || !exists(peer)) return returned(cudaErrorInvalidDevice);
  *can = host.machine.peer_access && device != peer ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  CUDAEMU_API(cudaDeviceEnablePeerAccess);
  if (!exists(peer) || peer == current_device()) return returned(cudaErrorInvalidDevice);
  if (!host.machine.peer_access) return returned(cudaErrorPeerAccessUnsupported);
  char& enabled = host.devices[static_cast<std::size_t>(current_device())].peers[static_cast<std::size_t>(peer)];
  return std::exchange(enabled, 1) == 0 ? cudaSuccess : returned(cudaErrorPeerAccessAlreadyEnabled);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;  // no driver is installed where there is no device
  if (host.machine.devices == 0) return cudaSuccess;
  CUDAEMU_API(cudaDriverGetVersion);
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  CUDAEMU_API(cudaRuntimeGetVersion);
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  CUDAEMU_API(cudaFuncSetAttribute);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value > 163 << 10) return returned(cudaErrorInvalidValue);
  host.shared_limit[kernel] = value;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  CUDAEMU_API(cudaOccupancyMaxActiveBlocksPerMultiprocessor);
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  CUDAEMU_API(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags);
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const Lock lock;
  return std::exchange(host.last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  const Lock lock;
  return host.last_error;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorECCUncorrectable:
      return "cudaErrorECCUncorrectable";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}

}  // extern "C"
