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
//   kLargest                    of the unpacked values, at most 63, unless kWide
//   kZero                       what is subtracted from the unpacked value, a power of two or 0
//   kWide                       values are signed bytes beyond -32 to 31, unpacked as such
//   kMinima                     has minima
//   Bytes64 unpack<Part>(b)     values of runs (of 32) 4 (Part / 2) + Part % 2 and the next but one: 0 to 127, or
//                               signed if kWide
//   kChunks, chunk(i)           where a block has its packed values, 16 bytes of each: offset of chunk i
//   group<G>(t)                 values 4 G to 4 G + 3 of 16 rows, from t[4 i + j]: bytes 4 j to 4 j + 3 of chunk i
//   kHeader                     where the 16 bytes of a block are (its header) that have the sub-blocks' scales
//   sub_scales(x), sub_minima(x)   of four blocks by their headers, in 16 bytes each: 16 int8; or 8 scales, then 8
//                               minima
//   kScales                     where the 16 bytes of a block are that have its scale and minimum
//   scales(x, d, m)             of 16 blocks by those bytes, four in each x[i]
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/linear_blocks.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/half.h"
#include "kernels/quant_blocks.h"

namespace sirocco::cpu::SIROCCO_ISA {

template <class Type>
struct Format256 {
  using Block = typename Type::Block;
  static constexpr std::size_t kBlock = 256;
  static constexpr std::size_t kSubBlocks = 256 / Type::kSubBlock;
  using Values = SubValues<Type::kSubBlock>;

  struct Row : ActivationRow256<const std::byte> {
    Row() : ActivationRow256(nullptr, 0) {}
    using ActivationRow256::ActivationRow256;
    // Sums of the activations of each sub-block, from block `block` on.
    SIROCCO_INLINE const std::int16_t* sums(std::size_t block) const {
      return Type::kSubBlock == 16 ? this->sum16 + 16 * block : this->sum32 + 8 * block;
    }
  };

  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    if constexpr (Type::kWide) {
      return offset_signed(Type::template unpack<Part>(b));
    } else {
      return Type::template unpack<Part>(b);
    }
  }

  // --- one to four rows

  // The integers of four blocks of one stream, on the way to sums.
  template <std::size_t Rows>
  struct Four {
    Bytes64 header;
    Sum4 products[Rows];
    Ints16 sums[Rows];  // of minima, or of scales where values have a zero point
  };
  static constexpr int kZero_ = Type::kWide ? kSignedOffset : Type::kZero;
  static constexpr bool kSums = Type::kMinima || kZero_ != 0;

  template <std::size_t Rows>
  SIROCCO_INLINE static void add_sums(Bytes64 sub_scales, const Row* x, std::size_t at, Four<Rows>& four) {
    for (std::size_t row = 0; row < Rows; ++row) {
      if constexpr (Type::kMinima) {
        // Eight minima stand behind eight scales, 16 by themselves.
        four.sums[row] =
            dot_sums<Type::kSubBlock, Type::kSubBlock == 32>(Type::sub_minima(four.header), x[row].sums(at));
      } else if constexpr (kSums) {
        four.sums[row] = dot_sums<Type::kSubBlock, false>(sub_scales, x[row].sums(at));
      }
    }
  }

  template <std::size_t Rows, std::size_t Streams>
  SIROCCO_INLINE static void multiply_four(const Block* const* w, const Row* x, std::size_t at, Four<Rows>* fours) {
    Values scales[Streams][4];
    Partial products[Streams][Rows][4];
    for (std::size_t stream = 0; stream < Streams; ++stream) {
      fours[stream].header = gather_16<sizeof(Block), Type::kHeader>(w[stream]);
      const Bytes64 sub_scales = Type::sub_scales(fours[stream].header);
      store_values(sub_scales, scales[stream]);
      add_sums<Rows>(sub_scales, x, at, fours[stream]);
    }
#pragma GCC unroll kUnrolledBlocks
    for (std::size_t j = 0; j < 4; ++j) {
      for (std::size_t stream = 0; stream < Streams; ++stream) {
        const Block& block = w[stream][j];
        prefetch_ahead<sizeof(Block)>(&block);
        const Bytes64 weights[4] = {unpack<0>(block), unpack<1>(block), unpack<2>(block), unpack<3>(block)};
        for (std::size_t row = 0; row < Rows; ++row) {
          const std::int8_t* a = x[row].q + 256 * (at + j);
          if constexpr (Type::kWide) {
            products[stream][row][j] = dot_block_offset(weights, a, scales[stream][j]);
          } else {
            products[stream][row][j] = dot_block<Type::kLargest>(weights, a, scales[stream][j]);
          }
        }
      }
    }
    for (std::size_t stream = 0; stream < Streams; ++stream) {
      for (std::size_t row = 0; row < Rows; ++row) {
        const Partial* of = products[stream][row];
        fours[stream].products[row] = sum_4(of[0], of[1], of[2], of[3]);
      }
    }
  }

