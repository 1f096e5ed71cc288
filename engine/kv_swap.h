// Moves the KV of a paused request out of the cache, so that another has its blocks, and in again before it goes on.
// What cannot be written, or read back, is computed again: its tokens are known. Owned by the Engine and used by the
// engine thread; but counters() and trouble() may be called by others, with the Engine's mutex held.
//
// Nobody waits for the disk with the mutex: it is held for a block's copy at a time.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/kv/swap_file.h"
#include "engine/running_request.h"

namespace sirocco {

class KvSwap {
 public:
  // file: null where there is none; nothing is ever moved then.
  KvSwap(Backend& backend, std::mutex& mutex, std::unique_ptr<SwapFile> file)
      : backend_(backend), mutex_(mutex), file_(std::move(file)), block_(file_ ? file_->block_bytes() : 0) {}

  // Whether so many blocks may be moved out. Not for a minute after the disk has failed.
  bool has_room(std::uint64_t blocks) const;

  // Copies blocks [first, end) of its table out, in order, up to the first that fails. The request still
  // holds them.
  void move_out(RunningRequest& request, std::uint32_t first, std::uint32_t end);
  // Copies those from `first` on into the blocks that the request holds now, in order, up to the first that fails; the
  // file forgets them. Up to which block the request has its KV again: `first`, if nothing is there from there on.
  std::uint32_t move_in(RunningRequest& request, std::uint32_t first);
  // Of a request that ends.
  void forget(RunningRequest& request);

  // Gives the disk its space back once nothing is out.
  void trim() {
    if (file_) file_->trim();
  }

  KvSwapCounters counters() const { return counters_; }
  // Why nothing is moved out at present.
  const std::optional<Error>& trouble() const { return trouble_; }

 private:
  void set_trouble(Error error);

  Backend& backend_;
  std::mutex& mutex_;
  std::unique_ptr<SwapFile> file_;
  std::vector<std::byte> block_;
  KvSwapCounters counters_;
  std::optional<Error> trouble_;
  Clock::time_point retry_;  // after it
};

}  // namespace sirocco
