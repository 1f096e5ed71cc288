// What a lane reads of a tile of weights (tile_layout.h), and how it makes tensor-core operands and scales of it. A
// lane has two outputs, lane / 4 and that + 8.
//
//   load<Memory>(tile, lane) everything of the tile that the lane needs, in registers: 16-byte loads that a warp makes
//                            of consecutive memory
//   values<Step>(v)          the A operand of mma.m16n8k32 for inputs 32 Step to 32 Step + 31
// Types in blocks of 256:
//   sub_scale<Sub>(output)   of sub-block Sub of the lane's output 0 or 1
//   minima(output, t)        bytes 4t to 4t + 3 of what the activations' 16 sums are multiplied with: minima, or
//                            sub-scales where the values have a zero point
//   scale(output), minimum(output)
// Types in blocks of 32:
//   scale<Step>(output), minimum<Step>(output)   after load_scales
#pragma once

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/tile_layout.h"
#include "kernels/levels.h"

namespace sirocco::cuda {

__device__ __forceinline__ std::uint32_t word_of(const uint4& v, unsigned i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Each byte less `n`, of bytes from 0 to 127.
__device__ __forceinline__ std::uint32_t subtract_each(std::uint32_t bytes, std::uint32_t n) {
  return ((bytes | 0x80808080U) - n * 0x01010101U) ^ 0x80808080U;
}

// Byte I of a word, signed: a selector with the top bit set repeats the byte's sign.
template <unsigned I>
__device__ __forceinline__ int signed_byte(std::uint32_t word) {
  return static_cast<int>(permute_bytes(word, 0, (8U | I) * 0x1110U | I));
}

__device__ __forceinline__ float half_bits(std::uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits & 0xFFFFU)));
}

// Four indices of 4 bits, in bytes, become the levels of a table of 16 signed bytes.
__device__ __forceinline__ std::uint32_t look_up(const uint4& table, std::uint32_t index) {
  const std::uint32_t high = (index >> 3 & 0x01010101U) * 0xFFU;
  std::uint32_t select = index & 0x07070707U;
  select = (select | select >> 4) & 0x00FF00FFU;
  select = (select | select >> 8) & 0x0000FFFFU;
  const std::uint32_t low_half = __byte_perm(table.x, table.y, select);
  const std::uint32_t high_half = __byte_perm(table.z, table.w, select);
  return (low_half & ~high) | (high_half & high);
}

// Where a tile is read from.
struct GlobalMemory {
  template <class T>
  __device__ static __forceinline__ T once(const T* p) {
    return __ldcs(p);
  }
  template <class T>
  __device__ static __forceinline__ T line(const T* p) {
    return __ldg(p);
  }
};
struct SharedMemory {
  template <class T>
  __device__ static __forceinline__ T once(const T* p) {
    return *p;
  }
  template <class T>
  __device__ static __forceinline__ T line(const T* p) {
    return *p;
  }
};

enum class Levels { none, iq4, e2m1 };

// The value planes, and the operands made of them.
template <class Block, Levels Table = Levels::none>
struct TileValues {
  using Layout = TileLayout<Block>;
  static constexpr Planes kPlanes = Layout::kPlanes;

  uint4 bytes[kPlanes.bytes ? 8 : 1];
  uint4 nibbles[kPlanes.nibbles ? 4 : 1];
  uint4 pairs[kPlanes.pairs ? 2 : 1];
  uint4 bits;

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    const uint4* at = reinterpret_cast<const uint4*>(tile) + lane;
    if constexpr (kPlanes.bytes) {
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) bytes[i] = Memory::once(at + 32 * i);
      at += 256;
    }
    if constexpr (kPlanes.nibbles) {
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) nibbles[i] = Memory::once(at + 32 * i);
      at += 128;
    }
    if constexpr (kPlanes.pairs) {
#pragma unroll
      for (unsigned i = 0; i < 2; ++i) pairs[i] = Memory::once(at + 32 * i);
      at += 64;
    }
    if constexpr (kPlanes.bits) bits = Memory::once(at);
  }

  template <unsigned Step>
  __device__ __forceinline__ void values(std::uint32_t (&v)[4]) const {
#pragma unroll
    for (unsigned r = 0; r < 4; ++r) {
      std::uint32_t x = 0;
      if constexpr (kPlanes.bytes) x = word_of(bytes[Step], r);
      if constexpr (kPlanes.nibbles) x = word_of(nibbles[Step / 2], r) >> (4 * (Step % 2)) & 0x0F0F0F0FU;
      constexpr unsigned kBelow = kPlanes.nibbles ? 4 : 0;
      if constexpr (kPlanes.pairs) x |= (word_of(pairs[Step / 4], Step % 4) >> (2 * r) & 0x03030303U) << kBelow;
      constexpr unsigned kBit = kBelow + (kPlanes.pairs ? 2 : 0);
      if constexpr (kPlanes.bits) x |= (word_of(bits, Step / 2) >> (4 * (Step % 2) + r) & 0x01010101U) << kBit;
      if constexpr (Table == Levels::iq4)
        x = look_up(make_uint4(0xBF'AD'98'81U, 0xF6'EA'DD'CFU, 0x26'19'0D'01U, 0x71'59'45'35U), x);
      if constexpr (Table == Levels::e2m1)
        x = look_up(make_uint4(0x03'02'01'00U, 0x0C'08'06'04U, 0xFD'FE'FF'00U, 0xF4'F8'FA'FCU), x);
      v[r] = x;
    }
  }
};

