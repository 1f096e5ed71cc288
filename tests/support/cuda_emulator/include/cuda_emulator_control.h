// What a test tells the emulator and asks of it, on the host. From one thread, while nothing is under way.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace cudaemu {

// The machine that is played. Default: one discrete GPU.
struct Machine {
  int devices = 1;
  std::size_t memory = std::size_t{4} << 30;  // bytes of each device
  bool integrated = false;                    // device and host share one memory
  bool pageable_memory_access = false;        // kernels may read any memory of the host
  bool host_register = true;                  // cudaHostRegister works
  bool register_read_only = true;             // also on memory that may only be read
  bool peer_access = true;                    // between any two devices
  int compute_major = 8;
  int compute_minor = 7;
};
// Frees everything and begins anew: no pointer, stream or event is valid afterwards.
void play(const Machine& machine);

// Bytes of copies that were asked for since the last play().
struct Copied {
  std::uint64_t host_to_device = 0;
  std::uint64_t device_to_host = 0;
  std::uint64_t within_device = 0;
  std::uint64_t between_devices = 0;
};
Copied copied();

// The priority of the most urgent stream that was made since the last play(); smaller is more urgent, 1 the least.
int most_urgent_stream();

// Other processes take so much of each device's memory, from now on until the next play().
void use_by_others(std::size_t bytes);

// What is live on all devices: allocations (page-locked ones included), streams, events and graphs. For leaks.
std::size_t live_objects();

// The nth call of `api` from now on returns `error` and does nothing.
void fail_call(const char* api, int nth, cudaError_t error);

// The nth call of `api` from now on breaks the device: all that is enqueued is lost, and every call returns `error`
// until cudaDeviceReset, or for good. Those that free and destroy work.
enum class Mends { by_reset, never };
void break_device(const char* api, int nth, cudaError_t error, Mends mends);

// The nth call of any function that can fail, from now on, returns an error: cudaErrorMemoryAllocation of what
// allocates, else cudaErrorUnknown. Those that free and destroy, and cudaGetLastError, always work.
void fail_nth_call(int nth);
// Whether it has failed since; disarms it.
bool failure_happened();

// Runs work(), which wants the whole device to itself, with the first call failing, with the second, and so on until no
// call is left to fail (or only each `every`th); returns how many failed.
template <class Work>
int for_each_failure(Work work, int every = 1) {
  for (int failed = 0;; ++failed) {
    fail_nth_call(1 + failed * every);
    work();
    if (!failure_happened()) return failed;
  }
}

}  // namespace cudaemu
