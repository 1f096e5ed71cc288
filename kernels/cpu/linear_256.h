// Linear kernels for weights in blocks of 256: float scale (and minimum), integer scales (and minima) of sub-blocks.
//
// Of every output, block by block in order:  sum = fma(fma(d, i, -(dm * m)), da, sum), without minima
// fma(d * i, da, sum), where i is the exact integer sum over sub-blocks of scale times product, m that of minimum times
// the sum of the activations, d and dm the block's scale and minimum, da the activations' scale. One row or many, every
// instruction set: the same bits.
//
// A type of weights is a struct:
//   Block                       its block
//   kSubBlock                   16 or 32
//   kZero                       what is subtracted from the unpacked value, a power of two or 0
//   kWide                       values are signed bytes beyond -32 to 31, unpacked as such
//   kMinima                     has minima
//   Bytes64 unpack<Part>(b)     values 64 Part to 64 Part + 63, 0 to 127; or signed if kWide
//   sub_scales_of(b)            sub-blocks' scales: std::uint64_t for 8, Bytes16 for 16, int8 each; likewise
//   sub_minima_of(b)
//   Floats16 scales(p), minima(p)  of 16 blocks one after another
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/linear_functions.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/half.h"
#include "kernels/quant_blocks.h"

namespace sirocco::cpu::SIROCCO_ISA {

template <class Type>
struct Linear256 {
  using Block = typename Type::Block;
  using Row = ActivationRow256<const std::byte>;

  static constexpr int kSubBlocks = 256 / Type::kSubBlock;
  static constexpr int kZero = Type::kWide ? kSignedOffset : Type::kZero;
  static constexpr int kShift = std::countr_zero(static_cast<unsigned>(kZero));  // of kZero, where it is not 0
  static constexpr std::size_t kPrefetchBytes = 4096;

  static const Block* blocks_of(const std::byte* p) { return reinterpret_cast<const Block*>(p); }

  template <int Part>
  SIROCCO_INLINE static Bytes64 unpacked(const Block& b) {
    if constexpr (Type::kWide) {
      return offset_signed(Type::template unpack<Part>(b));
    } else {
      return Type::template unpack<Part>(b);
    }
  }

  SIROCCO_INLINE static const std::int16_t* sums_of(const Row& x, std::size_t block) {
    return Type::kSubBlock == 16 ? x.sum16 + 16 * block : x.sum32 + 8 * block;
  }

  // --- one to four rows

  template <int Part, std::size_t Rows>
  SIROCCO_INLINE static void add_part(const Block& w, const std::int8_t* const* a,
                                      const SubScales<Type::kSubBlock>& scales, Ints16* i) {
    const Bytes64 weights = unpacked<Part>(w);
    for (std::size_t row = 0; row < Rows; ++row) {
      const Bytes64 activations = load_bytes(a[row] + 64 * Part);
      if constexpr (Type::kWide) {
        i[row] = dot_scaled_offset<Part>(i[row], weights, activations, scales);
      } else {
        i[row] = dot_scaled<Part>(i[row], weights, activations, scales);
      }
    }
  }

  // The integer part of one block: i in lanes that add up.
  template <std::size_t Rows>
  SIROCCO_INLINE static void multiply_block(const Block& w, const Row* x, std::size_t block, Ints16* i) {
    const std::int8_t* a[Rows];
    for (std::size_t row = 0; row < Rows; ++row) {
      a[row] = x[row].q + 256 * block;
      i[row] = zero_ints();
    }
    const SubScales<Type::kSubBlock> scales = sub_scales(Type::sub_scales_of(w));
    add_part<0, Rows>(w, a, scales, i);
    add_part<1, Rows>(w, a, scales, i);
    add_part<2, Rows>(w, a, scales, i);
    add_part<3, Rows>(w, a, scales, i);
    if constexpr (kZero != 0) {
      for (std::size_t row = 0; row < Rows; ++row) {
        if constexpr (Type::kSubBlock == 16) {
          i[row] = subtract_dot_16<kShift>(i[row], scales, x[row].sum16 + 16 * block);
        } else {
          i[row] = subtract_dot_8<kShift>(i[row], scales, x[row].sum32 + 8 * block);
        }
      }
    }
  }