// --- blocks of 32: eight scales (and minima) of each output

template <class Block, int Zero, Levels Table = Levels::none>
struct Weights32 : TileValues<Block, Table> {
  using Layout = TileLayout<Block>;
  static constexpr unsigned kInputs = 32;
  static constexpr int kZero = Zero;
  static constexpr bool kMinima = Layout::kSecond != 0;

  uint4 scales[2];

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    TileValues<Block, Table>::template load<Memory>(tile, lane);
    const std::byte* const at = tile + Layout::kScales + lane / 4 * Layout::kFirst;
#pragma unroll
    for (unsigned output = 0; output < 2; ++output) {
      if constexpr (Layout::kFirst == 16) {
        scales[output] = Memory::line(reinterpret_cast<const uint4*>(at + output * 8 * 16));
      } else {
        const uint2 exponents = Memory::line(reinterpret_cast<const uint2*>(at + output * 8 * 8));
        scales[output] = make_uint4(exponents.x, exponents.y, 0, 0);
      }
    }
  }

  template <unsigned Step>
  __device__ __forceinline__ float scale(unsigned output) const {
    if constexpr (Layout::kFirst == 16) {
      return half_bits(word_of(scales[output], Step / 2) >> (16 * (Step % 2)));
    } else {
      // 2^(exponent - 128), since the values are doubled; below exponent 2 a subnormal number.
      const std::uint32_t exponent = word_of(scales[output], Step / 4) >> (8 * (Step % 4)) & 255U;
      return __uint_as_float(exponent < 2 ? (exponent + 1) << 21 : (exponent - 1) << 23);
    }
  }
  // Read where it is needed: once for all rows of activations.
  __device__ static float minimum(const std::byte* tile, unsigned output, unsigned step) {
    const auto* const minima = reinterpret_cast<const unsigned short*>(tile + Layout::kSecondAt);
    return half_bits(minima[output * 8 + step]);
  }
};

// --- blocks of 256

// Q4_K and Q5_K: scale, minimum, 12 bytes of eight scales and eight minima in six bits (kernels/cpu/linear_q4_k.cc).
template <class Block>
struct Weights256SubMinima : TileValues<Block> {
  using Layout = TileLayout<Block>;
  static constexpr unsigned kInputs = 256;
  static constexpr unsigned kSubBlock = 32;
  static constexpr int kZero = 0;
  static constexpr bool kMinima = true;

