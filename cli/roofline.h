// How fast this machine can read its memory and its disk and multiply integers: the bounds that tokens/s are printed
// beside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/thread_pool.h"
#include "kernels/kernels.h"

namespace sirocco {

// With all threads together.
class Roofline {
 public:
  // threads: 0: one for each CPU that may be used. Error: so many cannot be had. `kernels` outlives it.
  static Result<Roofline> create(const Kernels& kernels, std::size_t threads);

  // Bytes per second of one pass over memory far larger than the caches, some 10 ms.
  double read();
  // Multiplications per second of the instruction set's integer dot product, some 10 ms; nothing for kernels/ref.
  std::optional<double> multiply();

 private:
  Roofline(const Kernels& kernels, ThreadPool pool);

  const Kernels* kernels_;
  ThreadPool pool_;
  std::vector<std::uint64_t> memory_;  // all of them 1
};

// Bytes per second of reading the file past the page cache (O_DIRECT), up to 256 MiB from its start. Nothing where the
// file system does not know O_DIRECT.
std::optional<double> disk_bandwidth(const std::filesystem::path& file);

}  // namespace sirocco
