// What a kernel calls: barriers, warp operations, shared memory, asynchronous copies.
#include <algorithm>
#include <cstring>

#include "fibers.h"

namespace cudaemu {

static void wait_at(Thread* thread, const char* what, const char* file, int line) {
  thread->fiber->waits_for = what;
  thread->fiber->file = file;
  thread->fiber->line = line;
}

int block_sync(Barrier kind, int predicate, const char* file, int line) {
  Thread* self = current;
  Block& block = *self->block;
  scheduler.idle_yields = 0;
  if (block.exited != 0) {
    fail("divergent-barrier", "__syncthreads %s:%d after %zu threads of the block have exited", file, line,
         block.exited);
  }
  if (block.waiting.empty()) {
    block.barrier = kind;
    block.count = 0;
  } else {
    const Thread::Fiber& other = *block.waiting[0]->fiber;
    if (block.barrier != kind || other.line != line || std::strcmp(other.file, file) != 0) {
      fail("divergent-barrier", "threads of one block wait at different barriers: %s:%d and %s:%d", other.file,
           other.line, file, line);
    }
  }
  block.count += predicate != 0 ? 1 : 0;
  char* clock = &block.clocks[block.generation & 1];
  order_release(clock);
  wait_at(self, "waits at __syncthreads", file, line);
  {
    const Unseen unseen;
    block.waiting.push_back(self);
  }
  if (block.waiting.size() == block.threads.size()) {
    const int all = static_cast<int>(block.threads.size());
    block.result = kind == Barrier::count ? block.count : kind == Barrier::all ? block.count == all : block.count > 0;
    ++block.generation;
    for (Thread* thread : block.waiting) wake(thread);
    block.waiting.clear();
  }
  leave(self);
  order_acquire(clock);
  return block.result;
}

void grid_sync(const char* file, int line) {
  Thread* self = current;
  if (!scheduler.launch->cooperative) {
    fail("grid-sync", "grid barrier at %s:%d in a launch without the cooperative attribute", file, line);
  }
  wait_at(self, "waits at a grid barrier", file, line);
  std::size_t all = 0;
  for (const Block* block : scheduler.blocks) {
    all += block->threads.size();
    if (block->exited != 0) fail("divergent-barrier", "grid barrier %s:%d after threads have exited", file, line);
  }
  char* clock = &scheduler.grid_clocks[scheduler.grid_generation & 1];
  order_release(clock);
  {
    const Unseen unseen;
    scheduler.grid_waiting.push_back(self);
  }
  if (scheduler.grid_waiting.size() == all) {
    ++scheduler.grid_generation;
    for (Thread* thread : scheduler.grid_waiting) wake(thread);
    scheduler.grid_waiting.clear();
  }
  leave(self);
  order_acquire(clock);
}

// The meeting of exactly this mask; others of its lanes must not wait elsewhere.
static Meeting& find_meeting(Warp& warp, unsigned mask, const char* name, const char* file, int line) {
  Meeting* found = nullptr;
  for (const auto& meeting : warp.meetings) {
    if (meeting->mask == mask) {
      found = meeting.get();
    } else if (meeting->arrived != 0 && (meeting->mask & mask) != 0) {
      fail("divergent-warp", "%s %s:%d with mask %08x while lanes wait at %s with mask %08x", name, file, line, mask,
           meeting->name, meeting->mask);
    }
  }
  if (found != nullptr) return *found;
  const Unseen unseen;
  warp.meetings.push_back(std::make_unique<Meeting>());
  warp.meetings.back()->mask = mask;
  return *warp.meetings.back();
}

void warp_operation(unsigned mask, WarpOperation operation, const char* name, void* argument, bool orders_memory,
                    const char* file, int line) {
  Thread* self = current;
  Warp& warp = self->block->warps[self->warp];
  scheduler.idle_yields = 0;
  if ((mask >> self->lane & 1) == 0) {
    fail("divergent-warp", "%s %s:%d: lane %u is not in its own mask %08x", name, file, line, self->lane, mask);
  }
  if ((mask & ~warp.exist) != 0) {
    fail("divergent-warp", "%s %s:%d: mask %08x names lanes that the block does not have (%08x)", name, file, line,
         mask, warp.exist);
  }
  if ((mask & warp.exited) != 0) {
    fail("divergent-warp", "%s %s:%d: mask %08x names lanes that have exited (%08x)", name, file, line, mask,
         warp.exited);
  }
  Meeting& meeting = find_meeting(warp, mask, name, file, line);
  if (meeting.arrived == 0) {
    meeting.operation = operation;
    meeting.name = name;
  } else if (meeting.operation != operation) {
    fail("divergent-warp", "%s %s:%d while other lanes of the mask wait at %s", name, file, line, meeting.name);
  }
  char* clock = &meeting.clocks[meeting.generation & 1];
  if (orders_memory) order_release(clock);
  wait_at(self, name, file, line);
  meeting.arguments[self->lane] = argument;
  meeting.threads[self->lane] = self;
  meeting.arrived |= 1u << self->lane;
  if (meeting.arrived == mask) {
    {
      const Unseen unseen;
      operation(meeting.arguments, mask);
    }
    ++meeting.generation;
    meeting.arrived = 0;
    for (int i = 0; i < 32; ++i) {
      if (mask >> i & 1) wake(meeting.threads[i]);
    }
  }
  leave(self);
  if (orders_memory) order_acquire(clock);
}

void yield() {
  constexpr std::uint64_t kHopeless = 20'000'000;
  if (++scheduler.idle_yields > kHopeless) {
    fail("hang", "threads spin without progress: do they wait for a block that is not resident?");
  }
  wake(current);
  leave(current);
}

void yield_sometimes() {
  if (random().below(4) == 0) yield();
}

void fence() {
  order_acquire(&scheduler.fence_clock);
  order_release(&scheduler.fence_clock);
}

void ask_again() {
  scheduler.ask_again = true;
}

bool asked_again() {
  return scheduler.ask_again;
}
bool take_ask_again() {
  return std::exchange(scheduler.ask_again, false);
}

// --- shared memory

void* dynamic_shared() {
  return current->block->dynamic;
}

void* shared_array(const void* key, std::size_t size, std::size_t alignment) {
  Block& block = *current->block;
  for (const auto& [known, array] : block.arrays) {
    if (known == key) return array;
  }
  const std::size_t begin = round_up(block.used, std::max<std::size_t>(alignment, 16));
  if (begin + size - scheduler.launch->dynamic_shared > kStaticSharedBytes) {
    fail("shared-memory", "more than 48 KiB of static shared memory");
  }
  void* array = block.arena + begin;
  unpoison(array, size);
  block.used = begin + round_up(size, 8) + kRedZone;
  const Unseen unseen;
  block.arrays.emplace_back(key, array);
  return array;
}

// --- cp.async: copied as late as is allowed, at the wait; the destination is spoilt at once

void copy_async(void* to, const void* from, unsigned bytes) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 || reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    fail("misaligned", "cp.async of %u bytes from %p to %p", bytes, from, to);
  }
  {
    const Unseen unseen;
    auto& copies = current->fiber->copies;
    if (copies.empty()) copies.emplace_back();
    copies.back().push_back({to, from, bytes});
  }
  std::memset(to, 0xFF, bytes);
}

void copy_async_commit() {
  const Unseen unseen;
  auto& copies = current->fiber->copies;
  if (copies.empty()) copies.emplace_back();
  copies.emplace_back();
}

void copy_async_wait(int pending) {
  auto& copies = current->fiber->copies;
  while (static_cast<int>(copies.size()) - 1 > pending) {
    for (const AsyncCopy& copy : copies.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    const Unseen unseen;
    copies.pop_front();
  }
}

}  // namespace cudaemu