  uint4 header[2];
  std::uint32_t sub_scales[2][2];
  std::uint32_t sub_minima[2][2];

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    TileValues<Block>::template load<Memory>(tile, lane);
    const auto* const at = reinterpret_cast<const uint4*>(tile + Layout::kScales) + lane / 4;
    header[0] = Memory::line(at);
    header[1] = Memory::line(at + 8);
  }
  __device__ __forceinline__ void unpack_scales() {
#pragma unroll
    for (unsigned output = 0; output < 2; ++output) {
      const uint4& h = header[output];
      sub_scales[output][0] = h.y & 0x3F3F3F3FU;
      sub_minima[output][0] = h.z & 0x3F3F3F3FU;
      sub_scales[output][1] = (h.w & 0x0F0F0F0FU) | (h.y >> 2 & 0x30303030U);
      sub_minima[output][1] = (h.w >> 4 & 0x0F0F0F0FU) | (h.z >> 2 & 0x30303030U);
    }
  }
  template <unsigned Sub>
  __device__ __forceinline__ int sub_scale(unsigned output) const {
    return signed_byte<Sub % 4>(sub_scales[output][Sub / 4]);
  }
  // Each minimum twice: of its two sums of 16.
  __device__ __forceinline__ std::uint32_t minima(unsigned output, unsigned t) const {
    return __byte_perm(t / 2 == 0 ? sub_minima[output][0] : sub_minima[output][1], 0, t % 2 == 0 ? 0x1100 : 0x3322);
  }
  __device__ __forceinline__ float scale(unsigned output) const {
    return half_bits(header[output].x);
  }
  __device__ __forceinline__ float minimum(unsigned output) const {
    return half_bits(header[output].x >> 16);
  }
};

// Sub-blocks of 16 with their scales as bytes; what unpacks them is the type's own.
template <class Block, int Zero>
struct Weights256Of16 : TileValues<Block> {
  static constexpr unsigned kInputs = 256;
  static constexpr unsigned kSubBlock = 16;
  static constexpr int kZero = Zero;

  std::uint32_t sub_scales[2][4];
  template <unsigned Sub>
  __device__ __forceinline__ int sub_scale(unsigned output) const {
    return signed_byte<Sub % 4>(sub_scales[output][Sub / 4]);
  }
};

__device__ __forceinline__ void to_words(const uint4& v, std::uint32_t (&words)[4]) {
  words[0] = v.x;
  words[1] = v.y;
  words[2] = v.z;
  words[3] = v.w;
}
__device__ __forceinline__ std::uint32_t pick(const std::uint32_t (&words)[4], unsigned i) {
  return i == 0 ? words[0] : i == 1 ? words[1] : i == 2 ? words[2] : words[3];
}

struct WeightsQ2K : Weights256Of16<BlockQ2_K, 0> {
  using Layout = TileLayout<BlockQ2_K>;
  static constexpr bool kMinima = true;
  uint4 packed[2];
  std::uint32_t floats[2];

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    TileValues<BlockQ2_K>::template load<Memory>(tile, lane);
#pragma unroll
    for (unsigned output = 0; output < 2; ++output) {
      packed[output] = Memory::line(reinterpret_cast<const uint4*>(tile + Layout::kScales) + lane / 4 + 8 * output);
      floats[output] =
          Memory::line(reinterpret_cast<const std::uint32_t*>(tile + Layout::kSecondAt) + lane / 4 + 8 * output);
    }
  }
  __device__ __forceinline__ void unpack_scales() {
#pragma unroll
    for (unsigned output = 0; output < 2; ++output) {
      to_words(packed[output], sub_scales[output]);
#pragma unroll
      for (std::uint32_t& word : sub_scales[output]) word &= 0x0F0F0F0FU;
    }
  }
  __device__ __forceinline__ std::uint32_t minima(unsigned output, unsigned t) const {
    return word_of(packed[output], t) >> 4 & 0x0F0F0F0FU;
  }
  __device__ __forceinline__ float scale(unsigned output) const {
    return half_bits(floats[output]);
  }
  __device__ __forceinline__ float minimum(unsigned output) const {
    return half_bits(floats[output] >> 16);
  }
};

struct WeightsQ3K : Weights256Of16<BlockQ3_K, 4> {
  using Layout = TileLayout<BlockQ3_K>;
  static constexpr bool kMinima = false;
  uint4 packed[2];

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    TileValues<BlockQ3_K>::template load<Memory>(tile, lane);
    const auto* const at = reinterpret_cast<const uint4*>(tile + Layout::kScales) + lane / 4;
    packed[0] = Memory::line(at);
    packed[1] = Memory::line(at + 8);
  }
  // Lower four bits of i in nibble i of bytes 0 to 7 (0 to 7 low, then high), the upper two in byte 8 + i mod 4.
  __device__ __forceinline__ void unpack_scales() {
#pragma unroll
    for (unsigned output = 0; output < 2; ++output) {
      const uint4& p = packed[output];
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const std::uint32_t low = (i % 2 == 0 ? p.x : p.y) >> (4 * (i / 2)) & 0x0F0F0F0FU;
        sub_scales[output][i] = subtract_each(low | (p.z >> (2 * i) & 0x03030303U) << 4, 32);
      }
    }
  }
  __device__ __forceinline__ std::uint32_t minima(unsigned output, unsigned t) const {
    return pick(sub_scales[output], t);
  }
  __device__ __forceinline__ float scale(unsigned output) const {
    return half_bits(packed[output].w);
  }
};

