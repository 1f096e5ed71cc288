// Workers that join the engine thread inside a step. Work is handed out in chunks, so that no thread waits for a slower
// one's fixed share; between the parts of a step a worker spins for a moment and then parks.
//
// run() is called from one thread at a time (the engine thread), which takes part in the work.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

#include "engine/base/result.h"

namespace sirocco {

class ThreadPool {
 public:
  static constexpr std::size_t kMaxThreads = 1024;

  // `threads` counts the caller of run(): 1 starts no worker. 0 means default_threads(). `pin` gives each thread a CPU
  // of its own, in turn, for good; the caller of run() too. Error: more than kMaxThreads, or than the system lets this
  // process have.
  static Result<ThreadPool> create(std::size_t threads, bool pin = false);
  ThreadPool(ThreadPool&& other) noexcept;
  ThreadPool& operator=(ThreadPool&&) = delete;
  ~ThreadPool();

  std::size_t threads() const;

  // Calls work(chunk, thread) for every chunk in [0, chunks), thread in [0, threads()), and returns when all are done.
  // What a chunk computes must not depend on which thread takes it. `work` does not throw.
  template <class Work>
  void run(std::size_t chunks, Work&& work) {
    using W = std::remove_reference_t<Work>;
    run_chunks(
        chunks, [](void* w, std::size_t chunk, std::size_t thread) { (*static_cast<W*>(w))(chunk, thread); },
        const_cast<void*>(static_cast<const void*>(&work)));
  }

  // The CPUs this process may use, at least 1: affinity mask (so cpusets), slow cores beside fast ones (fast_cpus.h)
  // and cgroup v1/v2 quota taken into account.
  static std::size_t default_threads();

 private:
  using Function = void (*)(void* work, std::size_t chunk, std::size_t thread);
  void pin_caller();
  void run_chunks(std::size_t chunks, Function function, void* work);

  struct State;
  explicit ThreadPool(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sirocco
