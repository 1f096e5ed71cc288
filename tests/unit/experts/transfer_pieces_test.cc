#include "engine/experts/transfer_pieces.h"

#include <gtest/gtest.h>

#include <array>

namespace sirocco {
namespace {

constexpr std::uint64_t kBlock = kDirectBlock;

std::array<std::byte, 18 * kBlock> memory;

Transfer transfer_of(std::uint64_t tag, std::uint64_t blocks, bool background = true) {
  return {.descriptor = 3,
          .offset = 100 * tag * kBlock,
          .bytes = blocks * kBlock,
          .wanted = blocks * kBlock,
          .to = memory.data(),
          .tag = tag,
          .background = background};
}

// The pieces that may begin now.
std::vector<Piece> begin_all(Pieces& pieces) {
  std::vector<Piece> begun;
  while (pieces.may_begin()) begun.push_back(pieces.begin());
  return begun;
}

TEST(Pieces, NoMoreBytesOfTheBackgroundAreUnderWayThanTheShapeSays) {
  Pieces pieces;
  pieces.set_shape({.depth = 3, .piece_bytes = 4 * kBlock});
  pieces.add(transfer_of(1, 18));
  std::vector<Piece> begun = begin_all(pieces);
  ASSERT_EQ(begun.size(), 3U);
  EXPECT_EQ(begun[1].offset, (100 + 4) * kBlock);
  EXPECT_EQ(begun[1].bytes, 4 * kBlock);
  std::vector<Arrival> arrivals;
  pieces.ended(begun[1], 4 * kBlock, arrivals);
  begun = begin_all(pieces);
  ASSERT_EQ(begun.size(), 1U);
  EXPECT_EQ(begun[0].offset, (100 + 12) * kBlock);
  EXPECT_TRUE(arrivals.empty());
}

TEST(Pieces, MoreAreUnderWayIfTheyAreSmallAndOneIfItIsLarge) {
  Pieces pieces;
  pieces.set_shape({.depth = 2, .piece_bytes = 4 * kBlock});
  for (std::uint64_t tag = 0; tag < 10; ++tag) pieces.add(transfer_of(tag, 1));
  EXPECT_EQ(begin_all(pieces).size(), 8U);
  Pieces other;
  other.add(transfer_of(1, 16));
  other.set_shape({.depth = 2, .piece_bytes = 4 * kBlock});
  EXPECT_EQ(begin_all(other).size(), 1U);  // cut before
}

TEST(Pieces, WhatIsWaitedForOvertakesTheBackground) {
  Pieces pieces;
  pieces.set_shape({.depth = 2, .piece_bytes = 4 * kBlock});
  pieces.add(transfer_of(1, 16));
  const std::vector<Piece> background = begin_all(pieces);
  ASSERT_EQ(background.size(), 2U);
  pieces.add(transfer_of(2, 16, false));
  std::vector<Arrival> arrivals;
  pieces.ended(background[0], 4 * kBlock, arrivals);
  pieces.ended(background[1], -EAGAIN, arrivals);
  const std::vector<Piece> urgent = begin_all(pieces);
  ASSERT_EQ(urgent.size(), 4U);  // all at once
  for (const Piece& piece : urgent) {
    EXPECT_FALSE(piece.background);
    pieces.ended(piece, 4 * kBlock, arrivals);
  }
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].tag, 2U);
  // What had to begin again is the first of its kind.
  const std::vector<Piece> again = begin_all(pieces);
  ASSERT_EQ(again.size(), 2U);
  EXPECT_EQ(again[0].offset, background[1].offset);
  EXPECT_EQ(pieces.transfers(), 1U);
}

TEST(Pieces, AShortReadGoesOnAtAWholeBlock) {
  Pieces pieces;
  pieces.add(transfer_of(1, 8));
  std::vector<Arrival> arrivals;
  pieces.ended(pieces.begin(), 3 * kBlock + 5, arrivals);
  ASSERT_TRUE(pieces.may_begin());
  const Piece rest = pieces.begin();
  EXPECT_EQ(rest.offset, (100 + 3) * kBlock);
  EXPECT_EQ(rest.bytes, 5 * kBlock);
  pieces.ended(rest, kBlock - 1, arrivals);  // no whole block: the file ends here
  ASSERT_EQ(arrivals.size(), 1U);
  EXPECT_EQ(arrivals[0].error, ENODATA);
  EXPECT_FALSE(pieces.may_begin());
}

}  // namespace
}  // namespace sirocco
