#include "ipc/wire/frame.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "ipc/wire/codec.h"
#include "tests/unit/wire/examples.h"

namespace sirocco::wire {
namespace {

using Stream = std::vector<std::byte>;

Stream frame_bytes(FrameHeader header, std::size_t payload_bytes) {
  const auto bytes = write_header(header);
  Stream stream(bytes.begin(), bytes.end());
  stream.resize(stream.size() + payload_bytes, std::byte{7});
  return stream;
}

Stream every_example() {
  Stream stream;
  std::uint64_t id = 0;
  for (const Message& message : test::example_messages()) {
    const Stream frame = encode(message, id++);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  return stream;
}

WireError error_of(const Stream& stream, std::uint32_t max_payload = kMaxPayload) {
  FrameReader reader(max_payload);
  reader.push(stream);
  const auto frame = reader.next();
  return frame ? WireError{ErrorCode::internal, "no error"} : frame.error();
}

TEST(Frame, HeaderIsLittleEndianLengthTypeFlagsRequestId) {
  const FrameHeader header{.length = 0x04030201, .type = 0x0605, .flags = 0x0807, .request_id = 0x100F0E0D0C0B0A09};
  const auto bytes = write_header(header);
  for (std::size_t i = 0; i < kHeaderBytes; ++i) EXPECT_EQ(std::to_integer<std::size_t>(bytes[i]), i + 1);
  EXPECT_EQ(read_header(bytes), header);
}

TEST(FrameReader, FramesAreTheSameInWhateverPiecesTheyArrive) {
  const Stream stream = every_example();
  const std::vector<Message> expected = test::example_messages();
  EXPECT_TRUE(rc::check([&] {
    FrameReader reader(kMaxPayload);
    std::vector<Message> messages;
    for (std::size_t at = 0; at < stream.size();) {
      const auto piece = std::min(*rc::gen::inRange<std::size_t>(1, 200), stream.size() - at);
      reader.push(std::span(stream).subspan(at, piece));
      at += piece;
      for (;;) {
        auto frame = reader.next();
        RC_ASSERT(frame.has_value());
        if (!*frame) break;
        RC_ASSERT((*frame)->request_id == messages.size());
        messages.push_back(decode((*frame)->type, (*frame)->payload).value());
      }
    }
    RC_ASSERT(messages == expected);
    RC_ASSERT(reader.held() == 0U);
  }));
}

TEST(FrameReader, TooLargeIsKnownFromTheHeaderAlone) {
  const WireError error = error_of(frame_bytes({.length = 65537, .type = 1}, 0), kMaxHelloPayload);
  EXPECT_EQ(error,
            (WireError{ErrorCode::frame_too_large, "frame of type 1: a payload of 65537 bytes, at most 65536 here"}));
  EXPECT_EQ(error_of(frame_bytes({.length = 0xFFFFFFFF, .type = 1}, 0)).code, ErrorCode::frame_too_large);
}

TEST(FrameReader, LargestPayloadIsTaken) {
  FrameReader reader(kMaxPayload);
  reader.push(frame_bytes({.length = kMaxPayload, .type = 9}, kMaxPayload));
  const auto frame = reader.next();
  ASSERT_TRUE(frame && *frame);
  EXPECT_EQ((*frame)->payload.size(), kMaxPayload);
}

TEST(FrameReader, EmptyPayloadIsMalformed) {
  EXPECT_EQ(
      error_of(frame_bytes({.length = 0, .type = 8}, 0)),
      (WireError{ErrorCode::malformed, "frame of type 8: no payload; a message without fields is an empty table"}));
}

TEST(FrameReader, ReservedFlagsAreMalformed) {
  EXPECT_EQ(error_of(frame_bytes({.length = 4, .type = 8, .flags = 1}, 4)),
            (WireError{ErrorCode::malformed, "frame of type 8: flags 0x0001, must be 0"}));
}

TEST(FrameReader, AnUnfinishedFrameIsHeldAndNeverGiven) {
  FrameReader reader(kMaxPayload);
  reader.push(frame_bytes({.length = 100, .type = 8}, 99));
  EXPECT_EQ(reader.next().value(), std::nullopt);
  EXPECT_EQ(reader.held(), kHeaderBytes + 99);
}

TEST(FrameReader, NothingIsTakenAfterAnError) {
  FrameReader reader(kMaxPayload);
  reader.push(frame_bytes({.length = 0, .type = 8}, 0));
  const WireError error = reader.next().error();
  reader.push(frame_bytes({.length = 4, .type = 8}, 4));
  EXPECT_EQ(reader.next().error(), error);
}

TEST(FrameReader, LimitRaisedByTheHandshakeCountsForWhatAlreadyArrived) {
  FrameReader reader(8);
  Stream stream = frame_bytes({.length = 8, .type = 1}, 8);
  const Stream second = frame_bytes({.length = 9, .type = 3}, 9);
  stream.insert(stream.end(), second.begin(), second.end());
  reader.push(stream);
  ASSERT_TRUE(reader.next().value());
  reader.set_max_payload(9);
  EXPECT_TRUE(reader.next().value());
}

}  // namespace
}  // namespace sirocco::wire
