#include "cli/roofline.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "engine/base/bytes.h"
#include "engine/experts/transfer_queue.h"

namespace sirocco {
namespace {

constexpr std::size_t kLeastMemory = 256 * MiB;
constexpr std::size_t kMostMemory = 1 * GiB;  // of a small machine's memory no more is taken
constexpr std::size_t kChunkWords = MiB / sizeof(std::uint64_t);
constexpr std::size_t kPeakChunks = 4;  // of each thread
constexpr std::size_t kPeakRounds = 1'000'000;
constexpr std::uint64_t kReadBytes = 8 * MiB;
constexpr std::uint64_t kReadsAtOnce = 24;  // as for the experts of a layer; all to the same memory

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

std::size_t bytes_beyond_caches() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);  // 0 or -1 where it is not known
  const std::size_t twice = cache > 0 ? 2 * static_cast<std::size_t>(cache) : 0;
  return std::clamp(twice, kLeastMemory, kMostMemory) / MiB * MiB;
}

Roofline::Roofline(const Kernels& kernels, ThreadPool& pool)
    : kernels_(kernels), pool_(pool), memory_(bytes_beyond_caches() / sizeof(std::uint64_t), 1) {}

double Roofline::read() {
  std::vector<std::uint64_t> sums(memory_.size() / kChunkWords);
  const auto begin = std::chrono::steady_clock::now();
  pool_.run(sums.size(), [&](std::size_t chunk, std::size_t) {
    const std::uint64_t* const words = memory_.data() + chunk * kChunkWords;
    sums[chunk] = kernels_.read_memory == nullptr
                      ? std::accumulate(words, words + kChunkWords, std::uint64_t{0})
                      : kernels_.read_memory(reinterpret_cast<const std::byte*>(words), MiB);
  });
  const double seconds = seconds_since(begin);
  // The sums are used, or the compiler would not read at all: each word is a 1.
  const std::uint64_t words = std::accumulate(sums.begin(), sums.end(), std::uint64_t{0});
  return static_cast<double>(words * sizeof(std::uint64_t)) / seconds;
}

std::optional<double> Roofline::multiply() {
  if (kernels_.integer_peak == nullptr) return {};
  std::vector<std::uint64_t> sums(kPeakChunks * pool_.threads());
  const auto begin = std::chrono::steady_clock::now();
  pool_.run(sums.size(), [&](std::size_t chunk, std::size_t) { sums[chunk] = kernels_.integer_peak(kPeakRounds); });
  const double seconds = seconds_since(begin);
  return static_cast<double>(sums.size() * kPeakRounds * kPeakMultiplies) / seconds;
}

std::optional<double> disk_bandwidth(const std::filesystem::path& file, std::uint64_t most) {
  const int descriptor = open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (descriptor < 0) return {};
  const off_t end = lseek(descriptor, 0, SEEK_END);
  const std::uint64_t reads =
      std::min<std::uint64_t>(end < 0 ? 0 : static_cast<std::uint64_t>(end) / kReadBytes, most / kReadBytes);
  const std::unique_ptr<std::byte, decltype(&std::free)> buffer(
      static_cast<std::byte*>(std::aligned_alloc(kDirectBlock, kReadBytes)), &std::free);
  auto queue = make_transfer_queue();
  std::optional<double> result;
  if (reads != 0 && buffer && queue) {
    const std::uint64_t stride = static_cast<std::uint64_t>(end) / reads / kDirectBlock * kDirectBlock;
    std::uint64_t next = 0;
    const auto submit = [&](std::uint64_t place) {
      const Transfer transfer = {.descriptor = descriptor,
                                 .offset = next++ * stride,
                                 .bytes = kReadBytes,
                                 .wanted = kReadBytes,
                                 .to = buffer.get(),
                                 .tag = place};
      (*queue)->submit(std::span(&transfer, 1));
    };
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint64_t place = 0; place < std::min(reads, kReadsAtOnce); ++place) submit(place);
    std::uint64_t done = 0;
    bool failed = false;
    std::vector<Arrival> arrivals;
    while (done < next) {
      arrivals.clear();
      (*queue)->collect(arrivals, true);
      for (const Arrival& arrival : arrivals) {
        ++done;
        failed = failed || arrival.error != 0;
        if (next < reads) submit(arrival.tag);
      }
    }
    if (!failed) result = static_cast<double>(done * kReadBytes) / seconds_since(begin);
  }
  close(descriptor);
  return result;
}

}  // namespace sirocco
