#include "ipc/wire/frame.h"

#include <cassert>

namespace sirocco::wire {
namespace {

template <class T>
void put(std::byte* to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::byte>(std::uint64_t{value} >> (8 * i));
}

template <class T>
T get(const std::byte* from) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return static_cast<T>(value);
}

std::optional<WireError> check(const FrameHeader& header, std::uint32_t max_payload) {
  if (header.length > max_payload) {
    return WireError{ErrorCode::frame_too_large, fmt::format("frame of type {}: a payload of {} bytes, at most {} here",
                                                             header.type, header.length, max_payload)};
  }
  if (header.length == 0) {
    return WireError{
        ErrorCode::malformed,
        fmt::format("frame of type {}: no payload; a message without fields is an empty table", header.type)};
  }
  if (header.flags != 0) {
    return WireError{ErrorCode::malformed,
                     fmt::format("frame of type {}: flags {:#06x}, must be 0", header.type, header.flags)};
  }
  return std::nullopt;
}

}  // namespace

std::array<std::byte, kHeaderBytes> write_header(const FrameHeader& header) {
  std::array<std::byte, kHeaderBytes> bytes{};
  put(&bytes[0], header.length);
  put(&bytes[4], header.type);
  put(&bytes[6], header.flags);
  put(&bytes[8], header.request_id);
  return bytes;
}

FrameHeader read_header(std::span<const std::byte, kHeaderBytes> bytes) {
  return {.length = get<std::uint32_t>(&bytes[0]),
          .type = get<std::uint16_t>(&bytes[4]),
          .flags = get<std::uint16_t>(&bytes[6]),
          .request_id = get<std::uint64_t>(&bytes[8])};
}

void FrameReader::push(std::span<const std::byte> bytes) {
  if (error_) return;
  if (taken_ == buffer_.size()) {
    // One large frame must not keep its memory for the life of the connection.
    if (buffer_.capacity() > kMaxHelloPayload) std::vector<std::byte>().swap(buffer_);
    buffer_.clear();
  } else {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(taken_));
  }
  taken_ = 0;
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

tl::expected<std::optional<Frame>, WireError> FrameReader::next() {
  if (error_) return tl::unexpected<WireError>(*error_);
  const std::span<const std::byte> rest = std::span(buffer_).subspan(taken_);
  if (rest.size() < kHeaderBytes) return std::nullopt;

  const FrameHeader header = read_header(rest.first<kHeaderBytes>());
  error_ = check(header, max_payload_);
  if (error_) return tl::unexpected<WireError>(*error_);
  if (rest.size() - kHeaderBytes < header.length) return std::nullopt;

  const auto payload = rest.subspan(kHeaderBytes, header.length);
  taken_ += kHeaderBytes + header.length;
  return Frame{header.type, header.request_id, {payload.begin(), payload.end()}};
}

}  // namespace sirocco::wire