  // What 16 blocks contribute before the activations' scale, against the activations from block `at` on.
  template <std::size_t Rows>
  SIROCCO_INLINE static void segment(const Block* w, const Row* x, std::size_t at, float* const* p) {
    Sum4 sums[4][Rows];
    Ints16 minima[4][Rows];
#pragma GCC unroll 1
    for (std::size_t four = 0; four < 4; ++four) {
      Ints16 i[4][Rows];
      Ints4 m[4][Rows];
#pragma GCC unroll 4
      for (std::size_t j = 0; j < 4; ++j) {
        const std::size_t block = 4 * four + j;
        multiply_block<Rows>(w[block], x, at + block, i[j]);
        if constexpr (Type::kMinima) {
          const auto sub_minima = Type::sub_minima_of(w[block]);
          for (std::size_t row = 0; row < Rows; ++row) m[j][row] = dot_16(sub_minima, sums_of(x[row], at + block));
        }
      }
      for (std::size_t row = 0; row < Rows; ++row) {
        sums[four][row] = sum_4(i[0][row], i[1][row], i[2][row], i[3][row]);
        if constexpr (Type::kMinima) minima[four][row] = join(m[0][row], m[1][row], m[2][row], m[3][row]);
      }
    }
    const auto* bytes = reinterpret_cast<const std::byte*>(w);
    const Floats16 scales = Type::scales(bytes);
    Floats16 minimum = zero_floats();
    if constexpr (Type::kMinima) minimum = Type::minima(bytes);
    for (std::size_t row = 0; row < Rows; ++row) {
      const Ints16 i = sum_each(sums[0][row], sums[1][row], sums[2][row], sums[3][row]);
      if constexpr (Type::kMinima) {
        const Ints16 m = sum_fours(minima[0][row], minima[1][row], minima[2][row], minima[3][row]);
        store_floats(p[row], fma_subtract(scales, to_floats(i), multiply(minimum, to_floats(m))));
      } else {
        store_floats(p[row], multiply(scales, to_floats(i)));
      }
    }
  }

  template <std::size_t Rows>
  SIROCCO_INLINE static void add_up(const Row* x, std::size_t blocks, float* const* p, Floats16* sums) {
    for (std::size_t row = 0; row < Rows; ++row) sums[row] = zero_floats();
    for (std::size_t block = 0; block < blocks; block += 16) {
      const std::size_t count = std::min<std::size_t>(16, blocks - block);
      for (std::size_t row = 0; row < Rows; ++row) {
        Floats16 t[16];
        for (std::size_t i = 0; i < 16; ++i) t[i] = load_floats(p[row] + i * blocks + block);
        transpose(t);
        for (std::size_t i = 0; i < count; ++i) sums[row] = fma(t[i], broadcast(x[row].scale[block + i]), sums[row]);
      }
    }
  }

  template <std::size_t Rows>
  static void rows_of(const Matrix& w, const std::byte* const* x, std::size_t first, std::size_t last, float* y,
                      std::size_t stride, float* scratch) {
    const std::size_t blocks = w.inputs / 256;
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
        for (std::size_t row = 0; row < Rows; ++row) p[row] = scratch + row * room + block;
        segment<Rows>(segment_blocks, activations, at, p);
        at += 16;
        while (at >= blocks) at -= blocks;
      }
      float* p[4];
      for (std::size_t row = 0; row < Rows; ++row) p[row] = scratch + row * room;
      Floats16 sums[Rows];
      add_up<Rows>(activations, blocks, p, sums);
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

  static constexpr bool kOffset = Type::kWide || Type::kZero != 0;
  static constexpr int kPanelZero = Type::kWide ? kSignedOffset : kOffset ? kNarrowOffset : 0;
  static constexpr int kPairs = Type::kMinima ? kSubBlocks / 2 : 0;

