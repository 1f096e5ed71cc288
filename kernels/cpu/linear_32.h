// Linear kernels for weights in blocks of 32 with one float scale (and minimum) each.
//
// Of every output, block by block in order:  sum = fma(i * d, da, sum), and with minima  sum = fma(m, da * sa, sum),
// where i is the exact integer product of the blocks, d and m the weights' scale and minimum, da the activations'
// scale and sa their sum. One row or many, every instruction set: the same bits.
//
// A type of weights is a struct:
//   Block                             its block
//   kZero                             what is subtracted from the unpacked value (unsigned types), 0 with minima
//   kWide                             values are signed bytes beyond -32 to 31, unpacked as such
//   kMinima                           has minima
//   Bytes64 unpack(a, b)              two blocks' values, 0 to 127; or signed if kWide
//   Floats16 scales(p), minima(p)     of 16 blocks one after another
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/linear_functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/quant_blocks.h"

namespace sirocco::cpu::SIROCCO_ISA {

inline constexpr std::size_t kPrefetchBytes = 4096;  // ahead of the one-row kernels

template <class Type>
struct Linear32 {
  using Block = typename Type::Block;
  using Row = ActivationRow32<const std::byte>;

  static constexpr int kZero = Type::kWide ? kSignedOffset : Type::kZero;

  static const Block* blocks_of(const std::byte* p) { return reinterpret_cast<const Block*>(p); }

  SIROCCO_INLINE static Bytes64 unpacked(const Block* a, const Block* b) {
    if constexpr (Type::kWide) {
      return offset_signed(Type::unpack(*a, *b));
    } else {
      return Type::unpack(*a, *b);
    }
  }
  SIROCCO_INLINE static Ints16 product(Ints16 acc, Bytes64 w, Bytes64 a) {
    if constexpr (Type::kWide) {
      return dot_offset(acc, w, a);
    } else {
      return dot(acc, w, a);
    }
  }

  // --- one to four rows

  // i * d of 16 blocks against the activations from block `at` on, for each row; p: [16] floats of each row.
  template <std::size_t Rows>
  SIROCCO_INLINE static void segment(const Block* w, const Row* x, std::size_t at, float* const* p, float* minima) {
    Sum4 sums[2][Rows];
    for (std::size_t half = 0; half < 2; ++half) {
      Ints16 products[4][Rows];
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t block = 8 * half + 2 * i;
        const Bytes64 weights = unpacked(w + block, w + block + 1);
        for (std::size_t row = 0; row < Rows; ++row)
          products[i][row] = product(zero_ints(), weights, load_bytes(x[row].q + 32 * (at + block)));
      }
      for (std::size_t row = 0; row < Rows; ++row)
        sums[half][row] = sum_4(products[0][row], products[1][row], products[2][row], products[3][row]);
    }
    const auto* bytes = reinterpret_cast<const std::byte*>(w);
    const Floats16 scales = Type::scales(bytes);
    for (std::size_t row = 0; row < Rows; ++row) {
      Ints16 i = sum_each_half(sums[0][row], sums[1][row]);
      if constexpr (kZero != 0) i = subtract(i, multiply(load_ints(x[row].sum + at), broadcast_int(kZero)));
      store_floats(p[row], multiply(to_floats(i), scales));
    }
    if constexpr (Type::kMinima) store_floats(minima, Type::minima(bytes));
  }

  // Adds up a panel's products, block by block; p and minima: [16, blocks].
  template <std::size_t Rows>
  SIROCCO_INLINE static void add_up(const Row* x, std::size_t blocks, float* const* p, const float* minima,
                                    Floats16* sums) {
    for (std::size_t row = 0; row < Rows; ++row) sums[row] = zero_floats();
    for (std::size_t block = 0; block < blocks; block += 16) {
      const std::size_t count = std::min<std::size_t>(16, blocks - block);
      Floats16 m[16];
      if constexpr (Type::kMinima) {
        for (std::size_t i = 0; i < 16; ++i) m[i] = load_floats(minima + i * blocks + block);
        transpose(m);
      }
      for (std::size_t row = 0; row < Rows; ++row) {
        Floats16 t[16];
        for (std::size_t i = 0; i < 16; ++i) t[i] = load_floats(p[row] + i * blocks + block);
        transpose(t);
        const float* scale = x[row].scale + block;
        const float* scaled_sum = x[row].scaled_sum + block;
        Floats16 sum = sums[row];
        if (count == 16) {
#pragma GCC unroll 16
          for (std::size_t i = 0; i < 16; ++i) {
            sum = fma(t[i], broadcast(scale[i]), sum);
            if constexpr (Type::kMinima) sum = fma(m[i], broadcast(scaled_sum[i]), sum);
          }
        } else {
          for (std::size_t i = 0; i < count; ++i) {
            sum = fma(t[i], broadcast(scale[i]), sum);
            if constexpr (Type::kMinima) sum = fma(m[i], broadcast(scaled_sum[i]), sum);
          }
        }
        sums[row] = sum;
      }
    }
  }

