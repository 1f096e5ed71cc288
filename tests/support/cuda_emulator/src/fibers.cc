// Runs one kernel launch, all its CUDA threads on the calling OS thread, each in a fiber of its own.
#include "fibers.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

// cudaemu_switch(save, to): pushes the registers that a function keeps, stores the stack pointer in *save, and goes on
// where `to` was stored.
#if defined(__x86_64__)
asm(R"(.text
.globl cudaemu_switch
.type cudaemu_switch,@function
cudaemu_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp,(%rdi); mov %rsi,%rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
.size cudaemu_switch,.-cudaemu_switch
)");
static constexpr int kEntryWord = 6;
static constexpr int kFrameWords = 8;
#elif defined(__aarch64__)
asm(R"(.text
.globl cudaemu_switch
.type cudaemu_switch,%function
cudaemu_switch:
  sub sp,sp,#160
  stp x19,x20,[sp,#0]; stp x21,x22,[sp,#16]; stp x23,x24,[sp,#32]; stp x25,x26,[sp,#48]
  stp x27,x28,[sp,#64]; stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96]; stp d10,d11,[sp,#112]; stp d12,d13,[sp,#128]; stp d14,d15,[sp,#144]
  mov x9,sp; str x9,[x0]; mov sp,x1
  ldp x19,x20,[sp,#0]; ldp x21,x22,[sp,#16]; ldp x23,x24,[sp,#32]; ldp x25,x26,[sp,#48]
  ldp x27,x28,[sp,#64]; ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96]; ldp d10,d11,[sp,#112]; ldp d12,d13,[sp,#128]; ldp d14,d15,[sp,#144]
  add sp,sp,#160
  ret
.size cudaemu_switch,.-cudaemu_switch
)");
static constexpr int kEntryWord = 11;
static constexpr int kFrameWords = 20;
#else
#error "the emulator has no switch of fibers for this processor"
#endif
extern "C" void cudaemu_switch(void** save, void* to);

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cudaemu {

Thread* current = nullptr;
Scheduler& scheduler = *new Scheduler;  // never destroyed: the leak checker reaches what it holds

Random& random() {
  static Random instance{config().seed * 0x9E3779B97F4A7C15ull + 0x1234567};
  return instance;
}

void fail(const char* kind, const char* format, ...) {
  std::fprintf(stderr, "\nCUDAEMU ERROR [%s]: ", kind);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (current != nullptr) {
    const uint3& block = current->block_index;
    const uint3& thread = current->thread_index;
    std::fprintf(stderr, "\n  in block (%u,%u,%u) thread (%u,%u,%u)", block.x, block.y, block.z, thread.x, thread.y,
                 thread.z);
  }
  std::fprintf(stderr, "\n  seed %llu\n", static_cast<unsigned long long>(config().seed));
  std::fflush(nullptr);
  std::abort();
}

static void print_waiting() {
  int printed = 0;
  for (const Block* block : scheduler.blocks) {
    for (const Thread* thread : block->threads) {
      if (printed++ == 8) return;
      const Thread::Fiber& fiber = *thread->fiber;
      std::fprintf(stderr, "  block %u thread %u: %s %s:%d\n", thread->block_index.x, thread->linear,
                   fiber.done ? "exited" : fiber.waits_for, fiber.file, fiber.line);
    }
  }
}

// --- switching

static void to_thread(Thread* thread, void** save, [[maybe_unused]] void** fake_stack) {
  current = thread;
  threadIdx = thread->thread_index;
  blockIdx = thread->block_index;
#if EMU_ASAN
  __sanitizer_start_switch_fiber(fake_stack, thread->fiber->stack, kStackBytes);
#endif
  order_switch(thread->fiber->order);
  cudaemu_switch(save, thread->fiber->stack_pointer);
#if EMU_ASAN
  __sanitizer_finish_switch_fiber(*fake_stack, nullptr, nullptr);
#endif
}

static void to_scheduler(Thread* from) {
  current = nullptr;
#if EMU_ASAN
  __sanitizer_start_switch_fiber(&from->fiber->fake_stack, scheduler.stack_bottom, scheduler.stack_size);
#endif
  order_switch(scheduler.order);
  cudaemu_switch(&from->fiber->stack_pointer, scheduler.stack_pointer);
#if EMU_ASAN
  __sanitizer_finish_switch_fiber(from->fiber->fake_stack, nullptr, nullptr);
#endif
}

static Thread* take_any_ready() {
  const std::size_t i = random().below(scheduler.ready.size());
  Thread* thread = scheduler.ready[i];
  scheduler.ready[i] = scheduler.ready.back();
  scheduler.ready.pop_back();
  return thread;
}

void leave(Thread* thread) {
  if (scheduler.block_done || scheduler.ready.empty()) return to_scheduler(thread);
  Thread* next = take_any_ready();
  if (next != thread) to_thread(next, &thread->fiber->stack_pointer, &thread->fiber->fake_stack);
}

void wake(Thread* thread) {
  const Unseen unseen;
  thread->fiber->waits_for = "ready";
  scheduler.ready.push_back(thread);
}

// --- threads

static void run_thread(Thread* thread) {
  order_acquire(&scheduler.start_clock);
  scheduler.launch->body();
  const auto& copies = thread->fiber->copies;
  if (copies.size() > 1 || (copies.size() == 1 && !copies[0].empty())) {
    fail("cp.async", "the thread exits with copies that it has not waited for");
  }
  order_release(&scheduler.end_clock);
  thread->fiber->done = true;
  Block& block = *thread->block;
  ++block.exited;
  if (!block.waiting.empty()) {
    const Thread::Fiber& other = *block.waiting[0]->fiber;
    fail("divergent-barrier", "the thread exits while %zu threads wait at __syncthreads %s:%d", block.waiting.size(),
         other.file, other.line);
  }
  Warp& warp = block.warps[thread->warp];
  warp.exited |= 1u << thread->lane;
  for (const auto& meeting : warp.meetings) {
    if (meeting->arrived != 0 && (meeting->mask >> thread->lane & 1) != 0) {
      fail("divergent-warp", "lane %u exits, but is in the mask %08x of a waiting %s", thread->lane, meeting->mask,
           meeting->name);
    }
  }
  if (--block.live == 0) scheduler.block_done = true;
}

static void fiber_main() {
#if EMU_ASAN
  const void* bottom;
  std::size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
#endif
  for (;;) {  // a fiber is used again, by the thread of another block
    Thread* thread = current;
    run_thread(thread);
    leave(thread);
  }
}

static char* map_memory(std::size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) fail("emulator", "no memory for %zu bytes of stacks or shared memory", bytes);
  return static_cast<char*>(p);
}

static Thread* new_thread() {
  auto* thread = new Thread;
  thread->fiber = new Thread::Fiber;
  constexpr std::size_t kGuard = 4096;
  char* memory = map_memory(kGuard + kStackBytes);
  mprotect(memory, kGuard, PROT_NONE);
  thread->fiber->stack = memory + kGuard;
  auto** top = reinterpret_cast<void**>(memory + kGuard + kStackBytes) - kFrameWords;
  std::fill_n(top, kFrameWords, nullptr);
  top[kEntryWord] = reinterpret_cast<void*>(&fiber_main);
  thread->fiber->stack_pointer = top;
  thread->fiber->order = order_new_fiber();
  return thread;
}

// --- blocks

static void prepare_shared_memory(Block& block, std::size_t dynamic_bytes) {
  if (scheduler.arenas.empty()) scheduler.arenas.push_back(map_memory(kArenaBytes));
  block.arena = scheduler.arenas.back();
  scheduler.arenas.pop_back();
  unpoison(block.arena, kArenaBytes);
#if EMU_TSAN  // forgets the last block's accesses
  mmap(block.arena, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#endif
  std::memset(block.arena, 0xFF, dynamic_bytes + 2 * kRedZone + kStaticSharedBytes);  // NaN in all floats; -1 in ints
  poison(block.arena, kArenaBytes);
  block.dynamic = block.arena + kRedZone;
  unpoison(block.dynamic, dynamic_bytes);
  block.used = kRedZone + round_up(dynamic_bytes, 16) + kRedZone;
}

static void start_block(unsigned id) {
  const dim3 size = scheduler.launch->block;
  const dim3 grid = scheduler.launch->grid;
  const unsigned threads = size.x * size.y * size.z;
  auto* block = new Block;
  prepare_shared_memory(*block, scheduler.launch->dynamic_shared);
  block->warps.resize((threads + 31) / 32);
  auto& pool = scheduler.pool;
  while (pool.size() < threads) pool.push_back(new_thread());
#if EMU_TSAN  // other identities in every block
  std::shuffle(pool.begin(), pool.end(), std::minstd_rand(static_cast<unsigned>(random().below(1u << 30))));
#endif
  for (unsigned i = 0; i < threads; ++i) {
    Thread* thread = pool.back();
    pool.pop_back();
    thread->linear = i;
    thread->lane = i % 32;
    thread->warp = i / 32;
    thread->block = block;
    thread->thread_index = uint3{i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    thread->block_index = uint3{id % grid.x, id / grid.x % grid.y, id / (grid.x * grid.y)};
    thread->fiber->done = false;
    {
      const Unseen unseen;
      thread->fiber->copies.clear();
    }
    block->warps[thread->warp].exist |= 1u << thread->lane;
    block->threads.push_back(thread);
    wake(thread);
  }
  block->live = threads;
  scheduler.blocks.push_back(block);
}

static void retire_blocks() {
  scheduler.block_done = false;
  auto& blocks = scheduler.blocks;
  for (std::size_t i = 0; i < blocks.size();) {
    Block* block = blocks[i];
    if (block->live != 0) {
      ++i;
      continue;
    }
    for (Thread* thread : block->threads) scheduler.pool.push_back(thread);
    scheduler.arenas.push_back(block->arena);
    blocks[i] = blocks.back();
    blocks.pop_back();
    const Unseen unseen;
    delete block;
  }
}

static void find_own_stack() {
#if EMU_ASAN
  pthread_attr_t attributes;
  void* bottom;
  std::size_t size;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &size);
  pthread_attr_destroy(&attributes);
  scheduler.stack_bottom = bottom;
  scheduler.stack_size = size;
#endif
}

void run_launch(Launch& launch) {
  if (current != nullptr || scheduler.launch != nullptr) fail("emulator", "a launch within a launch");
  scheduler.launch = &launch;
  scheduler.order = order_this_fiber();
  scheduler.idle_yields = 0;
  blockDim = launch.block;
  gridDim = launch.grid;
  find_own_stack();
  const unsigned total = launch.grid.x * launch.grid.y * launch.grid.z;
  std::vector<unsigned> order(total);
  for (unsigned i = 0; i < total; ++i) {
    order[i] = i;
    std::swap(order[i], order[random().below(i + 1)]);
  }
  const std::size_t resident = launch.cooperative ? total : config().resident;
  while (!order.empty() || !scheduler.blocks.empty()) {
    while (!order.empty() && scheduler.blocks.size() < resident) {
      start_block(order.back());
      order.pop_back();
    }
    order_release(&scheduler.start_clock);
    if (scheduler.ready.empty()) {
      print_waiting();
      fail("deadlock", "no thread can go on");
    }
    to_thread(take_any_ready(), &scheduler.stack_pointer, &scheduler.fake_stack);
    if (scheduler.block_done) retire_blocks();
  }
  order_acquire(&scheduler.end_clock);
  scheduler.launch = nullptr;
}

}  // namespace cudaemu
