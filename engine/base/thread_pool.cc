#include "engine/base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/cgroup.h"
#include "engine/base/fast_cpus.h"

namespace sirocco {
namespace {

// How long a thread looks for work before it parks: about 20 µs, a little more than the gap between two parts of a
// step. Longer spins starve other processes of the core; parking costs about 25 µs to undo.
constexpr int kSpins = 500;

// The CPUs that are worth a thread, of those that this process may use; none where the system does not say.
std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> allowed;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) allowed.push_back(cpu);
  }
  return fast_cpus(allowed);
}

void pin(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // Fails only for a CPU that was taken away since it was looked up; then the thread runs where it may.
  pthread_setaffinity_np(thread, sizeof set, &set);
}

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

// `ticket` holds the generation (one per run) in its upper half and the next free chunk in its lower half. Taking a
// chunk is a compare-and-swap of both: if it succeeds, the run is still the one whose job was read, and that run cannot
// end before this chunk is done.
struct ThreadPool::State {
  std::atomic<std::uint64_t> ticket{0};
  std::atomic<Function> function{nullptr};
  std::atomic<void*> work{nullptr};
  std::atomic<std::uint32_t> chunks{0};
  std::atomic<std::uint32_t> remaining{0};
  std::atomic<std::uint32_t> generation{0};  // what workers park on
  std::atomic<bool> stopping{false};
  std::vector<std::thread> workers;
  std::vector<int> pinned_to;  // CPUs, for threads in turn; empty: not pinned
  std::thread::id pinned_caller;

  void take_chunks(std::uint32_t run, std::size_t thread) {
    std::uint64_t seen = ticket.load(std::memory_order_acquire);
    while (static_cast<std::uint32_t>(seen >> 32) == run) {
      const auto chunk = static_cast<std::uint32_t>(seen);
      const Function call = function.load(std::memory_order_acquire);
      void* const with = work.load(std::memory_order_acquire);
      if (chunk >= chunks.load(std::memory_order_acquire)) return;
      if (!ticket.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      call(with, chunk, thread);
      if (remaining.fetch_sub(1, std::memory_order_acq_rel) == 1) remaining.notify_one();
      seen = ticket.load(std::memory_order_acquire);
    }
  }

  void work_until_stopped(std::size_t thread) {
    std::uint32_t done = 0;
    while (!stopping.load(std::memory_order_acquire)) {
      std::uint32_t run = generation.load(std::memory_order_acquire);
      for (int spin = 0; spin < kSpins && run == done; ++spin) {
        pause_briefly();
        run = generation.load(std::memory_order_acquire);
      }
      if (run == done) {
        generation.wait(done, std::memory_order_acquire);
        continue;
      }
      take_chunks(run, thread);
      done = run;
    }
  }
};

Result<ThreadPool> ThreadPool::create(std::size_t threads, bool pin_threads) {
  const std::size_t count = threads == 0 ? default_threads() : threads;
  if (count > kMaxThreads)
    return fail(ErrorCode::invalid_argument, "{} threads were asked for (engine.threads, --threads); allowed: 0 to {}",
                count, kMaxThreads);
  ThreadPool pool(std::make_unique<State>());  // ends those that were started if one cannot be
  if (pin_threads) pool.state_->pinned_to = usable_cpus();
  const std::vector<int>& cpus = pool.state_->pinned_to;
  try {
    for (std::size_t thread = 1; thread < count; ++thread) {
      pool.state_->workers.emplace_back([state = pool.state_.get(), thread] {
        pthread_setname_np(pthread_self(), ("worker-" + std::to_string(thread)).c_str());
        state->work_until_stopped(thread);
      });
      if (!cpus.empty()) pin(pool.state_->workers.back().native_handle(), cpus[thread % cpus.size()]);
    }
  } catch (const std::system_error& error) {
    return fail(ErrorCode::io,
                "thread {} of {} could not be started: {}; ask for fewer (engine.threads, --threads), or raise the "
                "limit (TasksMax= of the unit, ulimit -u)",
                pool.threads() + 1, count, error.code().message());
  }
  return pool;
}

ThreadPool::ThreadPool(std::unique_ptr<State> state) : state_(std::move(state)) {}
ThreadPool::ThreadPool(ThreadPool&& other) noexcept = default;

ThreadPool::~ThreadPool() {
  if (!state_) return;  // moved from
  state_->stopping.store(true, std::memory_order_release);
  state_->generation.fetch_add(1, std::memory_order_acq_rel);
  state_->generation.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

std::size_t ThreadPool::threads() const {
  return state_->workers.size() + 1;
}

void ThreadPool::pin_caller() {
  if (state_->pinned_to.empty() || state_->pinned_caller == std::this_thread::get_id()) return;
  state_->pinned_caller = std::this_thread::get_id();
  pin(pthread_self(), state_->pinned_to.front());
}

void ThreadPool::run_chunks(std::size_t chunks, Function function, void* work) {
  assert(chunks < UINT32_MAX);
  if (chunks == 0) return;
  pin_caller();
  if (chunks == 1 || state_->workers.empty()) {
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) function(work, chunk, 0);
    return;
  }
  State& s = *state_;
  const std::uint32_t run = s.generation.load(std::memory_order_relaxed) + 1;
  // Closed first: a worker still looking at the last run that reads any of the new job's fields must fail to take a
  // chunk.
  s.ticket.store(std::uint64_t{run} << 32 | UINT32_MAX, std::memory_order_release);
  s.function.store(function, std::memory_order_release);
  s.work.store(work, std::memory_order_release);
  s.chunks.store(static_cast<std::uint32_t>(chunks), std::memory_order_release);
  s.remaining.store(static_cast<std::uint32_t>(chunks), std::memory_order_release);
  s.ticket.store(std::uint64_t{run} << 32, std::memory_order_release);
  s.generation.store(run, std::memory_order_release);
  s.generation.notify_all();

  s.take_chunks(run, 0);

  std::uint32_t left = s.remaining.load(std::memory_order_acquire);
  for (int spin = 0; spin < kSpins && left != 0; ++spin) {
    pause_briefly();
    left = s.remaining.load(std::memory_order_acquire);
  }
  while (left != 0) {
    s.remaining.wait(left, std::memory_order_acquire);
    left = s.remaining.load(std::memory_order_acquire);
  }
}

std::size_t ThreadPool::default_threads() {
  const std::size_t usable = usable_cpus().size();
  auto cpus = static_cast<double>(usable != 0 ? usable : std::thread::hardware_concurrency());
  if (const auto quota = cgroup_cpu_quota()) cpus = std::min(cpus, std::ceil(*quota));
  return static_cast<std::size_t>(std::max(cpus, 1.0));
}

}  // namespace sirocco