  // What 16 blocks of each stream contribute before the activations' scale, to p[stream][row] [16].
  template <std::size_t Rows, std::size_t Streams>
  SIROCCO_INLINE static void segment(const Block* const* w, const Row* x, std::size_t at, float* (*p)[Rows],
                                     float* const*) {
    Four<Rows> fours[4][Streams];
#pragma GCC unroll 1
    for (std::size_t four = 0; four < 4; ++four) {
      const Block* here[Streams];
      for (std::size_t stream = 0; stream < Streams; ++stream) here[stream] = w[stream] + 4 * four;
      multiply_four<Rows, Streams>(here, x, at + 4 * four, fours[four]);
    }
    for (std::size_t stream = 0; stream < Streams; ++stream) {
      const auto of = [&](std::size_t four) -> const Four<Rows>& { return fours[four][stream]; };
      Floats16 scales;
      Floats16 minima;
      Bytes64 with_scales[4];
      for (std::size_t i = 0; i < 4; ++i)
        with_scales[i] =
            Type::kScales == Type::kHeader ? of(i).header : gather_16<sizeof(Block), Type::kScales>(w[stream] + 4 * i);
      Type::scales(with_scales, scales, minima);
      for (std::size_t row = 0; row < Rows; ++row) {
        Ints16 i = sum_each(of(0).products[row], of(1).products[row], of(2).products[row], of(3).products[row]);
        if constexpr (!kSums) {
          store_floats(p[stream][row], multiply(scales, to_floats(i)));
        } else {
          const Ints16 m = sum_fours(of(0).sums[row], of(1).sums[row], of(2).sums[row], of(3).sums[row]);
          if constexpr (Type::kMinima) {
            store_floats(p[stream][row], fma_subtract(scales, to_floats(i), multiply(minima, to_floats(m))));
          } else {
            i = subtract(i, shift_left_ints<std::countr_zero(static_cast<unsigned>(kZero_))>(m));
            store_floats(p[stream][row], multiply(scales, to_floats(i)));
          }
        }
      }
    }
  }

  // p[row]: of a panel's output i [blocks] from place(i) on.
  template <std::size_t Rows, class Place>
  SIROCCO_INLINE static void add_up(const Row* x, std::size_t blocks, Place place, float* const* p, const float*,
                                    Floats16* sums) {
    for (std::size_t row = 0; row < Rows; ++row) sums[row] = zero_floats();
    for (std::size_t block = 0; block < blocks; block += 16) {
      const std::size_t count = std::min<std::size_t>(16, blocks - block);
      for (std::size_t row = 0; row < Rows; ++row) {
        Floats16 t[16];
        for (std::size_t i = 0; i < 16; ++i) t[i] = load_floats(p[row] + place(i) + block);
        transpose(t);
        for (std::size_t i = 0; i < count; ++i) sums[row] = fma(t[i], broadcast(x[row].scale[block + i]), sums[row]);
      }
    }
  }

  // --- many rows

  static constexpr std::size_t kPanelBlocks = kPanelInputs / kTilePanels / kBlock;
  // What few rows meet once leaves room for others in a first cache of 32 KiB.
  static constexpr std::size_t kFewRowsBlocks = kTilePanels == 2 ? 1 : kPanelBlocks;
  // Lines of the next weights, for each 256 inputs: four tenths of them while these are expanded, the rest with the
  // products.
  static constexpr std::size_t kLinesAhead = kPanelOutputs * (sizeof(Block) / 64 + 1);
  static constexpr std::size_t kAskedWhileExpanded = kLinesAhead * 4 / 10 / kTilePanels;
  static constexpr std::size_t kAskedWhileMultiplied = kLinesAhead / kSubBlocks * 6 / 10 + 1;

