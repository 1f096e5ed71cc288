// What the linear kernels of all formats of blocks have in common: panels of 16 outputs, one to four rows at a time
// that stream the weights (rows), or many at a time against expanded weights (panel).
//
// A format (linear_32.h, linear_256.h) brings, for one type of weights:
//   Block, kBlock                        its block of kBlock elements
//   Row                                  a view of a row of activations
//   Tile<Rows>, Panel                    a block of a tile of activations, and of 16 outputs' expanded weights
//   kPanelBlocks, kFewRowsBlocks         so many blocks are expanded at once, for many rows and for few
//   kScaleOffset, ScaleWord              where a block has its scale (and minimum), and an integer as large as they are
//   segment<Rows>(w, scales, x, at, p, minima)   16 blocks of weights, with their scales apart, against the
//   activations'
//                                        blocks `at` to `at` + 15
//   add_up<Rows>(x, blocks, place, p, minima, sums)  a panel's sums, from all its segments
//   pack_block<Rows>(x, count, block, tile)   the tile's block
//   expand(w, stride, count, panels, ahead)  `count` blocks of 16 rows of weights, `stride` blocks apart, to each
//                                        kTilePanels'th panel
//   multiply_tile<Rows>(panels, tile, blocks, sums, ahead)  adds `blocks` blocks of kTilePanels panels to the sums
//                                        [Rows, kTilePanels, 16]
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/kernels.h"

namespace sirocco::cpu::SIROCCO_ISA {

namespace detail {
template <class Type, int Zero, std::size_t Group>
SIROCCO_INLINE Bytes64 expanded_group(const Bytes64* packed) {
  const Bytes64 values = Type::template group<Group>(packed);
  if constexpr (Type::kWide) return offset_signed(values);
  if constexpr (Zero == Type::kZero) return values;
  return add_bytes(values, broadcast_byte(static_cast<std::uint8_t>(Zero - Type::kZero)));
}
}  // namespace detail

// A block of 16 rows, `stride` blocks apart from w on, four inputs beside each other. Values are Zero too large.
template <class Type, int Zero, std::size_t Groups>
SIROCCO_INLINE void expand_values(const typename Type::Block* w, std::size_t stride, std::uint8_t (*to)[16][4]) {
  const auto* bytes = reinterpret_cast<const std::byte*>(w);
  // They are transposed before they are unpacked, since that is the costly part.
  Bytes64 packed[4 * Type::kChunks];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < Type::kChunks; ++i)
    load_transposed(bytes + Type::chunk(i), stride * sizeof(*w), packed + 4 * i);
  const auto store = [&]<std::size_t... Group>(std::index_sequence<Group...>) {
    (store_bytes(to[Group], detail::expanded_group<Type, Zero, Group>(packed)), ...);
  };
  store(std::make_index_sequence<Groups>());
}

template <class Format>
struct LinearBlocks {
  using Block = typename Format::Block;
  using Row = typename Format::Row;
  using Panel = typename Format::Panel;
  static constexpr std::size_t kPanelBlocks = Format::kPanelBlocks;
  static constexpr std::size_t kFewRows = 32;  // up to so many, kFewRowsBlocks are expanded at once
  static constexpr std::size_t kPanelRoom = 2 * kPanelInputs * kPanel;  // bytes of scratch for expanded weights
  static_assert(kPanelBlocks * kTilePanels * sizeof(Panel) <= kPanelRoom);

  static constexpr std::size_t kGap = 16;  // floats behind the first stream's products: its last segment may be partial
  // More rows make use enough of the weights in registers.
  template <std::size_t Rows>
  static constexpr bool kTwoStreams = Rows <= kStreamRows;

  static const Block* blocks_of(const Matrix& w, std::size_t output) {
    return reinterpret_cast<const Block*>(w.data) + output * (w.inputs / Format::kBlock);
  }

