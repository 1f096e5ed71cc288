// Linear kernels for weights in blocks of 32 with one float scale (and minimum) each.
//
// Of every output, block by block in order:  sum = fma(i * d, da, sum), and with minima  sum = fma(m, da * sa, sum),
// where i is the exact integer product of the blocks, d and m the weights' scale and minimum, da the activations'
// scale and sa their sum. One row or many, every instruction set: the same bits.
//
// A type of weights is a struct:
//   Block                             its block
//   kLargest                          of the unpacked values: at most 63, or 255 if kWide
//   kZero                             what is subtracted from the unpacked value (unsigned types), 0 with minima
//   kWide                             values are signed bytes beyond -32 to 31, unpacked as such
//   kMinima                           has minima
//   unpack(w, low, high)              values 0 to 15 and 16 to 31 of each of four blocks: 0 to 127, or signed if kWide
//   kChunks, chunk(i), group<G>(t)    as in linear_256.h
//   scales(p, d, m)                   scales and minima of 16 blocks one after another
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/linear_blocks.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/quant_blocks.h"

namespace sirocco::cpu::SIROCCO_ISA {

// Group Group of 16 rows from their 16 bytes of nibbles, transposed: low ones, then high ones.
template <std::size_t Group>
SIROCCO_INLINE Bytes64 nibble_group(const Bytes64* t) {
  constexpr int kShift = Group < 4 ? 0 : 4;
  return shift_words<kShift, 0x0F0F0F0F>(t[Group % 4]);
}

template <class Type>
struct Format32 {
  using Block = typename Type::Block;
  static constexpr std::size_t kBlock = 32;

  struct Row : ActivationRow32<const std::byte> {
    Row() : ActivationRow32(nullptr, 0) {}
    using ActivationRow32::ActivationRow32;
  };

  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) {
    Type::unpack(w, low, high);
    if constexpr (Type::kWide) {
      low = offset_signed(low);
      high = offset_signed(high);
    }
  }

  // --- one to four rows

