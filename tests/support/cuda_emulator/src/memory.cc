// Memory of devices and page-locked memory of the host, and copies between them. Device memory can be touched only
// while device work runs; it is filled with 0xFF (NaN, -1), and poisoned for AddressSanitizer around every allocation
// and after its end.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "host.h"

namespace cudaemu {

namespace {

constexpr std::size_t kPage = 4096;

std::uintptr_t address(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p);
}

void protect(const Device& device, int protection) {
  if (device.used != 0) mprotect(device.base, device.used, protection);
}

}  // namespace

Device* device_of(const void* p) {
  const auto* byte = static_cast<const char*>(p);
  for (Device& device : host.devices) {
    if (byte >= device.base && byte < device.base + kAddressSpace) return &device;
  }
  return nullptr;
}

Allocations::value_type* find(Allocations& allocations, const void* p) {
  auto it = allocations.upper_bound(address(p));
  if (it == allocations.begin()) return nullptr;
  --it;
  return address(p) < it->first + it->second.size ? &*it : nullptr;
}

static bool may_touch(int device, int other) {
  return device == other || host.devices[static_cast<std::size_t>(device)].peers[static_cast<std::size_t>(other)] != 0;
}

OpenMemory::OpenMemory(int device) : device_(device) {
  for (int i = 0; i < host.machine.devices; ++i) {
    Device& other = host.devices[static_cast<std::size_t>(i)];
    if (may_touch(device, i) && other.open++ == 0) protect(other, PROT_READ | PROT_WRITE);
  }
}

OpenMemory::~OpenMemory() {
  for (int i = 0; i < host.machine.devices; ++i) {
    Device& other = host.devices[static_cast<std::size_t>(i)];
    if (may_touch(device_, i) && --other.open == 0) protect(other, PROT_NONE);
  }
}

ClosedMemory::ClosedMemory() {
  for (Device& device : host.devices) {
    open_.push_back(std::exchange(device.open, 0));
    protect(device, PROT_NONE);
  }
}

ClosedMemory::~ClosedMemory() {
  for (std::size_t i = 0; i < open_.size(); ++i) {
    host.devices[i].open = open_[i];
    if (open_[i] != 0) protect(host.devices[i], PROT_READ | PROT_WRITE);
  }
}

// A signal: somebody touched memory of a device that he must not.
static void on_fault(int, siginfo_t* info, void*) {
  const void* p = info->si_addr;
  Device* device = device_of(p);
  if (device == nullptr) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  bool device_work = current != nullptr;
  for (const Device& other : host.devices) device_work = device_work || other.open != 0;
  if (device_work) fail("device-oob", "access to memory %p that is not mapped on this device", p);
  auto it = device->allocations.upper_bound(address(p));
  if (it == device->allocations.begin()) fail("host-deref", "the host touches device memory %p", p);
  --it;
  fail("host-deref", "the host touches device memory %p: byte %zu of allocation #%d of %zu bytes", p,
       static_cast<std::size_t>(address(p) - it->first), it->second.id, it->second.size);
}

// Address space for a device: one that an earlier device had, or a new one.
static char* take_address_space() {
  if (!host.address_spaces.empty()) {
    char* base = host.address_spaces.back();
    host.address_spaces.pop_back();
    return base;
  }
  void* base = mmap(nullptr, kAddressSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) fail("emulator", "no address space for a device's memory");
  return static_cast<char*>(base);
}

static void prepare_devices() {
  host.devices.resize(static_cast<std::size_t>(host.machine.devices));
  int number = 0;
  for (Device& device : host.devices) {
    device.base = take_address_space();
    device.peers.resize(host.devices.size());
    device.null_stream = new_stream(number++, true);
  }
}

void initialise() {
  if (!host.devices.empty()) return;
  const char* megabytes = std::getenv("CUDAEMU_MEM_MB");
  if (megabytes != nullptr) host.machine.memory = std::strtoull(megabytes, nullptr, 10) << 20;
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  prepare_devices();
}

void free_everything() {
  for (Device& device : host.devices) {
    unpoison(device.base, device.used);
    madvise(device.base, device.used, MADV_DONTNEED);
    protect(device, PROT_NONE);
    host.address_spaces.push_back(device.base);
  }
  host.devices.clear();
  host.pinned.clear();  // its memory is the caller's to free, or lost
  prepare_devices();
}

static std::size_t free_bytes(const Device& device) {
  const std::size_t used = device.live + host.used_by_others;
  return host.machine.memory - std::min(used, host.machine.memory);
}

// --- checks of pointers

