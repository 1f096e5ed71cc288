#include "engine/base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace sirocco {
namespace {

TEST(ThreadPool, EveryChunkRunsExactlyOnce) {
  for (const std::size_t threads : {1U, 2U, 3U, 8U}) {
    ThreadPool pool = ThreadPool::create(threads).value();
    for (std::size_t chunks = 0; chunks < 40; ++chunks) {
      std::vector<std::atomic<int>> runs(chunks);
      pool.run(chunks, [&](std::size_t chunk, std::size_t) { runs[chunk].fetch_add(1); });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPool, RunsFollowEachOtherWithoutMixing) {
  ThreadPool pool = ThreadPool::create(4).value();
  std::vector<std::uint64_t> sums(9);
  std::vector<std::uint64_t> expected(9);
  for (std::uint64_t round = 0; round < 20000; ++round) {
    const std::size_t chunks = 2 + round % 8;  // a worker late from a short run must not take a chunk of a longer one
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) expected[chunk] += round;
    // Not atomic on purpose: a chunk of an older run would be a data race (TSan) and a wrong sum.
    pool.run(chunks, [&](std::size_t chunk, std::size_t) { sums[chunk] += round; });
  }
  EXPECT_EQ(sums, expected);
}

TEST(ThreadPool, ThreadNumbersAreDistinctAndInRange) {
  ThreadPool pool = ThreadPool::create(3).value();
  std::vector<std::atomic<int>> inside(3);
  pool.run(300, [&](std::size_t, std::size_t thread) {
    ASSERT_LT(thread, 3U);
    ASSERT_EQ(inside[thread].fetch_add(1), 0);
    inside[thread].fetch_sub(1);
  });
}

TEST(ThreadPool, PinnedThreadsHaveACpuEach) {
  // In a thread of its own: run() pins its caller for good.
  std::thread([] {
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    const auto usable = static_cast<std::size_t>(CPU_COUNT(&before));
    ThreadPool pool = ThreadPool::create(3, true).value();
    std::mutex mutex;
    std::map<std::size_t, int> cpus;  // by thread
    for (int round = 0; round < 100; ++round) {
      pool.run(3, [&](std::size_t, std::size_t thread) {
        cpu_set_t set;
        EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
        EXPECT_EQ(CPU_COUNT(&set), 1);
        const std::lock_guard lock(mutex);
        cpus[thread] = sched_getcpu();
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      });
    }
    ASSERT_EQ(cpus.size(), 3U);
    std::set<int> distinct;
    for (const auto& [thread, cpu] : cpus) distinct.insert(cpu);
    EXPECT_LE(distinct.size(), usable);
    EXPECT_GE(distinct.size(), std::min<std::size_t>(2, usable));
  }).join();
}

TEST(ThreadPool, ParkedWorkersWakeForTheNextRun) {
  ThreadPool pool = ThreadPool::create(2).value();
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than the spin
    std::atomic<int> done = 0;
    pool.run(64, [&](std::size_t, std::size_t) { done.fetch_add(1); });
    EXPECT_EQ(done.load(), 64);
  }
}

TEST(ThreadPool, TooManyThreadsAreAnErrorThatNamesTheLimit) {
  const auto pool = ThreadPool::create(ThreadPool::kMaxThreads + 1);
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code(), ErrorCode::invalid_argument);
  EXPECT_NE(pool.error().message().find("allowed: 0 to 1024"), std::string::npos) << pool.error().message();
}

// In a child process that may have no more threads. Exits with 0 if all went as promised.
[[noreturn]] void start_workers_that_cannot_be_had() {
  const rlimit none = {.rlim_cur = 1, .rlim_max = 1};
  if (setrlimit(RLIMIT_NPROC, &none) != 0) _exit(10);
  if (geteuid() == 0 && setuid(65534) != 0) _exit(11);  // root has no such limit
  const auto pool = ThreadPool::create(8);
  if (pool || pool.error().code() != ErrorCode::io) _exit(12);
  std::fprintf(stderr, "%s\n", pool.error().message().c_str());
  _exit(0);
}

TEST(ThreadPoolDeathTest, WorkersThatCannotBeHadAreAnErrorThatSaysWhatToDo) {
  EXPECT_EXIT(start_workers_that_cannot_be_had(), testing::ExitedWithCode(0), "could not be started: .*TasksMax=");
}

TEST(ThreadPool, DefaultIsAtLeastOne) {
  EXPECT_GE(ThreadPool::default_threads(), 1U);
}

}  // namespace
}  // namespace sirocco
