#include "engine/experts/slot_memory.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "engine/base/bytes.h"

namespace sirocco {
namespace {

constexpr std::uint64_t kHugePage = 2 * MiB;

}  // namespace

SlotMemory::~SlotMemory() {
  if (base_ != nullptr) munmap(base_, slots_ * slot_bytes_);
}

Result<void> SlotMemory::reserve(std::size_t slots, std::uint64_t slot_bytes) {
  const std::uint64_t bytes = slots * slot_bytes;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return fail(ErrorCode::out_of_memory, "addresses for {} experts, {}: {} (ulimit -v)", slots, format_bytes(bytes),
                errno_message(errno));
  base_ = static_cast<std::byte*>(memory);
  slots_ = slots;
  slot_bytes_ = slot_bytes;
  if (bytes >= kHugePage) madvise(base_, bytes, MADV_HUGEPAGE);  // fewer TLB misses, where there are any
  return {};
}

// Locking is by system calls: sanitizers make munlock() do nothing, but let mlock2() through.
void SlotMemory::take(std::span<const std::size_t> slots) {
  for (std::size_t first = 0; locked_ && first < slots.size();) {
    std::size_t count = 1;
    while (first + count < slots.size() && slots[first + count] == slots[first] + count) ++count;
    locked_ = syscall(SYS_mlock2, at(slots[first]), count * slot_bytes_, MLOCK_ONFAULT) == 0;
    first += count;
  }
}

// What is locked is not given back.
void SlotMemory::give_back(std::size_t slot) {
  syscall(SYS_munlock, at(slot), slot_bytes_);
  madvise(at(slot), slot_bytes_, MADV_DONTNEED);
}

}  // namespace sirocco
