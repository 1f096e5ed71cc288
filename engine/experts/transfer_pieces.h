// Transfers cut into the pieces that one system call reads, and put together again; which piece is begun next. Used by
// the queues.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/experts/transfer_queue.h"

namespace sirocco {

struct Piece {
  std::uint32_t transfer = 0;  // index in Pieces
  int descriptor = -1;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::byte* to = nullptr;
  bool background = false;
};

class Pieces {
 public:
  void set_shape(const ReadShape& shape) { shape_ = shape; }

  void add(const Transfer& transfer) {
    const std::uint64_t most = shape_.piece_bytes;
    const std::uint32_t index = place();
    states_[index] = {.tag = transfer.tag,
                      .end = transfer.offset + transfer.wanted,
                      .left = static_cast<std::uint32_t>((transfer.bytes + most - 1) / most)};
    ++transfers_;
    for (std::uint64_t at = 0; at < transfer.bytes; at += most) {
      line(transfer.background)
          .push_back({.transfer = index,
                      .descriptor = transfer.descriptor,
                      .offset = transfer.offset + at,
                      .bytes = std::min(most, transfer.bytes - at),
                      .to = transfer.to + at,
                      .background = transfer.background});
    }
  }

  bool waiting() const { return !urgent_.empty() || !background_.empty(); }

  // Whether one that waits may begin.
  bool may_begin() const {
    if (!urgent_.empty()) return true;
    return !background_.empty() && (bytes_ == 0 || bytes_ + background_.front().bytes <= shape_.bytes());
  }

  Piece begin() {
    std::deque<Piece>& from = line(urgent_.empty());
    const Piece piece = from.front();
    from.pop_front();
    bytes_ += piece.bytes;
    return piece;
  }

  // One that was begun has ended with so many bytes, or -errno; what is missing of it is the next of its kind to begin.
  void ended(const Piece& piece, std::int64_t result, std::vector<Arrival>& arrivals) {
    bytes_ -= piece.bytes;
    State& state = states_[piece.transfer];
    if (result == -EINTR || result == -EAGAIN) return line(piece.background).push_front(piece);
    const auto got = static_cast<std::uint64_t>(std::max<std::int64_t>(result, 0));
    if (result < 0) {
      state.error = static_cast<int>(-result);
    } else if (got < piece.bytes && piece.offset + got < state.end) {
      // A short read: the end of the file, or a file system that gives what it has. Whole blocks count, so that the
      // rest stays aligned.
      const std::uint64_t whole = got / kDirectBlock * kDirectBlock;
      if (whole != 0) {
        Piece rest = piece;
        rest.offset += whole;
        rest.bytes -= whole;
        rest.to += whole;
        return line(piece.background).push_front(rest);
      }
      state.error = ENODATA;
    }
    if (--state.left == 0) {
      arrivals.push_back({.tag = state.tag, .error = state.error});
      free_.push_back(piece.transfer);
      --transfers_;
    }
  }

  std::size_t transfers() const { return transfers_; }  // that have not arrived

  void drop_waiting() {
    urgent_.clear();
    background_.clear();
  }

 private:
  struct State {
    std::uint64_t tag = 0;
    std::uint64_t end = 0;   // in the file, of the bytes wanted
    std::uint32_t left = 0;  // pieces
    int error = 0;
  };
  std::deque<Piece>& line(bool background) { return background ? background_ : urgent_; }
  const std::deque<Piece>& line(bool background) const { return background ? background_ : urgent_; }
  std::uint32_t place() {
    if (free_.empty()) {
      states_.emplace_back();
      return static_cast<std::uint32_t>(states_.size() - 1);
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }

  ReadShape shape_;
  std::vector<State> states_;
  std::vector<std::uint32_t> free_;
  std::size_t transfers_ = 0;
  std::deque<Piece> urgent_;
  std::deque<Piece> background_;
  std::uint64_t bytes_ = 0;  // under way
};

}  // namespace sirocco