  template <std::size_t Rows>
  static void rows_of(const Matrix& w, const std::byte* const* x, std::size_t first, std::size_t last, float* y,
                      std::size_t stride, float* scratch) {
    const std::size_t blocks = w.inputs / 32;
    const Row activations[4] = {{x[0], blocks}, {x[1 % Rows], blocks}, {x[2 % Rows], blocks}, {x[3 % Rows], blocks}};
    const std::size_t room = blocks * kPanel + 32;
    for (std::size_t output = first; output < last; output += kPanel) {
      const std::size_t outputs = std::min(kPanel, last - output);
      // The panel's blocks lie one after another: whole segments of 16, wherever a row of weights begins.
      const Block* panel = blocks_of(w.data) + output * blocks;
      const std::size_t total = outputs * blocks;
      std::size_t at = 0;
      for (std::size_t block = 0; block < total; block += 16) {
        const Block* segment_blocks = panel + block;
        Block padded[16];
        if (total - block < 16) [[unlikely]] {
          std::memset(padded, 0, sizeof padded);
          std::memcpy(padded, segment_blocks, (total - block) * sizeof(Block));
          segment_blocks = padded;
        }
        const auto* ahead = reinterpret_cast<const std::byte*>(panel + block) + kPrefetchBytes;
        for (std::size_t byte = 0; byte < 16 * sizeof(Block); byte += 64) prefetch(ahead + byte);
        float* p[4];
        for (std::size_t row = 0; row < Rows; ++row) p[row] = scratch + (row + 1) * room + block;
        segment<Rows>(segment_blocks, activations, at, p, scratch + block);
        at += 16;
        while (at >= blocks) at -= blocks;
      }
      Floats16 sums[Rows];
      float* p[4];
      for (std::size_t row = 0; row < Rows; ++row) p[row] = scratch + (row + 1) * room;
      add_up<Rows>(activations, blocks, p, scratch, sums);
      alignas(64) float lanes[Rows * kPanel];
      for (std::size_t row = 0; row < Rows; ++row) store_floats(lanes + kPanel * row, sums[row]);
      store_panel(lanes, Rows, outputs, y + output, stride);
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

  // --- many rows

  static constexpr int kPanelZero = Type::kWide ? kSignedOffset : kNarrowOffset;

  template <std::size_t Rows>
  struct Tile {  // of one block of the activations
    std::int8_t q[8][Rows][4];
    std::int32_t bias[Rows];  // -kPanelZero * sum of q
    float scale[Rows];
    float scaled_sum[Rows];
  };
  struct Panel {  // of one block of 16 outputs' weights
    std::uint8_t q[8][16][4];
    float scale[16];
    float minimum[16];
  };
  static constexpr std::size_t kPanelBlocks = kPanelInputs / 32;
  static_assert(kPanelBlocks * sizeof(Panel) <= 2 * kPanelInputs * kPanel);

  static std::size_t tile_bytes(std::size_t count, std::size_t inputs) {
    return inputs / 32 * tile_size(count) * sizeof(Tile<4>) / 4;
  }

  static void pack(const std::byte* const* x, std::size_t count, std::size_t inputs, std::byte* tile) {
    with_tile_size(count, [&]<std::size_t Rows>() {
      const std::size_t blocks = inputs / 32;
      auto* tiles = reinterpret_cast<Tile<Rows>*>(tile);
      for (std::size_t block = 0; block < blocks; ++block) {
        Tile<Rows>& to = tiles[block];
        const std::int8_t* q[Rows];
        for (std::size_t row = 0; row < count; ++row) {
          const Row from(x[row], blocks);
          q[row] = from.q + 32 * block;
          to.bias[row] = -kPanelZero * from.sum[block];
          to.scale[row] = from.scale[block];
          to.scaled_sum[row] = from.scaled_sum[block];
        }
        for (std::size_t row = count; row < Rows; ++row) {
          to.bias[row] = 0;
          to.scale[row] = 0;
          to.scaled_sum[row] = 0;
        }
        interleave<Rows>(q, count, 32, &to.q[0][0][0]);
      }
    });
  }

  // Expands `count` blocks of each of 16 rows of weights; rows: where they begin.
  static void expand(const Block* const* rows, std::size_t count, Panel* panel) {
    constexpr int kAdded = Type::kWide ? 0 : kNarrowOffset - Type::kZero;
    for (std::size_t block = 0; block < count; block += 2) {
      const std::size_t second = std::min(block + 1, count - 1);
      Bytes64 x[16];
      for (std::size_t row = 0; row < 16; ++row) {
        x[row] = unpacked(rows[row] + block, rows[row] + second);
        if constexpr (kAdded != 0) x[row] = add_bytes(x[row], broadcast_byte(static_cast<std::uint8_t>(kAdded)));
      }
      transpose_groups(x);
      for (std::size_t i = 0; i < 8; ++i) store_bytes(panel[block].q[i], x[i]);
      if (second != block)
        for (std::size_t i = 0; i < 8; ++i) store_bytes(panel[second].q[i], x[8 + i]);
    }
    for (std::size_t block = 0; block < count; block += 16) expand_scales(rows, block, count, panel);
  }

  SIROCCO_INLINE static void expand_scales(const Block* const* rows, std::size_t begin, std::size_t count,
                                           Panel* panel) {
    const std::size_t here = std::min<std::size_t>(16, count - begin);
    Floats16 scale[16];
    Floats16 minimum[16];
    for (std::size_t row = 0; row < 16; ++row) {
      const Block* from = rows[row] + begin;
      Block padded[16];
      if (here < 16) {
        std::memset(padded, 0, sizeof padded);
        std::memcpy(padded, from, here * sizeof(Block));
        from = padded;
      }
      const auto* bytes = reinterpret_cast<const std::byte*>(from);
      scale[row] = Type::scales(bytes);
      if constexpr (Type::kMinima) minimum[row] = Type::minima(bytes);
    }
    transpose(scale);
    if constexpr (Type::kMinima) transpose(minimum);
    for (std::size_t i = 0; i < here; ++i) {
      store_floats(panel[begin + i].scale, scale[i]);
      if constexpr (Type::kMinima) store_floats(panel[begin + i].minimum, minimum[i]);
    }
  }

  template <std::size_t Rows>
  SIROCCO_INLINE static void multiply_tile(const Panel* panel, const Tile<Rows>* tile, std::size_t blocks,
                                           float* sums) {
    Floats16 sum[Rows];
    for (std::size_t row = 0; row < Rows; ++row) sum[row] = load_floats(sums + 16 * row);
    for (std::size_t block = 0; block < blocks; ++block) {
      const Panel& w = panel[block];
      const Tile<Rows>& a = tile[block];
      Ints16 products[Rows];
#pragma GCC unroll 12
      for (std::size_t row = 0; row < Rows; ++row) products[row] = broadcast_int(a.bias[row]);
#pragma GCC unroll 8
      for (std::size_t i = 0; i < 8; ++i) {
        const Bytes64 weights = load_bytes(w.q[i]);
#pragma GCC unroll 12
        for (std::size_t row = 0; row < Rows; ++row) {
          products[row] = Type::kWide ? dot_group_offset(products[row], weights, a.q[i][row])
                                      : dot_group(products[row], weights, a.q[i][row]);
        }
      }
      const Floats16 scale = load_floats(w.scale);
#pragma GCC unroll 12
      for (std::size_t row = 0; row < Rows; ++row) {
        sum[row] = fma(multiply(to_floats(products[row]), scale), broadcast(a.scale[row]), sum[row]);
        if constexpr (Type::kMinima) sum[row] = fma(load_floats(w.minimum), broadcast(a.scaled_sum[row]), sum[row]);
      }
    }
    for (std::size_t row = 0; row < Rows; ++row) store_floats(sums + 16 * row, sum[row]);
  }

  static void panel(const Matrix& w, const std::byte* tiles, std::size_t count, std::size_t first, std::size_t last,
                    float* y, std::size_t stride, std::byte* scratch) {
    const std::size_t blocks = w.inputs / 32;
    auto* panel = reinterpret_cast<Panel*>(scratch);
    auto* sums = reinterpret_cast<float*>(scratch + 2 * kPanelInputs * kPanel);
    std::memset(sums, 0, (count + 16) * kPanel * sizeof(float));
    for (std::size_t begin = 0; begin < blocks; begin += kPanelBlocks) {
      const std::size_t here = std::min(kPanelBlocks, blocks - begin);
      const Block* rows[16];
      for (std::size_t i = 0; i < 16; ++i)  // the last panel's missing outputs are computed and thrown away
        rows[i] = blocks_of(w.data) + std::min(first + i, last - 1) * blocks + begin;
      expand(rows, here, panel);
      each_tile(count, [&](std::size_t row, std::size_t in_tile) {
        const std::byte* tile = tiles + row / kTileRows * tile_bytes(kTileRows, w.inputs);
        with_tile_size(in_tile, [&]<std::size_t Rows>() {
          multiply_tile<Rows>(panel, reinterpret_cast<const Tile<Rows>*>(tile) + begin, here, sums + 16 * row);
        });
      });
    }
    store_panel(sums, count, last - first, y + first, stride);
  }

  static constexpr LinearFunctions kFunctions = {.rows = rows, .pack = pack, .tile_bytes = tile_bytes, .panel = panel};
};

}  // namespace sirocco::cpu::SIROCCO_ISA
