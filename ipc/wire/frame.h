// Frames: how messages follow one another on the byte stream. Each is a header of 16 bytes, little-endian
// {u32 length, u16 type, u16 flags, u64 request_id}, and `length` bytes of FlatBuffer. Flags are reserved and 0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ipc/wire/limits.h"
#include "ipc/wire/wire_error.h"

namespace sirocco::wire {

struct FrameHeader {
  std::uint32_t length = 0;  // of the payload
  std::uint16_t type = 0;    // a MessageType, or one of a later version
  std::uint16_t flags = 0;
  std::uint64_t request_id = 0;

  bool operator==(const FrameHeader&) const = default;
};

std::array<std::byte, kHeaderBytes> write_header(const FrameHeader& header);
FrameHeader read_header(std::span<const std::byte, kHeaderBytes> bytes);

struct Frame {
  std::uint16_t type = 0;
  std::uint64_t request_id = 0;
  std::vector<std::byte> payload;

  bool operator==(const Frame&) const = default;
};

// Cuts a stream into frames, whatever pieces it arrives in. It holds at most what was pushed and not yet taken; a frame
// that is too large is refused from its header alone, before any of it is kept.
class FrameReader {
 public:
  explicit FrameReader(std::uint32_t max_payload) : max_payload_(max_payload) {}

  // For frames not yet taken; raised after the handshake.
  void set_max_payload(std::uint32_t max_payload) { max_payload_ = max_payload; }

  void push(std::span<const std::byte> bytes);

  // The next whole frame, or nothing while it is incomplete. After an error the stream is lost: every later call
  // returns the error again.
  tl::expected<std::optional<Frame>, WireError> next();

  // Bytes pushed and not yet taken: part of a frame, once next() has returned nothing.
  std::size_t held() const { return buffer_.size() - taken_; }

 private:
  std::vector<std::byte> buffer_;
  std::size_t taken_ = 0;  // of buffer_, from the front
  std::uint32_t max_payload_;
  std::optional<WireError> error_;
};

}  // namespace sirocco::wire