static void check_range(const void* p, std::size_t size, bool must_be_device, const char* what) {
  if (size == 0) return;
  Device* device = device_of(p);
  if (device == nullptr) {
    if (must_be_device && find(host.pinned, p) == nullptr) fail("bad-pointer", "%s: %p is not device memory", what, p);
    return;
  }
  const auto* found = find(device->allocations, p);
  if (found == nullptr || found->second.freed) {
    fail("bad-pointer", "%s: %p is in no live device allocation", what, p);
  }
  if (address(p) + size > found->first + found->second.size) {
    fail("device-oob", "%s: %zu bytes at byte %zu of allocation #%d of %zu bytes", what, size,
         static_cast<std::size_t>(address(p) - found->first), found->second.id, found->second.size);
  }
}

static void check_copy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  check_range(to, size, to_device, "copy destination");
  check_range(from, size, from_device, "copy source");
  if ((kind == cudaMemcpyHostToDevice && device_of(from) != nullptr) ||
      (kind == cudaMemcpyDeviceToHost && device_of(to) != nullptr)) {
    fail("bad-pointer", "the kind of the copy and its pointers disagree");
  }
}

static void check_page_locked(void* to, const void* from, std::size_t size) {
  if (!config().strict_pinned || size == 0) return;
  for (const void* p : {static_cast<const void*>(to), from}) {
    if (device_of(p) == nullptr && find(host.pinned, p) == nullptr) {
      fail("pageable-copy", "asynchronous copy with host memory %p that is not page-locked", p);
    }
  }
}

// Does any word of a kernel's argument point to memory that the device cannot read?
void check_argument(const void* bytes, std::size_t size, int index) {
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    std::uintptr_t word;
    std::memcpy(&word, static_cast<const char*>(bytes) + i, 8);
    // Programs, heaps and stacks are above 5 * 2^44; what is below, the sanitizers' shadows are: such a word is two
    // numbers side by side, of which the second is small.
    if (word < (5ull << 44) || word >> 47 != 0) continue;
    auto* p = reinterpret_cast<void*>(word);
    if (Device* device = device_of(p)) {
      const auto* found = find(device->allocations, p);
      if (found != nullptr && found->second.freed) {
        fail("use-after-free", "kernel argument %d points to freed device memory", index);
      }
      continue;
    }
    if (find(host.pinned, p) != nullptr || host.machine.pageable_memory_access) continue;
    unsigned char resident;
    if (mincore(reinterpret_cast<void*>(word & ~(kPage - 1)), 1, &resident) == 0) {
      fail("host-pointer", "kernel argument %d (byte %zu) points to plain host memory %p", index, i, p);
    }
  }
}

// --- allocation

static cudaError_t allocate(void** p, std::size_t size) {
  if (capturing()) return returned(cudaErrorStreamCaptureUnsupported);
  Device& device = host.devices[static_cast<std::size_t>(current_device())];
  *p = nullptr;
  if (size > free_bytes(device)) return returned(cudaErrorMemoryAllocation);
  if (size == 0) return cudaSuccess;
  const std::size_t begin = round_up(device.used, kPage);
  const std::size_t end = round_up(begin + size + 512, kPage);
  if (end > kAddressSpace) fail("emulator", "device address space used up");
  char* memory = device.base + begin;
  device.used = end;
  mprotect(memory, end - begin, PROT_READ | PROT_WRITE);
  std::memset(memory, 0xFF, end - begin);
  if (device.open == 0) mprotect(memory, end - begin, PROT_NONE);
  poison(memory, end - begin);
  unpoison(memory, size);
  device.allocations[address(memory)] = {size, false, ++host.ids};
  device.live += size;
  *p = memory;
  return cudaSuccess;
}

static void free_now(void* p) {
  Device* device = device_of(p);
  if (device == nullptr) fail("bad-free", "cudaFree of %p", p);
  const auto it = device->allocations.find(address(p));
  if (it == device->allocations.end() || it->second.freed) fail("bad-free", "cudaFree of %p", p);
  it->second.freed = true;
  device->live -= it->second.size;
  poison(p, it->second.size);
  madvise(p, round_up(it->second.size, kPage), MADV_DONTNEED);
}

static cudaError_t allocate_pinned(void** p, std::size_t size) {
  const std::size_t whole = round_up(size, kPage);
  *p = std::aligned_alloc(kPage, whole);
  if (*p == nullptr) return returned(cudaErrorMemoryAllocation);
  std::memset(*p, 0xFF, size);
  poison(static_cast<char*>(*p) + size, whole - size);
  host.pinned[address(*p)] = {size, false, 0};
  return cudaSuccess;
}

static void count_copy(const void* to, const void* from, std::size_t size) {
  const Device* target = device_of(to);
  const Device* source = device_of(from);
  if (target == nullptr && source == nullptr) return;
  if (target == nullptr) {
    host.copied.device_to_host += size;
  } else if (source == nullptr) {
    host.copied.host_to_device += size;
  } else {
    (target == source ? host.copied.within_device : host.copied.between_devices) += size;
  }
}