  template <std::size_t Rows>
  struct Tile {  // of one block of the activations
    std::int8_t q[64][Rows][4];
    std::int32_t bias[kOffset ? kSubBlocks : 1][Rows];       // -kPanelZero * sum of the sub-block's q
    std::int16_t sums[Type::kMinima ? kPairs : 1][Rows][2];  // of sub-blocks 2i and 2i + 1
    float scale[Rows];
  };
  struct Panel {  // of one block of 16 outputs' weights
    std::uint8_t q[64][16][4];
    std::int8_t sub_scale[kSubBlocks][16];
    std::int16_t sub_minimum[Type::kMinima ? kPairs : 1][16][2];
    float scale[16];
    float minimum[16];
  };
  static constexpr std::size_t kPanelBlocks = kPanelInputs / 256;
  static_assert(kPanelBlocks * sizeof(Panel) <= 2 * kPanelInputs * kPanel);

  static std::size_t tile_bytes(std::size_t count, std::size_t inputs) {
    return inputs / 256 * tile_size(count) * sizeof(Tile<4>) / 4;
  }

  static void pack(const std::byte* const* x, std::size_t count, std::size_t inputs, std::byte* tile) {
    with_tile_size(count, [&]<std::size_t Rows>() {
      const std::size_t blocks = inputs / 256;
      auto* tiles = reinterpret_cast<Tile<Rows>*>(tile);
      for (std::size_t block = 0; block < blocks; ++block) {
        Tile<Rows>& to = tiles[block];
        const std::int8_t* q[Rows];
        for (std::size_t row = 0; row < count; ++row) {
          const Row from(x[row], blocks);
          q[row] = from.q + 256 * block;
          const std::int16_t* sums = sums_of(from, block);
          if constexpr (kOffset)
            for (int i = 0; i < kSubBlocks; ++i) to.bias[i][row] = -kPanelZero * sums[i];
          if constexpr (Type::kMinima)
            for (int i = 0; i < kSubBlocks; ++i) to.sums[i / 2][row][i % 2] = sums[i];
          to.scale[row] = from.scale[block];
        }
        for (std::size_t row = count; row < Rows; ++row) {
          if constexpr (kOffset)
            for (int i = 0; i < kSubBlocks; ++i) to.bias[i][row] = 0;
          if constexpr (Type::kMinima)
            for (int i = 0; i < kSubBlocks; ++i) to.sums[i / 2][row][i % 2] = 0;
          to.scale[row] = 0;
        }
        interleave<Rows>(q, count, 256, &to.q[0][0][0]);
      }
    });
  }

  template <int Part>
  SIROCCO_INLINE static void expand_part(const Block* const* rows, std::size_t block, Panel& panel) {
    constexpr int kAdded = Type::kWide || !kOffset ? 0 : kNarrowOffset - Type::kZero;
    Bytes64 x[16];
    for (std::size_t row = 0; row < 16; ++row) {
      x[row] = unpacked<Part>(rows[row][block]);
      if constexpr (kAdded != 0) x[row] = add_bytes(x[row], broadcast_byte(static_cast<std::uint8_t>(kAdded)));
    }
    transpose_groups(x);
    for (std::size_t i = 0; i < 16; ++i) store_bytes(panel.q[16 * Part + i], x[i]);
  }

  // The sub-blocks' integers as int8.
  static void store_subs(std::int8_t* to, std::uint64_t eight) {
    std::memcpy(to, &eight, sizeof eight);
  }
  SIROCCO_INLINE static void store_subs(std::int8_t* to, Bytes16 sixteen) {
    store_16(to, sixteen);
  }

  static void expand(const Block* const* rows, std::size_t count, Panel* panels) {
    for (std::size_t block = 0; block < count; ++block) {
      Panel& panel = panels[block];
      expand_part<0>(rows, block, panel);
      expand_part<1>(rows, block, panel);
      expand_part<2>(rows, block, panel);
      expand_part<3>(rows, block, panel);
      for (std::size_t row = 0; row < 16; ++row) {
        const Block& from = rows[row][block];
        std::int8_t subs[kSubBlocks];
        store_subs(subs, Type::sub_scales_of(from));
        for (int i = 0; i < kSubBlocks; ++i) panel.sub_scale[i][row] = subs[i];
        panel.scale[row] = Type::scale(from);
        if constexpr (Type::kMinima) {
          store_subs(subs, Type::sub_minima_of(from));
          for (int i = 0; i < kSubBlocks; ++i) panel.sub_minimum[i / 2][row][i % 2] = subs[i];
          panel.minimum[row] = Type::minimum(from);
        }
      }
    }
  }