  // i * d of 16 blocks of each stream for each row, to p[stream][row] [16].
  template <std::size_t Rows, std::size_t Streams>
  SIROCCO_INLINE static void segment(const Block* const* w, const Row* x, std::size_t at, float* (*p)[Rows],
                                     float* const* minima) {
    constexpr int kZero = Type::kWide ? kSignedOffset : Type::kZero;
    constexpr std::int64_t kLargest = std::int64_t{Type::kLargest} * 8 * 127;  // of a sum of 8 products
    Ints16 products[4][Streams][Rows];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      Bytes64 a_low[Rows];
      Bytes64 a_high[Rows];
      for (std::size_t row = 0; row < Rows; ++row) {
        a_low[row] = load_bytes(x[row].low + 16 * (at + 4 * i));
        a_high[row] = load_bytes(x[row].high + 16 * (at + 4 * i));
      }
      for (std::size_t stream = 0; stream < Streams; ++stream) {
        prefetch_ahead<4 * sizeof(Block)>(w[stream] + 4 * i);
        Bytes64 low;
        Bytes64 high;
        unpack(w[stream] + 4 * i, low, high);
        for (std::size_t row = 0; row < Rows; ++row) {
          products[i][stream][row] = Type::kWide
                                         ? dot_offset(dot_offset(zero_ints(), low, a_low[row]), high, a_high[row])
                                         : dot_2(low, a_low[row], high, a_high[row]);
        }
      }
    }
    for (std::size_t stream = 0; stream < Streams; ++stream) {
      Floats16 scales;
      Floats16 minimum;
      Type::scales(reinterpret_cast<const std::byte*>(w[stream]), scales, minimum);
      for (std::size_t row = 0; row < Rows; ++row) {
        Ints16 i = sum_fours<kLargest>(products[0][stream][row], products[1][stream][row], products[2][stream][row],
                                       products[3][stream][row]);
        if constexpr (kZero != 0) i = subtract(i, multiply(load_ints(x[row].sum + at), broadcast_int(kZero)));
        store_floats(p[stream][row], multiply(to_floats(i), scales));
      }
      if constexpr (Type::kMinima) store_floats(minima[stream], minimum);
    }
  }

  // p[row] and minima: of a panel's output i [blocks] from place(i) on.
  template <std::size_t Rows, class Place>
  SIROCCO_INLINE static void add_up(const Row* x, std::size_t blocks, Place place, float* const* p, const float* minima,
                                    Floats16* sums) {
    for (std::size_t row = 0; row < Rows; ++row) sums[row] = zero_floats();
    for (std::size_t block = 0; block < blocks; block += 16) {
      const std::size_t count = std::min<std::size_t>(16, blocks - block);
      Floats16 m[16];
      if constexpr (Type::kMinima) {
        for (std::size_t i = 0; i < 16; ++i) m[i] = load_floats(minima + place(i) + block);
        transpose(m);
      }
      for (std::size_t row = 0; row < Rows; ++row) {
        Floats16 t[16];
        for (std::size_t i = 0; i < 16; ++i) t[i] = load_floats(p[row] + place(i) + block);
        transpose(t);
        const float* scale = x[row].scale + block;
        const float* scaled_sum = x[row].scaled_sum + block;
        const auto add_block = [&](std::size_t i) {
          sums[row] = fma(t[i], broadcast(scale[i]), sums[row]);
          if constexpr (Type::kMinima) sums[row] = fma(m[i], broadcast(scaled_sum[i]), sums[row]);
        };
        if (count == 16) {
#pragma GCC unroll 16
          for (std::size_t i = 0; i < 16; ++i) add_block(i);
        } else {
          for (std::size_t i = 0; i < count; ++i) add_block(i);
        }
      }
    }
  }

  // --- many rows

  static constexpr std::size_t kPanelBlocks = kPanelInputs / kTilePanels / kBlock;
  static constexpr std::size_t kFewRowsBlocks = kPanelBlocks;
  // Lines of the next weights: a tenth of them with each 16 rows of 256 inputs, the rest with the products.
  static constexpr std::size_t kLinesAhead = kPanelOutputs * (kPanelBlocks * sizeof(Block) / 64 + 1);
  static constexpr std::size_t kAskedWhileExpanded = kLinesAhead / 80;
  static constexpr std::size_t kAskedWhileMultiplied = kLinesAhead / kPanelBlocks * 6 / 10 + 1;

  static constexpr int kPanelZero = Type::kWide ? kSignedOffset : kUnsignedPanels ? Type::kZero : 0;

  template <std::size_t Rows>
  struct Tile {
    std::int8_t q[8][Rows][4];
    std::int32_t bias[Rows];  // -kPanelZero * sum of q
    float scale[Rows];
    float scaled_sum[Rows];
  };
  struct Panel {
    std::uint8_t q[8][16][4];
    float scale[16];
    float minimum[16];
  };

  template <std::size_t Rows>
  SIROCCO_INLINE static void pack_block(const Row* x, std::size_t count, std::size_t block, Tile<Rows>& tile) {
    for (std::size_t row = 0; row < count; ++row) {
      interleave<Rows>(x[row].low + 16 * block, row, 16, tile.q);
      interleave<Rows>(x[row].high + 16 * block, row, 16, tile.q + 4);
      tile.bias[row] = -kPanelZero * x[row].sum[block];
      tile.scale[row] = x[row].scale[block];
      tile.scaled_sum[row] = x[row].scaled_sum[block];
    }
  }

  static void expand(const Block* w, std::size_t stride, std::size_t count, Panel* panels, Ahead& ahead) {
    for (std::size_t block = 0; block < count; ++block) {
      ahead.ask(kAskedWhileExpanded);
      expand_values<Type, kPanelZero, 8>(w + block, stride, panels[block * kTilePanels].q);
    }
    for (std::size_t block = 0; block < count; block += 16)
      expand_scales(w + block, stride, std::min<std::size_t>(16, count - block), panels + block * kTilePanels);
  }

  SIROCCO_INLINE static void expand_scales(const Block* w, std::size_t stride, std::size_t count, Panel* panels) {
    Floats16 scale[16];
    Floats16 minimum[16];
    for (std::size_t row = 0; row < 16; ++row) {
      const Block* from = w + row * stride;
      Block padded[16];
      if (count < 16) [[unlikely]] {
        std::memset(padded, 0, sizeof padded);
        std::memcpy(padded, from, count * sizeof(Block));
        from = padded;
      }
      Type::scales(reinterpret_cast<const std::byte*>(from), scale[row], minimum[row]);
    }
    transpose(scale);
    for (std::size_t i = 0; i < count; ++i) store_floats(panels[i * kTilePanels].scale, scale[i]);
    if constexpr (Type::kMinima) {
      transpose(minimum);
      for (std::size_t i = 0; i < count; ++i) store_floats(panels[i * kTilePanels].minimum, minimum[i]);
    }
  }

  template <std::size_t Rows>
  SIROCCO_INLINE static void multiply_tile(const Panel* panels, const Tile<Rows>* tile, std::size_t blocks, float* sums,
                                           Ahead& ahead) {
    constexpr std::size_t kTileSums = Rows * kTilePanels;  // sum i: row i / kTilePanels, panel i % kTilePanels
    Floats16 sum[kTileSums];
    for (std::size_t i = 0; i < kTileSums; ++i) sum[i] = load_floats(sums + 16 * i);
    for (std::size_t block = 0; block < blocks; ++block) {
      ahead.ask(kAskedWhileMultiplied);
      const Panel* w = panels + block * kTilePanels;
      const Tile<Rows>& a = tile[block];
      Ints16 products[kTileSums];
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kTileSums; ++i)
        products[i] = kPanelZero == 0 ? zero_ints() : broadcast_int(a.bias[i / kTilePanels]);
#pragma GCC unroll 8
      for (std::size_t g = 0; g < 8; ++g) multiply_group<Type::kWide, Rows>(&w->q[g], sizeof(Panel), a.q[g], products);
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kTileSums; ++i) {
        const std::size_t row = i / kTilePanels;
        const Panel& panel = w[i % kTilePanels];
        sum[i] = fma(multiply(to_floats(products[i]), load_floats(panel.scale)), broadcast(a.scale[row]), sum[i]);
        if constexpr (Type::kMinima) sum[i] = fma(load_floats(panel.minimum), broadcast(a.scaled_sum[row]), sum[i]);
      }
    }
    for (std::size_t i = 0; i < kTileSums; ++i) store_floats(sums + 16 * i, sum[i]);
  }
};

template <class Type>
using Linear32 = LinearBlocks<Format32<Type>>;

}  // namespace sirocco::cpu::SIROCCO_ISA
