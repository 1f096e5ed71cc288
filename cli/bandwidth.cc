#include "cli/bandwidth.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/thread_pool.h"

namespace sirocco {
namespace {

constexpr std::size_t kMemoryBytes = 256 * MiB;  // several times a last-level cache
constexpr int kPasses = 5;
constexpr std::size_t kChunkWords = MiB / sizeof(std::uint64_t);
constexpr std::size_t kDiskBytes = 256 * MiB;
constexpr std::size_t kReadBytes = 4 * MiB;
constexpr std::size_t kDirectAlignment = 4096;  // of buffer, offset and length under O_DIRECT

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Result<double> memory_bandwidth(std::size_t threads) {
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(threads));
  const std::vector<std::uint64_t> memory(kMemoryBytes / sizeof(std::uint64_t), 1);
  std::vector<std::uint64_t> sums(memory.size() / kChunkWords);
  double best = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool.run(sums.size(), [&](std::size_t chunk, std::size_t) {
      const std::uint64_t* const words = memory.data() + chunk * kChunkWords;
      sums[chunk] += std::accumulate(words, words + kChunkWords, std::uint64_t{0});
    });
    best = std::min(best, seconds_since(begin));
  }
  // The sums are used, or the compiler would not read at all: each word is a 1, and is counted once a pass.
  const std::uint64_t words = std::accumulate(sums.begin(), sums.end(), std::uint64_t{0}) / kPasses;
  return static_cast<double>(words * sizeof(std::uint64_t)) / best;
}

std::optional<double> disk_bandwidth(const std::filesystem::path& file) {
  const int descriptor = open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (descriptor < 0) return {};
  const std::unique_ptr<void, decltype(&std::free)> buffer(std::aligned_alloc(kDirectAlignment, kReadBytes),
                                                           &std::free);
  std::size_t total = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (buffer && total < kDiskBytes) {
    const ssize_t got = pread(descriptor, buffer.get(), kReadBytes, static_cast<off_t>(total));
    if (got <= 0) break;
    total += static_cast<std::size_t>(got);
    if (static_cast<std::size_t>(got) < kReadBytes) break;  // the end of the file
  }
  const double seconds = seconds_since(begin);
  close(descriptor);
  if (total == 0) return {};
  return static_cast<double>(total) / seconds;
}

}  // namespace sirocco