// Copies may touch any device's memory.
static void copy_now(void* to, const void* from, std::size_t size) {
  std::vector<std::unique_ptr<OpenMemory>> open;
  for (int i = 0; i < host.machine.devices; ++i) open.push_back(std::make_unique<OpenMemory>(i));
  std::memcpy(to, from, size);
}

static cudaError_t copy_in_order(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                                 cudaStream_t stream) {
  check_copy(to, from, size, kind);
  count_copy(to, from, size);
  return enqueue(stream, [=] {
    check_copy(to, from, size, kind);
    copy_now(to, from, size);
  });
}

}  // namespace cudaemu

using namespace cudaemu;  // NOLINT: every function below is of the toolkit's header

extern "C" {

cudaError_t cudaMalloc(void** p, size_t size) {
  CUDAEMU_API_OF(cudaMalloc, true);
  return allocate(p, size);
}
cudaError_t cudaMallocAsync(void** p, size_t size, cudaStream_t) {
  CUDAEMU_API_OF(cudaMallocAsync, true);
  return allocate(p, size);
}
cudaError_t cudaFree(void* p) {
  CUDAEMU_API_THAT_FREES;
  if (p == nullptr) return cudaSuccess;
  if (host.pinned.contains(address(p))) fail("bad-free", "cudaFree of page-locked memory %p: cudaFreeHost", p);
  drain_all();
  free_now(p);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  CUDAEMU_API_THAT_FREES;
  return enqueue(stream, [p] {
    if (p != nullptr) free_now(p);
  });
}
cudaError_t cudaHostAlloc(void** p, size_t size, unsigned) {
  CUDAEMU_API_OF(cudaHostAlloc, true);
  return allocate_pinned(p, size);
}
cudaError_t cudaMallocHost(void** p, size_t size) {
  CUDAEMU_API_OF(cudaMallocHost, true);
  return allocate_pinned(p, size);
}
cudaError_t cudaFreeHost(void* p) {
  CUDAEMU_API_THAT_FREES;
  if (p == nullptr) return cudaSuccess;
  drain_all();
  const auto it = host.pinned.find(address(p));
  if (it == host.pinned.end()) fail("bad-free", "cudaFreeHost of %p", p);
  unpoison(p, round_up(it->second.size, kPage));
  host.pinned.erase(it);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* p, size_t size, unsigned flags) {
  CUDAEMU_API_OF(cudaHostRegister, true);
  if (!host.machine.host_register) return returned(cudaErrorNotSupported);
  if ((flags & cudaHostRegisterReadOnly) != 0 && !host.machine.register_read_only) {
    return returned(cudaErrorNotSupported);
  }
  if (find(host.pinned, p) != nullptr) return returned(cudaErrorHostMemoryAlreadyRegistered);
  host.pinned[address(p)] = {size, false, 0};
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* p) {
  CUDAEMU_API_THAT_FREES;
  drain_all();
  return host.pinned.erase(address(p)) != 0 ? cudaSuccess : returned(cudaErrorHostMemoryNotRegistered);
}
cudaError_t cudaHostGetDevicePointer(void** device, void* p, unsigned) {
  CUDAEMU_API(cudaHostGetDevicePointer);
  if (find(host.pinned, p) == nullptr) return returned(cudaErrorInvalidValue);
  *device = p;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  CUDAEMU_API(cudaMemGetInfo);
  *total = host.machine.memory;
  *free = free_bytes(host.devices[static_cast<std::size_t>(current_device())]);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  CUDAEMU_API(cudaMemcpyAsync);
  check_page_locked(to, from, size);
  return copy_in_order(to, from, size, kind, stream);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t stream) {
  CUDAEMU_API(cudaMemcpyPeerAsync);
  return copy_in_order(to, from, size, cudaMemcpyDeviceToDevice, stream);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  CUDAEMU_API(cudaMemcpy);
  if (capturing()) return returned(cudaErrorStreamCaptureUnsupported);
  const cudaError_t error = copy_in_order(to, from, size, kind, nullptr);
  drain(resolve(nullptr));
  return error;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  CUDAEMU_API(cudaMemcpy2DAsync);
  for (size_t row = 0; row < height; ++row) {
    void* target = static_cast<char*>(to) + row * to_pitch;
    const void* source = static_cast<const char*>(from) + row * from_pitch;
    check_page_locked(target, source, width);
    if (const cudaError_t error = copy_in_order(target, source, width, kind, stream)) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t size, cudaStream_t stream) {
  CUDAEMU_API(cudaMemsetAsync);
  check_range(p, size, true, "memset");
  return enqueue(stream, [=] {
    check_range(p, size, true, "memset");
    std::memset(p, value, size);
  });
}
cudaError_t cudaMemset(void* p, int value, size_t size) {
  return cudaMemsetAsync(p, value, size, nullptr);
}

}  // extern "C"
