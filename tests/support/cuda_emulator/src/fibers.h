// The state of the launch that runs: its blocks, warps and threads. All of it belongs to the OS thread that runs it.
#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "internal.h"

namespace cudaemu {

struct AsyncCopy {
  void* to;
  const void* from;
  unsigned bytes;
};

struct Thread::Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* order = nullptr;       // ThreadSanitizer's
  const char* waits_for = nullptr;
  const char* file = "";
  int line = 0;
  bool done = false;
  std::deque<std::vector<AsyncCopy>> copies;  // committed groups; the last one is open
};

// Where the lanes of one mask meet.
struct Meeting {
  unsigned mask = 0;
  unsigned arrived = 0;
  WarpOperation operation{};
  const char* name = "";
  void* arguments[32]{};
  Thread* threads[32]{};
  int generation = 0;
  char clocks[2]{};
};
struct Warp {
  unsigned exist = 0;
  unsigned exited = 0;
  std::vector<std::unique_ptr<Meeting>> meetings;
};

struct Block {
  std::vector<Thread*> threads;
  std::vector<Warp> warps;
  std::size_t live = 0;
  std::size_t exited = 0;
  // the barrier
  std::vector<Thread*> waiting;
  Barrier barrier{};
  int count = 0;
  int result = 0;
  int generation = 0;
  char clocks[2]{};
  // shared memory
  char* arena = nullptr;
  std::size_t used = 0;
  void* dynamic = nullptr;
  std::vector<std::pair<const void*, void*>> arrays;
};

inline constexpr std::size_t kStackBytes = 128 << 10;
inline constexpr std::size_t kArenaBytes = 512 << 10;
inline constexpr std::size_t kStaticSharedBytes = 48 << 10;
inline constexpr std::size_t kRedZone = 64;

struct Scheduler {
  Launch* launch = nullptr;
  std::vector<Thread*> ready;
  std::vector<Thread*> grid_waiting;
  std::vector<Thread*> pool;
  std::vector<Block*> blocks;
  std::vector<char*> arenas;
  bool block_done = false;
  void* stack_pointer = nullptr;  // of the OS thread that runs the launch
  void* order = nullptr;
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_size = 0;
  char start_clock = 0;
  char end_clock = 0;
  char fence_clock = 0;
  char grid_clocks[2]{};
  int grid_generation = 0;
  std::uint64_t idle_yields = 0;
  bool ask_again = false;
};
extern Scheduler& scheduler;

void wake(Thread* thread);
// The running thread waits, or is done: another one runs.
void leave(Thread* thread);

}  // namespace cudaemu