  // The sums of one panel of `outputs` outputs. The blocks of each half of it (or of all, where Streams is 1) lie one
  // after another: whole segments of 16, wherever a row of weights begins. Two streams meet the same activations.
  template <std::size_t Rows, std::size_t Streams>
  static void panel_of_rows(const Block* w, std::size_t outputs, const Row* x, std::size_t blocks, float* const* p,
                            float* minima, Floats16* sums) {
    const std::size_t total = outputs / Streams * blocks;
    std::size_t at = 0;
    for (std::size_t block = 0; block < total; block += 16) {
      const Block* segments[Streams];
      Block padded[Streams][16];
      float* to[Streams][Rows];
      float* minima_to[Streams];
      for (std::size_t stream = 0; stream < Streams; ++stream) {
        const std::size_t here = stream * total + block;
        const std::size_t place = here + stream * kGap;
        segments[stream] = w + here;
        if (total - block < 16) [[unlikely]] {
          std::memset(padded[stream], 0, sizeof padded[stream]);
          std::memcpy(padded[stream], w + here, (total - block) * sizeof(Block));
          segments[stream] = padded[stream];
        }
        for (std::size_t row = 0; row < Rows; ++row) to[stream][row] = p[row] + place;
        minima_to[stream] = minima + place;
      }
      Format::template segment<Rows, Streams>(segments, x, at, to, minima_to);
      at += 16;
      while (at >= blocks) at -= blocks;
    }
    // Where the products of output i begin.
    const auto place = [&](std::size_t i) { return i * blocks + (Streams == 2 && 2 * i >= outputs ? kGap : 0); };
    Format::template add_up<Rows>(x, blocks, place, p, minima, sums);
  }

  template <std::size_t Rows>
  static void rows_of(const Matrix& w, const std::byte* const* activations, std::size_t first, std::size_t last,
                      float* y, std::size_t stride, float* scratch) {
    const std::size_t blocks = w.inputs / Format::kBlock;
    const std::size_t room = blocks * kPanel + 32 + kGap;
    const auto row_of = [&](std::size_t row) { return Row(activations[row % Rows], blocks); };
    const Row x[kMaxRowGroup] = {row_of(0), row_of(1), row_of(2), row_of(3)};
    float* p[Rows];
    for (std::size_t row = 0; row < Rows; ++row) p[row] = scratch + (row + 1) * room;
    for (std::size_t output = first; output < last; output += kPanel) {
      const std::size_t outputs = std::min(kPanel, last - output);
      Floats16 sums[Rows];
      if (kTwoStreams<Rows> && outputs % 2 == 0) {
        panel_of_rows<Rows, kTwoStreams<Rows> ? 2 : 1>(blocks_of(w, output), outputs, x, blocks, p, scratch, sums);
      } else {
        panel_of_rows<Rows, 1>(blocks_of(w, output), outputs, x, blocks, p, scratch, sums);
      }
      alignas(64) float lanes[Rows * kPanel];
      for (std::size_t row = 0; row < Rows; ++row) store_floats(lanes + kPanel * row, sums[row]);
      store_sums<kPanel>(lanes, Rows, outputs, y + output, stride);
    }
  }

  static void rows(const Matrix& w, const std::byte* const* x, std::size_t count, std::size_t first, std::size_t last,
                   float* y, std::size_t stride, float* scratch) {
    switch (count) {
      case 1:
        return rows_of<1>(w, x, first, last, y, stride, scratch);
      case 2:
        return rows_of<2>(w, x, first, last, y, stride, scratch);
      case 3:
        return rows_of<3>(w, x, first, last, y, stride, scratch);
      default:
        return rows_of<4>(w, x, first, last, y, stride, scratch);
    }
  }

  static std::size_t tile_bytes(std::size_t count, std::size_t inputs) {
    return inputs / Format::kBlock * tile_size(count) * sizeof(typename Format::template Tile<4>) / 4;
  }

