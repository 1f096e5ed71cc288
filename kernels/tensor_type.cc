#include "kernels/tensor_type.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace sirocco {
namespace {

// Sizes as ggml has them (tests/golden/kernels/tensor_types.txt is its own answer). Q8_1 and Q8_K are formats of
// activations, which no file holds, but their numbers are taken.
constexpr std::array kTypes = {
    TensorTypeInfo{TensorType::f32, "F32", 1, 4, true},
    TensorTypeInfo{TensorType::f16, "F16", 1, 2, true},
    TensorTypeInfo{TensorType::q4_0, "Q4_0", 32, 18, true},
    TensorTypeInfo{TensorType::q4_1, "Q4_1", 32, 20, true},
    TensorTypeInfo{TensorType::q5_0, "Q5_0", 32, 22, true},
    TensorTypeInfo{TensorType::q5_1, "Q5_1", 32, 24, true},
    TensorTypeInfo{TensorType::q8_0, "Q8_0", 32, 34, true},
    TensorTypeInfo{TensorType::q8_1, "Q8_1", 32, 36, false},
    TensorTypeInfo{TensorType::q2_k, "Q2_K", 256, 84, true},
    TensorTypeInfo{TensorType::q3_k, "Q3_K", 256, 110, true},
    TensorTypeInfo{TensorType::q4_k, "Q4_K", 256, 144, true},
    TensorTypeInfo{TensorType::q5_k, "Q5_K", 256, 176, true},
    TensorTypeInfo{TensorType::q6_k, "Q6_K", 256, 210, true},
    TensorTypeInfo{TensorType::q8_k, "Q8_K", 256, 292, false},
    TensorTypeInfo{TensorType::iq2_xxs, "IQ2_XXS", 256, 66, false},
    TensorTypeInfo{TensorType::iq2_xs, "IQ2_XS", 256, 74, false},
    TensorTypeInfo{TensorType::iq3_xxs, "IQ3_XXS", 256, 98, false},
    TensorTypeInfo{TensorType::iq1_s, "IQ1_S", 256, 50, false},
    TensorTypeInfo{TensorType::iq4_nl, "IQ4_NL", 32, 18, true},
    TensorTypeInfo{TensorType::iq3_s, "IQ3_S", 256, 110, false},
    TensorTypeInfo{TensorType::iq2_s, "IQ2_S", 256, 82, false},
    TensorTypeInfo{TensorType::iq4_xs, "IQ4_XS", 256, 136, true},
    TensorTypeInfo{TensorType::i8, "I8", 1, 1, false},
    TensorTypeInfo{TensorType::i16, "I16", 1, 2, false},
    TensorTypeInfo{TensorType::i32, "I32", 1, 4, false},
    TensorTypeInfo{TensorType::i64, "I64", 1, 8, false},
    TensorTypeInfo{TensorType::f64, "F64", 1, 8, false},
    TensorTypeInfo{TensorType::iq1_m, "IQ1_M", 256, 56, false},
    TensorTypeInfo{TensorType::bf16, "BF16", 1, 2, true},
    TensorTypeInfo{TensorType::tq1_0, "TQ1_0", 256, 54, false},
    TensorTypeInfo{TensorType::tq2_0, "TQ2_0", 256, 66, false},
    TensorTypeInfo{TensorType::mxfp4, "MXFP4", 32, 17, true},
    TensorTypeInfo{TensorType::nvfp4, "NVFP4", 64, 36, false},
    TensorTypeInfo{TensorType::q1_0, "Q1_0", 128, 18, false},
};

}  // namespace

const TensorTypeInfo* tensor_type_info(std::uint32_t type) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [type](const TensorTypeInfo& info) {
    return static_cast<std::uint32_t>(info.type) == type;
  });
  return found == kTypes.end() ? nullptr : &*found;
}

std::span<const TensorTypeInfo> tensor_types() {
  return kTypes;
}

std::size_t row_bytes(TensorType type, std::size_t width) {
  const TensorTypeInfo* info = tensor_type_info(type);
  assert(info != nullptr && width % info->block_size == 0);
  return width / info->block_size * info->block_bytes;
}

}  // namespace sirocco