  template <std::size_t Rows>
  SIROCCO_INLINE static void multiply_tile(const Panel* panels, const Tile<Rows>* tiles, std::size_t blocks,
                                           float* sums) {
    for (std::size_t block = 0; block < blocks; ++block) {
      const Panel& w = panels[block];
      const Tile<Rows>& a = tiles[block];
      Ints16 total[Rows];
#pragma GCC unroll 12
      for (std::size_t row = 0; row < Rows; ++row) total[row] = zero_ints();
#pragma GCC unroll 1
      for (int sub = 0; sub < kSubBlocks; ++sub) {
        Ints16 products[Rows];
#pragma GCC unroll 12
        for (std::size_t row = 0; row < Rows; ++row) {
          if constexpr (kOffset) {
            products[row] = broadcast_int(a.bias[sub][row]);
          } else {
            products[row] = zero_ints();
          }
        }
#pragma GCC unroll 8
        for (int i = 0; i < Type::kSubBlock / 4; ++i) {
          const int group = sub * (Type::kSubBlock / 4) + i;
          const Bytes64 weights = load_bytes(w.q[group]);
#pragma GCC unroll 12
          for (std::size_t row = 0; row < Rows; ++row) {
            products[row] = Type::kWide ? dot_group_offset(products[row], weights, a.q[group][row])
                                        : dot_group(products[row], weights, a.q[group][row]);
          }
        }
        const Ints16 scale = widen_bytes(w.sub_scale[sub]);
#pragma GCC unroll 12
        for (std::size_t row = 0; row < Rows; ++row) total[row] = add(total[row], multiply(products[row], scale));
      }
      const Floats16 scale = load_floats(w.scale);
      const Floats16 minimum = load_floats(w.minimum);
#pragma GCC unroll 12
      for (std::size_t row = 0; row < Rows; ++row) {
        Floats16 value;
        if constexpr (Type::kMinima) {
          Ints16 m = zero_ints();
          for (int i = 0; i < kPairs; ++i) m = dot_pair(m, w.sub_minimum[i][0], a.sums[i][row]);
          value = fma_subtract(scale, to_floats(total[row]), multiply(minimum, to_floats(m)));
        } else {
          value = multiply(scale, to_floats(total[row]));
        }
        store_floats(sums + 16 * row, fma(value, broadcast(a.scale[row]), load_floats(sums + 16 * row)));
      }
    }
  }

  static void panel(const Matrix& w, const std::byte* tiles, std::size_t count, std::size_t first, std::size_t last,
                    float* y, std::size_t stride, std::byte* scratch) {
    const std::size_t blocks = w.inputs / 256;
    auto* panels = reinterpret_cast<Panel*>(scratch);
    auto* sums = reinterpret_cast<float*>(scratch + 2 * kPanelInputs * kPanel);
    std::memset(sums, 0, (count + 16) * kPanel * sizeof(float));
    for (std::size_t begin = 0; begin < blocks; begin += kPanelBlocks) {
      const std::size_t here = std::min(kPanelBlocks, blocks - begin);
      const Block* rows[16];
      for (std::size_t i = 0; i < 16; ++i)  // the last panel's missing outputs are computed and thrown away
        rows[i] = blocks_of(w.data) + std::min(first + i, last - 1) * blocks + begin;
      expand(rows, here, panels);
      each_tile(count, [&](std::size_t row, std::size_t in_tile) {
        const std::byte* tile = tiles + row / kTileRows * tile_bytes(kTileRows, w.inputs);
        with_tile_size(in_tile, [&]<std::size_t Rows>() {
          multiply_tile<Rows>(panels, reinterpret_cast<const Tile<Rows>*>(tile) + begin, here, sums + 16 * row);
        });
      });
    }
    store_panel(sums, count, last - first, y + first, stride);
  }

  static constexpr LinearFunctions kFunctions = {.rows = rows, .pack = pack, .tile_bytes = tile_bytes, .panel = panel};
};

}  // namespace sirocco::cpu::SIROCCO_ISA
