// The element types a GGUF tensor can have, with their block sizes. Part of kernels because the arithmetic is
// defined by it; engine/gguf reads files with the same table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sirocco {

// The numbers are those of the file format (ggml_type). Gaps are types that were removed from the format.
enum class TensorType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  q8_k = 15,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
};

struct TensorTypeInfo {
  TensorType type;
  std::string_view name;      // as the gguf package writes it: "Q4_K"
  std::uint32_t block_size;   // elements in a block; a row is a whole number of blocks
  std::uint32_t block_bytes;  // bytes in a block
  bool computable;            // kernels/ref can dequantise it
};

// Null for a number that is no standard type.
const TensorTypeInfo* tensor_type_info(std::uint32_t type);
inline const TensorTypeInfo* tensor_type_info(TensorType type) {
  return tensor_type_info(static_cast<std::uint32_t>(type));
}

std::span<const TensorTypeInfo> tensor_types();

// Bytes of one row of `width` elements, a multiple of the block size.
std::size_t row_bytes(TensorType type, std::size_t width);

}  // namespace sirocco
