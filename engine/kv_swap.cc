#include "engine/kv_swap.h"

#include <cassert>

namespace sirocco {
namespace {

constexpr std::chrono::minutes kAfterTrouble(1);

}  // namespace

bool KvSwap::has_room(std::uint64_t blocks) const {
  return file_ && blocks <= file_->free() && (!trouble_ || Clock::now() >= retry_);
}

void KvSwap::move_out(RunningRequest& request, std::uint32_t first, std::uint32_t end) {
  RunningRequest::MovedOut& moved = request.moved_out();
  moved.first = first;
  std::optional<Error> error;
  for (std::uint32_t i = first; i < end && !error; ++i) {
    Result<void> exported;
    {
      const std::lock_guard lock(mutex_);
      exported = backend_.export_block(request.blocks()[i], block_);
    }
    if (!exported) {
      error = exported.error();
    } else if (const auto slot = file_->write(block_)) {
      moved.slots.push_back(*slot);
    } else {
      error = slot.error();
    }
  }
  const std::lock_guard lock(mutex_);
  const std::uint64_t bytes = moved.slots.size() * block_.size();
  ++counters_.requests_out;
  counters_.bytes_out += bytes;
  counters_.bytes_now += bytes;
  trouble_.reset();
  if (error) set_trouble(*std::move(error));
}

std::uint32_t KvSwap::move_in(RunningRequest& request, std::uint32_t first) {
  const RunningRequest::MovedOut& moved = request.moved_out();
  assert(first >= moved.first);
  const std::uint32_t end = moved.first + static_cast<std::uint32_t>(moved.slots.size());
  std::uint32_t at = first;
  std::optional<Error> error;
  for (; at < end; ++at) {
    Result<void> imported = file_->read(moved.slots[at - moved.first], block_);
    const std::lock_guard lock(mutex_);
    if (imported) imported = backend_.import_block(request.blocks()[at], block_);
    if (imported) continue;
    error = imported.error();
    break;
  }
  const std::lock_guard lock(mutex_);
  counters_.bytes_in += (at - first) * block_.size();
  if (error) set_trouble(*std::move(error));
  forget(request);
  return at;
}

// With the mutex held.
void KvSwap::set_trouble(Error error) {
  trouble_ = std::move(error);
  retry_ = Clock::now() + kAfterTrouble;
}

void KvSwap::forget(RunningRequest& request) {
  RunningRequest::MovedOut& moved = request.moved_out();
  for (const SwapSlot slot : moved.slots) file_->release(slot);
  counters_.bytes_now -= moved.slots.size() * block_.size();
  moved = {};
}

}  // namespace sirocco