  static void pack(const std::byte* const* activations, std::size_t count, std::size_t inputs, std::byte* to) {
    with_tile_size(count, [&]<std::size_t Rows>() {
      using Tile = typename Format::template Tile<Rows>;
      static_assert(4 * sizeof(Tile) == Rows * sizeof(typename Format::template Tile<4>));
      const std::size_t blocks = inputs / Format::kBlock;
      Row x[Rows] = {};
      for (std::size_t row = 0; row < count; ++row) x[row] = Row(activations[row], blocks);
      for (std::size_t block = 0; block < blocks; ++block) {
        Tile& tile = reinterpret_cast<Tile*>(to)[block];
        std::memset(&tile, 0, sizeof tile);
        Format::template pack_block<Rows>(x, count, block, tile);
      }
    });
  }

  static void panel(const Matrix& w, const std::byte* tiles, std::size_t count, std::size_t first, std::size_t last,
                    float* y, std::size_t stride, std::byte* scratch) {
    const std::size_t blocks = w.inputs / Format::kBlock;
    auto* expanded = reinterpret_cast<Panel*>(scratch);
    auto* sums = reinterpret_cast<float*>(scratch + kPanelRoom);
    const std::size_t at_once = count <= kFewRows ? Format::kFewRowsBlocks : kPanelBlocks;
    for (std::size_t output = first; output < last; output += kPanelOutputs) {
      std::memset(sums, 0, (count + kTileRows) * kPanelOutputs * sizeof(float));
      for (std::size_t begin = 0; begin < blocks; begin += at_once) {
        const std::size_t here = std::min(at_once, blocks - begin);
        const bool last_inputs = begin + here == blocks;
        Ahead ahead(blocks_of(w, output) + (last_inputs ? kPanelOutputs * blocks : begin + at_once),
                    blocks * sizeof(Block), kPanelOutputs, at_once * sizeof(Block));
        for (std::size_t i = 0; i < kTilePanels; ++i) {
          const std::size_t from = output + kPanel * i;
          const Block* here_from = blocks_of(w, from) + begin;
          Block padded[kPanel][kPanelBlocks];
          std::size_t row_blocks = blocks;
          if (from + kPanel > last) [[unlikely]] {  // missing outputs are computed and thrown away
            std::memset(padded, 0, sizeof padded);
            for (std::size_t row = 0; from + row < last; ++row)
              std::memcpy(padded[row], here_from + row * blocks, here * sizeof(Block));
            here_from = padded[0];
            row_blocks = kPanelBlocks;
          }
          Format::expand(here_from, row_blocks, here, expanded + i, ahead);
        }
        for (std::size_t row = 0; row < count; row += kTileRows) {
          // Outputs of neighbouring rows are far apart: their lines come while the last inputs are multiplied.
          for (std::size_t i = row; last_inputs && i < std::min(row + kTileRows, count); ++i)
            for (std::size_t at = 0; at < kPanelOutputs; at += kPanel)
              __builtin_prefetch(y + output + at + i * stride, 1);
          const std::byte* tile = tiles + row / kTileRows * tile_bytes(kTileRows, w.inputs);
          with_tile_size(std::min(kTileRows, count - row), [&]<std::size_t Rows>() {
            using Tile = typename Format::template Tile<Rows>;
            Format::template multiply_tile<Rows>(expanded, reinterpret_cast<const Tile*>(tile) + begin, here,
                                                 sums + kPanelOutputs * row, ahead);
          });
        }
      }
      store_sums<kPanelOutputs>(sums, count, std::min(kPanelOutputs, last - output), y + output, stride);
    }
  }

  static constexpr LinearFunctions kFunctions = {
      .max_rows = kMaxRowGroup, .rows = rows, .pack = pack, .tile_bytes = tile_bytes, .panel = panel};
};

}  // namespace sirocco::cpu::SIROCCO_ISA