  // Values in a panel are kPanelZero too large.
  static constexpr int kPanelZero = Type::kWide ? kSignedOffset : kUnsignedPanels ? Type::kZero : 0;
  // Products of a sub-block are summed in so many pieces that each fits in int16.
  static constexpr int kPieces = [] {
    int largest = 128;
    if constexpr (!Type::kWide) largest = std::max(Type::kLargest - Type::kZero, Type::kZero);
    int pieces = 1;
    while (Type::kSubBlock / pieces * largest * 127 > 32767) pieces *= 2;
    return pieces;
  }();
  static constexpr bool kOffset = kPanelZero != 0;
  // With zero points only where there is one piece, whose bias is the sub-block's.
  static constexpr bool kNarrow = kPieces <= (kOffset ? std::min(kCheapPieces, 1) : kCheapPieces);

  template <std::size_t Rows>
  struct Tile {
    std::int8_t q[64][Rows][4];
    std::int32_t bias[kOffset ? kSubBlocks : 1][Rows];               // -kPanelZero * sum of the sub-block's q
    std::int16_t sums[Type::kMinima ? kSubBlocks / 2 : 1][Rows][2];  // of sub-blocks 2i and 2i + 1
    float scale[Rows];
  };
  struct Panel {
    std::uint8_t q[64][16][4];
    std::int32_t sub_scale[kSubBlocks][16];
    std::int16_t sub_minimum[Type::kMinima ? kSubBlocks / 2 : 1][16][2];
    float scale[16];
    float minimum[16];
  };

  template <std::size_t Rows>
  SIROCCO_INLINE static void pack_block(const Row* x, std::size_t count, std::size_t block, Tile<Rows>& tile) {
    for (std::size_t row = 0; row < count; ++row) {
      for (std::size_t run = 0; run < 8; ++run)
        interleave<Rows>(x[row].q + 256 * block + 32 * run_place(run), row, 32, tile.q + 8 * run);
      const std::int16_t* sums = x[row].sums(block);
      if constexpr (kOffset)
        for (std::size_t i = 0; i < kSubBlocks; ++i) tile.bias[i][row] = -kPanelZero * sums[i];
      if constexpr (Type::kMinima)
        for (std::size_t i = 0; i < kSubBlocks; ++i) tile.sums[i / 2][row][i % 2] = sums[i];
      tile.scale[row] = x[row].scale[block];
    }
  }

  static void expand(const Block* w, std::size_t stride, std::size_t count, Panel* panels, Ahead& ahead) {
    for (std::size_t block = 0; block < count; ++block) {
      Panel& panel = panels[block * kTilePanels];
      ahead.ask(kAskedWhileExpanded);
      expand_values<Type, kPanelZero, 64>(w + block, stride, panel.q);
      expand_scales(w + block, stride, panel);
    }
  }

