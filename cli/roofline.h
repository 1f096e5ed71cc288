// How fast this machine can read its memory and its disk and multiply integers: the bounds that tokens/s are printed
// beside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/thread_pool.h"
#include "kernels/kernels.h"

namespace sirocco {

// So much memory that reading it all measures memory: twice the last-level cache, 256 MiB to 1 GiB.
std::size_t bytes_beyond_caches();

// With all threads of the pool together.
class Roofline {
 public:
  // Both outlive it.
  Roofline(const Kernels& kernels, ThreadPool& pool);

  // Bytes per second of one pass over bytes_beyond_caches(), 10 to 50 ms.
  double read();
  // Multiplications per second of the instruction set's integer dot product, some 10 ms; nothing for kernels/ref.
  std::optional<double> multiply();

 private:
  const Kernels& kernels_;
  ThreadPool& pool_;
  std::vector<std::uint64_t> memory_;  // all of them 1
};

// Bytes per second of reading up to `most` bytes, spread over the file, as experts are read: past the page cache
// (O_DIRECT), several reads under way. Nothing where the file system does not know O_DIRECT.
std::optional<double> disk_bandwidth(const std::filesystem::path& file, std::uint64_t most = 512 * MiB);

}  // namespace sirocco
