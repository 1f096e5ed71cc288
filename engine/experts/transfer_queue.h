// Reads of a file into memory under way: what brings experts in from disk. io_uring where the kernel lets us, threads
// of preads elsewhere. Used from one thread, the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/result.h"

namespace sirocco {

struct Transfer {
  int descriptor = -1;
  std::uint64_t offset = 0;  // in the file; with `to` and `bytes` a multiple of kDirectBlock where it is O_DIRECT
  std::uint64_t bytes = 0;
  std::uint64_t wanted = 0;  // of them; the end of the file may cut the rest
  std::byte* to = nullptr;
  std::uint64_t tag = 0;    // the caller's
  bool background = false;  // gives way to those that are not, but for what has begun
};

inline constexpr std::uint64_t kDirectBlock = 4096;

// A transfer has ended; nothing writes to its memory any more.
struct Arrival {
  std::uint64_t tag = 0;
  int error = 0;  // errno; ENODATA: the file ended before the bytes wanted
};

// How a disk is read: in pieces of at most so many bytes, and in the background so many of them at the same time, or
// more that are smaller. What is waited for is asked for at once, since the engine thread computes before it looks
// again.
struct ReadShape {
  std::uint32_t depth = 32;
  std::uint64_t piece_bytes = MiB;

  std::uint64_t bytes() const { return depth * piece_bytes; }
  friend bool operator==(const ReadShape&, const ReadShape&) = default;
};

class TransferQueue {
 public:
  virtual ~TransferQueue() = default;  // waits for what is under way

  virtual std::string_view kind() const = 0;  // "io_uring", "threads"

  // Of what is submitted from now on.
  virtual void set_shape(const ReadShape& shape) { shape_ = shape; }
  const ReadShape& shape() const { return shape_; }

  // Begins them in this order, those of the background as the shape allows. Their memory and descriptors outlive their
  // arrival.
  virtual void submit(std::span<const Transfer> transfers) = 0;

  // Appends what has ended since; with `wait`, at least one if any is under way.
  virtual void collect(std::vector<Arrival>& arrivals, bool wait) = 0;

 private:
  ReadShape shape_;
};

// io_uring, or threads where the kernel has none for us.
Result<std::unique_ptr<TransferQueue>> make_transfer_queue();

// Error: a seccomp filter, io_uring_disabled, no memory.
Result<std::unique_ptr<TransferQueue>> make_uring_queue();
Result<std::unique_ptr<TransferQueue>> make_thread_queue();

}  // namespace sirocco
