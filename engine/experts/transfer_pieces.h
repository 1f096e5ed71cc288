// Transfers cut into the pieces that one system call reads, and put together again. Used by the queues.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/experts/transfer_queue.h"

namespace sirocco {

inline constexpr std::uint64_t kPieceBytes = MiB;

struct Piece {
  std::uint32_t transfer = 0;  // index in Pieces
  int descriptor = -1;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::byte* to = nullptr;
};

class Pieces {
 public:
  // Calls begin(piece) for each piece of it.
  template <class Begin>
  void add(const Transfer& transfer, Begin begin) {
    const std::uint32_t index = place();
    State& state = states_[index];
    state = {.tag = transfer.tag,
             .end = transfer.offset + transfer.wanted,
             .left = static_cast<std::uint32_t>((transfer.bytes + kPieceBytes - 1) / kPieceBytes)};
    ++under_way_;
    for (std::uint64_t at = 0; at < transfer.bytes; at += kPieceBytes) {
      begin(Piece{.transfer = index,
                  .descriptor = transfer.descriptor,
                  .offset = transfer.offset + at,
                  .bytes = std::min(kPieceBytes, transfer.bytes - at),
                  .to = transfer.to + at});
    }
  }

  // A piece has ended with so many bytes, or -errno; what is missing of it begins again. True if nothing does.
  template <class Begin>
  bool ended(const Piece& piece, std::int64_t result, std::vector<Arrival>& arrivals, Begin begin) {
    State& state = states_[piece.transfer];
    if (result == -EINTR || result == -EAGAIN) {
      begin(piece);
      return false;
    }
    const auto got = static_cast<std::uint64_t>(std::max<std::int64_t>(result, 0));
    if (result < 0) {
      state.error = static_cast<int>(-result);
    } else if (got < piece.bytes && piece.offset + got < state.end) {
      // A short read: the end of the file, or a file system that gives what it has. Whole blocks count, so that the
      // rest stays aligned.
      const std::uint64_t whole = got / kDirectBlock * kDirectBlock;
      if (whole != 0) {
        begin(Piece{.transfer = piece.transfer,
                    .descriptor = piece.descriptor,
                    .offset = piece.offset + whole,
                    .bytes = piece.bytes - whole,
                    .to = piece.to + whole});
        return false;
      }
      state.error = ENODATA;
    }
    if (--state.left == 0) {
      arrivals.push_back({.tag = state.tag, .error = state.error});
      free_.push_back(piece.transfer);
      --under_way_;
    }
    return true;
  }

  std::size_t under_way() const { return under_way_; }

 private:
  struct State {
    std::uint64_t tag = 0;
    std::uint64_t end = 0;  // in the file, of the bytes wanted
    std::uint32_t left = 0;
    int error = 0;
  };
  std::uint32_t place() {
    if (free_.empty()) {
      states_.emplace_back();
      return static_cast<std::uint32_t>(states_.size() - 1);
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }

  std::vector<State> states_;
  std::vector<std::uint32_t> free_;
  std::size_t under_way_ = 0;
};

}  // namespace sirocco