  // As one row of weights has 16 blocks, here are one of 16 rows each.
  SIROCCO_INLINE static void expand_scales(const Block* w, std::size_t stride, Panel& panel) {
    const auto four_rows = [&](std::size_t four, int offset) {
      return gather_rows(reinterpret_cast<const std::byte*>(w + 4 * four * stride) + offset, stride * sizeof(Block));
    };
    Bytes64 headers[4];
    Bytes64 with_scales[4];
    Bytes64 sub_scales[4];
    for (std::size_t four = 0; four < 4; ++four) {
      headers[four] = four_rows(four, Type::kHeader);
      with_scales[four] = Type::kScales == Type::kHeader ? headers[four] : four_rows(four, Type::kScales);
      sub_scales[four] = Type::sub_scales(headers[four]);
    }
    std::int8_t values[2][16][16];  // scales, then minima, [sub-block][row]; behind eight scales their minima
    store_transposed(sub_scales, values[0]);
    for (std::size_t i = 0; i < kSubBlocks; ++i)
      store_ints(panel.sub_scale[i], kNarrow ? narrow_factors(values[0][i]) : widen_bytes(values[0][i]));
    Floats16 scale;
    Floats16 minimum;
    Type::scales(with_scales, scale, minimum);
    store_floats(panel.scale, scale);
    if constexpr (Type::kMinima) {
      if constexpr (Type::kSubBlock == 16) {
        Bytes64 sub_minima[4];
        for (std::size_t four = 0; four < 4; ++four) sub_minima[four] = Type::sub_minima(headers[four]);
        store_transposed(sub_minima, values[1]);
      }
      const auto& minima = Type::kSubBlock == 16 ? values[1] : values[0];
      constexpr std::size_t kFirst = Type::kSubBlock == 16 ? 0 : 8;
      for (std::size_t i = 0; i < kSubBlocks / 2; ++i) {
        // Two of 16 bits each.
        const Ints16 pairs =
            add(widen_bytes(minima[kFirst + 2 * i]), shift_left_ints<16>(widen_bytes(minima[kFirst + 2 * i + 1])));
        std::int32_t words[16];
        store_ints(words, pairs);
        static_assert(sizeof words == sizeof panel.sub_minimum[i]);
        std::memcpy(panel.sub_minimum[i], words, sizeof words);
      }
      store_floats(panel.minimum, minimum);
    }
  }

  template <std::size_t Rows>
  SIROCCO_INLINE static void multiply_tile(const Panel* panels, const Tile<Rows>* tiles, std::size_t blocks,
                                           float* sums, Ahead& ahead) {
    constexpr std::size_t kTileSums = Rows * kTilePanels;  // sum i: row i / kTilePanels, panel i % kTilePanels
    constexpr std::size_t kGroups = Type::kSubBlock / 4;
    constexpr std::size_t kPieceGroups = kNarrow ? kGroups / kPieces : kGroups;
    for (std::size_t block = 0; block < blocks; ++block) {
      const Panel* w = panels + block * kTilePanels;
      const Tile<Rows>& a = tiles[block];
      Ints16 total[kTileSums];
#pragma GCC unroll 12
      for (Ints16& t : total) t = zero_ints();
#pragma GCC unroll 1
      for (std::size_t sub = 0; sub < kSubBlocks; ++sub) {
        ahead.ask(kAskedWhileMultiplied);
#pragma GCC unroll 2
        for (std::size_t piece = 0; piece < kGroups / kPieceGroups; ++piece) {
          const std::size_t group = kGroups * sub + kPieceGroups * piece;
          Ints16 products[kTileSums];
#pragma GCC unroll 12
          for (std::size_t i = 0; i < kTileSums; ++i)
            products[i] = kOffset ? broadcast_int(a.bias[kOffset ? sub : 0][i / kTilePanels]) : zero_ints();
#pragma GCC unroll 8
          for (std::size_t g = 0; g < kPieceGroups; ++g)
            multiply_group<Type::kWide, Rows>(w->q + group + g, sizeof(Panel), a.q[group + g], products);
#pragma GCC unroll 12
          for (std::size_t i = 0; i < kTileSums; ++i) {
            const Ints16 factor = load_ints(w[i % kTilePanels].sub_scale[sub]);
            total[i] =
                kNarrow ? multiply_add(total[i], products[i], factor) : add(total[i], multiply(products[i], factor));
          }
        }
      }
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kTileSums; ++i) {
        const std::size_t row = i / kTilePanels;
        const Panel& panel = w[i % kTilePanels];
        Floats16 value;
        if constexpr (Type::kMinima) {
          Ints16 m = zero_ints();
          for (std::size_t pair = 0; pair < kSubBlocks / 2; ++pair)
            m = dot_pair(m, panel.sub_minimum[pair][0], a.sums[pair][row]);
          value = fma_subtract(load_floats(panel.scale), to_floats(total[i]),
                               multiply(load_floats(panel.minimum), to_floats(m)));
        } else {
          value = multiply(load_floats(panel.scale), to_floats(total[i]));
        }
        store_floats(sums + 16 * i, fma(value, broadcast(a.scale[row]), load_floats(sums + 16 * i)));
      }
    }
  }
};

template <class Type>
using Linear256 = LinearBlocks<Format256<Type>>;

}  // namespace sirocco::cpu::SIROCCO_ISA