struct WeightsQ6K : Weights256Of16<BlockQ6_K, 32> {
  using Layout = TileLayout<BlockQ6_K>;
  static constexpr bool kMinima = false;
  uint4 packed[2];
  unsigned short floats[2];

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    TileValues<BlockQ6_K>::template load<Memory>(tile, lane);
#pragma unroll
    for (unsigned output = 0; output < 2; ++output) {
      packed[output] = Memory::line(reinterpret_cast<const uint4*>(tile + Layout::kScales) + lane / 4 + 8 * output);
      floats[output] =
          Memory::line(reinterpret_cast<const unsigned short*>(tile + Layout::kSecondAt) + lane / 4 + 8 * output);
    }
  }
  __device__ __forceinline__ void unpack_scales() {
    to_words(packed[0], sub_scales[0]);
    to_words(packed[1], sub_scales[1]);
  }
  __device__ __forceinline__ std::uint32_t minima(unsigned output, unsigned t) const {
    return pick(sub_scales[output], t);
  }
  __device__ __forceinline__ float scale(unsigned output) const {
    return half_bits(floats[output]);
  }
};

struct WeightsIQ4XS : TileValues<BlockIQ4_XS, Levels::iq4> {
  using Layout = TileLayout<BlockIQ4_XS>;
  static constexpr unsigned kInputs = 256;
  static constexpr unsigned kSubBlock = 32;
  static constexpr int kZero = 0;
  static constexpr bool kMinima = false;
  uint2 packed[2];

  template <class Memory>
  __device__ __forceinline__ void load(const std::byte* tile, unsigned lane) {
    TileValues<BlockIQ4_XS, Levels::iq4>::template load<Memory>(tile, lane);
    const auto* const at = reinterpret_cast<const uint2*>(tile + Layout::kScales) + lane / 4;
    packed[0] = Memory::line(at);
    packed[1] = Memory::line(at + 8);
  }
  __device__ __forceinline__ void unpack_scales() {}
  // Nibble Sub of the last four bytes below bits 2 Sub and 2 Sub + 1 of the two bytes before, less 32.
  template <unsigned Sub>
  __device__ __forceinline__ int sub_scale(unsigned output) const {
    const std::uint32_t low = packed[output].y >> (4 * Sub) & 15U;
    const std::uint32_t high = packed[output].x >> (16 + 2 * Sub) & 3U;
    return static_cast<int>(low | high << 4) - 32;
  }
  __device__ __forceinline__ std::uint32_t minima(unsigned, unsigned) const { return 0; }
  __device__ __forceinline__ float scale(unsigned output) const { return half_bits(packed[output].x); }
};

// Calls f with a value of the type's weights; returns what it returns, or `otherwise` for a type without tiles.
template <class Result, class Function>
Result with_weights(TensorType type, Result otherwise, Function f) {
  switch (type) {
    case TensorType::q4_0:
      return f(Weights32<BlockQ4_0, 8>());
    case TensorType::q4_1:
      return f(Weights32<BlockQ4_1, 0>());
    case TensorType::q5_0:
      return f(Weights32<BlockQ5_0, 16>());
    case TensorType::q5_1:
      return f(Weights32<BlockQ5_1, 0>());
    case TensorType::q8_0:
      return f(Weights32<BlockQ8_0, 0>());
    case TensorType::iq4_nl:
      return f(Weights32<BlockIQ4_NL, 0, Levels::iq4>());
    case TensorType::mxfp4:
      return f(Weights32<BlockMXFP4, 0, Levels::e2m1>());
    case TensorType::q2_k:
      return f(WeightsQ2K());
    case TensorType::q3_k:
      return f(WeightsQ3K());
    case TensorType::q4_k:
      return f(Weights256SubMinima<BlockQ4_K>());
    case TensorType::q5_k:
      return f(Weights256SubMinima<BlockQ5_K>());
    case TensorType::q6_k:
      return f(WeightsQ6K());
    case TensorType::iq4_xs:
      return f(WeightsIQ4XS());
    default:
      return otherwise;
  }
}

}  // namespace sirocco::cuda
