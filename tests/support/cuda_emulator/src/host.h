// The host's side: devices with their memory, streams, events, graphs. One lock around every call of the API; work runs
// on the thread that must wait for it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda_emulator_control.h"
#include "internal.h"

struct CUevent_st {
  std::uint64_t recorded = 0;
  std::uint64_t done = 0;
  CUstream_st* stream = nullptr;
  int device = 0;
  char clock = 0;
  // recorded by a stream that is captured:
  CUgraph_st* graph = nullptr;
  std::vector<std::size_t> nodes;
};

namespace cudaemu {

struct Operation {
  enum class Kind { run, record, wait } kind = Kind::run;
  std::function<void()> work;
  std::shared_ptr<CUevent_st> event;
  std::uint64_t version = 0;  // of the event
  std::shared_ptr<char> clock = std::make_shared<char>();
};

struct Node {
  std::function<void()> work;
  std::vector<std::size_t> after;
  char clock = 0;
  void* order = nullptr;
};

}  // namespace cudaemu

struct CUgraph_st {
  std::vector<cudaemu::Node> nodes;
};
struct CUgraphExec_st {
  std::vector<cudaemu::Node> nodes;
  int device = 0;
  // of the replay that is under way:
  std::vector<char> done = {};  // [nodes]; empty: none is
  char begin_clock = 0;
};
struct CUstream_st {
  std::deque<cudaemu::Operation> queue;
  int device = 0;
  bool blocking = true;  // ordered with the device's null stream
  bool running = false;
  bool waits_for_host = false;  // the first operation comes again when the host asks for this stream
  void* order = nullptr;
  char done_clock = 0;
  // while it is captured:
  CUgraph_st* graph = nullptr;
  bool began_capture = false;
  std::vector<std::size_t> last;  // nodes that the next one comes after
};

namespace cudaemu {

// A recursive spin lock that ThreadSanitizer does not see: calls from two host threads order nothing.
struct Lock {
  Lock();
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

struct Allocation {
  std::size_t size;
  bool freed;
  int id;
};
using Allocations = std::map<std::uintptr_t, Allocation>;  // by address

struct Device {
  char* base = nullptr;  // address space of its own; addresses are never handed out again
  std::size_t used = 0;
  std::size_t live = 0;
  int open = 0;  // device work that runs: without, nothing of the memory can be touched
  Allocations allocations;
  CUstream_st* null_stream = nullptr;
  std::vector<char> peers;  // [devices] whose memory it may touch
};
// Of streams. On GPUs the least is the default one; here not, to tell who has asked for it.
inline constexpr int kLeastPriority = 1;
inline constexpr int kDefaultPriority = 0;
inline constexpr std::size_t kAddressSpace = std::size_t{64} << 30;  // of one device

struct Host {
  Machine machine;
  std::vector<Device> devices;
  std::vector<char*> address_spaces;  // of devices that are no more
  Allocations pinned;                 // page-locked memory of the host
  int ids = 0;
  std::vector<CUstream_st*> streams;
  std::map<CUevent_st*, std::shared_ptr<CUevent_st>> events;
  int graphs = 0;
  std::map<const void*, int> shared_limit;  // of a kernel, bytes of dynamic shared memory
  cudaError_t last_error = cudaSuccess;
  Copied copied;
  int most_urgent = kLeastPriority;  // of streams since the last play()
  std::size_t used_by_others = 0;    // bytes of each device
  std::map<std::string, std::pair<int, cudaError_t>> failures;
  int calls_until_failure = 0;
  struct Break {
    std::string api;
    int calls = 0;  // of it, until the device breaks
    cudaError_t error = cudaSuccess;
    bool for_good = false;
  } breaks;
  cudaError_t broken = cudaSuccess;
};
extern Host& host;

void initialise();
int current_device();
cudaError_t returned(cudaError_t error);  // remembers it for cudaGetLastError
// The error that a test has asked for, or that there is no device, or success.
cudaError_t injected(const char* api, bool allocates);

// The beginning of every function of the API that can fail.
#define CUDAEMU_API(name) CUDAEMU_API_OF(name, false)
#define CUDAEMU_API_OF(name, allocates) \
  const ::cudaemu::Lock lock;           \
  ::cudaemu::initialise();              \
  if (const cudaError_t failure = ::cudaemu::injected(#name, allocates)) return returned(failure)
// Of what frees.
#define CUDAEMU_API_THAT_FREES \
  const ::cudaemu::Lock lock;  \
  ::cudaemu::initialise()

// --- memory.cc

Device* device_of(const void* p);  // null: memory of the host
Allocations::value_type* find(Allocations& allocations, const void* p);
// The memory of a device and its peers can be touched; or of none, for a function of the host that a stream calls.
class OpenMemory {
 public:
  explicit OpenMemory(int device);
  ~OpenMemory();
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;

 private:
  int device_;
};
class ClosedMemory {
 public:
  ClosedMemory();
  ~ClosedMemory();
  ClosedMemory(const ClosedMemory&) = delete;
  ClosedMemory& operator=(const ClosedMemory&) = delete;

 private:
  std::vector<int> open_;
};
void free_everything();

// --- streams.cc

CUstream_st* resolve(cudaStream_t stream);  // null: the current device's null stream
CUstream_st* new_stream(int device, bool blocking);
void drain(CUstream_st* stream);
void drain_all();
bool capturing();
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace cudaemu

using cudaemu::returned;
