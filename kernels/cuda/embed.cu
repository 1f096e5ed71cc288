// The beginning of a step: rows of the embedding matrix, and the angles of their positions.
#include <cstddef>

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/levels.h"
#include "kernels/quant_blocks.h"

namespace sirocco::cuda {
namespace {

constexpr unsigned kThreads = 256;

// --- element i of a block as it lies in the file, at any address; the arithmetic of kernels/ref/dequantize, rounded
// after each operation as there. Which bits are whose is explained there, too.

__device__ float half_at(const std::uint8_t* p) {
  __half_raw raw;
  raw.x = static_cast<unsigned short>(p[0] | p[1] << 8);
  return __half2float(__half(raw));
}

__device__ float times(float scale, int q) {
  return __fmul_rn(scale, static_cast<float>(q));
}

// Nibble i of 32 elements in 16 bytes: the first 16 are the low ones.
__device__ int nibble(const std::uint8_t* nibbles, unsigned i) {
  return nibbles[i % 16] >> 4 * (i / 16) & 15;
}

// Level n of a table of 16, kept in two words: kernels cannot index a constant array of the host.
constexpr std::uint64_t levels_word(const std::int8_t (&levels)[16], unsigned first) {
  std::uint64_t word = 0;
  for (unsigned i = 0; i < 8; ++i)
    word |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(levels[first + i])) << 8 * i;
  return word;
}
template <std::uint64_t kLow, std::uint64_t kHigh>
__device__ int level(int n) {
  return static_cast<std::int8_t>((n < 8 ? kLow : kHigh) >> 8 * (n % 8));
}
constexpr std::uint64_t kIq4Low = levels_word(kIq4Levels, 0);
constexpr std::uint64_t kIq4High = levels_word(kIq4Levels, 8);
constexpr std::uint64_t kE2m1Low = levels_word(kE2m1Doubled, 0);
constexpr std::uint64_t kE2m1High = levels_word(kE2m1Doubled, 8);

// The scale (which = 0) or the minimum (4) of sub-block `sub` of Q4_K and Q5_K, six bits.
__device__ int sub_scale_k(const std::uint8_t* packed, unsigned sub, unsigned which) {
  if (sub < 4) return packed[sub + which] & 63;
  return (packed[sub + 4] >> which & 15) | packed[sub - 4 + which] >> 6 << 4;
}

__device__ float element_q2_k(const std::uint8_t* block, unsigned i) {
  const std::uint8_t sub_scale = block[offsetof(BlockQ2_K, sub_scales) + i / 16];
  const float scale = times(half_at(block + offsetof(BlockQ2_K, scale)), sub_scale & 15);
  const float minimum = times(half_at(block + offsetof(BlockQ2_K, minimum)), sub_scale >> 4);
  const int q = block[offsetof(BlockQ2_K, pairs) + 32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
  return __fsub_rn(times(scale, q), minimum);
}

__device__ float element_q3_k(const std::uint8_t* block, unsigned i) {
  const std::uint8_t* packed = block + offsetof(BlockQ3_K, sub_scales);
  const unsigned sub = i / 16;
  const int low = (sub < 8 ? packed[sub] : packed[sub - 8] >> 4) & 15;
  const int high = packed[8 + sub % 4] >> 2 * (sub / 4) & 3;
  const float scale = times(half_at(block + offsetof(BlockQ3_K, scale)), (low | high << 4) - 32);
  const int pair = block[offsetof(BlockQ3_K, pairs) + 32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
  const int third = block[offsetof(BlockQ3_K, third_bits) + i % 32] >> i / 32 & 1;
  return times(scale, (pair | third << 2) - 4);
}

// Q4_K and Q5_K: value q, whose scales stand as in BlockQ4_K.
__device__ float scaled_k(const std::uint8_t* block, unsigned sub, int q) {
  const std::uint8_t* packed = block + offsetof(BlockQ4_K, sub_scales);
  const float scale = times(half_at(block + offsetof(BlockQ4_K, scale)), sub_scale_k(packed, sub, 0));
  const float minimum = times(half_at(block + offsetof(BlockQ4_K, minimum)), sub_scale_k(packed, sub, 4));
  return __fsub_rn(times(scale, q), minimum);
}

__device__ int nibble_k(const std::uint8_t* nibbles, unsigned i) {
  return nibbles[32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15;
}

__device__ float element_q4_k(const std::uint8_t* block, unsigned i) {
  return scaled_k(block, i / 32, nibble_k(block + offsetof(BlockQ4_K, nibbles), i));
}

__device__ float element_q5_k(const std::uint8_t* block, unsigned i) {
  const int fifth = block[offsetof(BlockQ5_K, fifth_bits) + i % 32] >> i / 32 & 1;
  return scaled_k(block, i / 32, nibble_k(block + offsetof(BlockQ5_K, nibbles), i) | fifth << 4);
}

__device__ float element_q6_k(const std::uint8_t* block, unsigned i) {
  const auto sub_scale = static_cast<std::int8_t>(block[offsetof(BlockQ6_K, sub_scales) + i / 16]);
  const float scale = times(half_at(block + offsetof(BlockQ6_K, scale)), sub_scale);
  const unsigned quarter = i / 32 % 4;
  const int low = block[64 * (i / 128) + 32 * (quarter % 2) + i % 32] >> 4 * (quarter / 2) & 15;
  const int high = block[offsetof(BlockQ6_K, pairs) + 32 * (i / 128) + i % 32] >> 2 * quarter & 3;
  return times(scale, (low | high << 4) - 32);
}

__device__ float element_iq4_xs(const std::uint8_t* block, unsigned i) {
  const unsigned sub = i / 32;
  const std::uint8_t* pairs = block + offsetof(BlockIQ4_XS, scale_pairs);
  const int low = block[offsetof(BlockIQ4_XS, scale_nibbles) + sub / 2] >> 4 * (sub % 2) & 15;
  const int high = pairs[sub / 4] >> 2 * (sub % 4) & 3;
  const float scale = times(half_at(block), (low | high << 4) - 32);
  const int n = nibble(block + offsetof(BlockIQ4_XS, nibbles) + 16 * sub, i % 32);
  return times(scale, level<kIq4Low, kIq4High>(n));
}

__device__ float element_mxfp4(const std::uint8_t* block, unsigned i) {
  const unsigned exponent = block[0];  // of 2^(exponent - 128), half the scale, as the levels are doubled
  const float scale = __uint_as_float(exponent < 2 ? 0x00200000U << exponent : (exponent - 1) << 23);
  return times(scale, level<kE2m1Low, kE2m1High>(nibble(block + offsetof(BlockMXFP4, nibbles), i)));
}

// Q5_0 and Q5_1: the fifth bit of element i.
__device__ int fifth_bit(const std::uint8_t* bits, unsigned i) {
  return bits[i / 8] >> i % 8 & 1;
}

__device__ float element(TensorType type, const std::uint8_t* block, unsigned i) {
  switch (type) {
    case TensorType::f16:
      return half_at(block);
    case TensorType::bf16:
      return __uint_as_float(static_cast<unsigned>(block[0] | block[1] << 8) << 16);
    case TensorType::q4_0:
      return times(half_at(block), nibble(block + offsetof(BlockQ4_0, nibbles), i) - 8);
    case TensorType::q4_1:
      return __fadd_rn(times(half_at(block), nibble(block + offsetof(BlockQ4_1, nibbles), i)), half_at(block + 2));
    case TensorType::q5_0:
      return times(half_at(block), (nibble(block + offsetof(BlockQ5_0, nibbles), i) |
                                    fifth_bit(block + offsetof(BlockQ5_0, fifth_bits), i) << 4) -
                                       16);
    case TensorType::q5_1:
      return __fadd_rn(times(half_at(block), nibble(block + offsetof(BlockQ5_1, nibbles), i) |
                                                 fifth_bit(block + offsetof(BlockQ5_1, fifth_bits), i) << 4),
                       half_at(block + 2));
    case TensorType::q8_0:
      return times(half_at(block), static_cast<std::int8_t>(block[offsetof(BlockQ8_0, q) + i]));
    case TensorType::iq4_nl:
      return times(half_at(block), level<kIq4Low, kIq4High>(nibble(block + offsetof(BlockIQ4_NL, nibbles), i)));
    case TensorType::mxfp4:
      return element_mxfp4(block, i);
    case TensorType::q2_k:
      return element_q2_k(block, i);
    case TensorType::q3_k:
      return element_q3_k(block, i);
    case TensorType::q4_k:
      return element_q4_k(block, i);
    case TensorType::q5_k:
      return element_q5_k(block, i);
    case TensorType::q6_k:
      return element_q6_k(block, i);
    case TensorType::iq4_xs:
      return element_iq4_xs(block, i);
    default:  // f32
      return __uint_as_float(static_cast<unsigned>(block[0] | block[1] << 8 | block[2] << 16) |
                             static_cast<unsigned>(block[3]) << 24);
  }
}

// --- the kernel

struct BlockShape {
  unsigned elements;
  unsigned bytes;
};

// Blocks (i, row) do the row's elements kThreads * i …, and as many of its pairs.
__global__ void __launch_bounds__(kThreads) embed_kernel(EmbedArguments a, BlockShape shape) {
  const unsigned row = blockIdx.y;
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  launch_dependents();
  wait_for_previous();
  if (i < a.width) {
    const std::size_t row_bytes = static_cast<std::size_t>(a.width / shape.elements) * shape.bytes;
    const std::byte* of_token = a.embedding + static_cast<std::size_t>(a.step.tokens[row]) * row_bytes;
    const std::byte* block = of_token + static_cast<std::size_t>(i / shape.elements) * shape.bytes;
    a.x[static_cast<std::size_t>(row) * a.width + i] =
        element(a.type, reinterpret_cast<const std::uint8_t*>(block), i % shape.elements);
  }
  if (i < a.pairs) {
    const float angle = __fmul_rn(static_cast<float>(a.step.positions[row]), a.frequencies[i]);
    const std::size_t to = static_cast<std::size_t>(row) * a.pairs + i;
    a.cosines[to] = cosf(angle) * a.attention_factor;
    a.sines[to] = sinf(angle) * a.attention_factor;
  }
}

}  // namespace

cudaError_t embed(const EmbedArguments& arguments, cudaStream_t stream) {
  const TensorTypeInfo* info = tensor_type_info(arguments.type);
  if (arguments.rows == 0 || info == nullptr || !info->computable) return cudaErrorInvalidValue;
  if (arguments.width % info->block_size != 0) return cudaErrorInvalidValue;
  const unsigned longest = arguments.width > arguments.pairs ? arguments.width : arguments.pairs;
  const Dims dims{
      .grid = dim3((longest + kThreads - 1) / kThreads, arguments.rows), .block = dim3(kThreads), .overlap = true};
  return launch(dims, stream, embed_kernel, arguments, BlockShape{info->block_size, info->block_bytes});
}

}  // namespace sirocco::cuda
