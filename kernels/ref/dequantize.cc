#include "kernels/ref/dequantize.h"

#include <cassert>

#include "kernels/ref/dequantize_families.h"

namespace sirocco::ref {
namespace {

// Null for a type that is recognised but not computed on.
Dequantize* dequantize_function(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return dequantize_f32;
    case TensorType::f16:
      return dequantize_f16;
    case TensorType::bf16:
      return dequantize_bf16;
    case TensorType::q4_0:
      return dequantize_q4_0;
    case TensorType::q4_1:
      return dequantize_q4_1;
    case TensorType::q5_0:
      return dequantize_q5_0;
    case TensorType::q5_1:
      return dequantize_q5_1;
    case TensorType::q8_0:
      return dequantize_q8_0;
    case TensorType::q2_k:
      return dequantize_q2_k;
    case TensorType::q3_k:
      return dequantize_q3_k;
    case TensorType::q4_k:
      return dequantize_q4_k;
    case TensorType::q5_k:
      return dequantize_q5_k;
    case TensorType::q6_k:
      return dequantize_q6_k;
    case TensorType::iq4_nl:
      return dequantize_iq4_nl;
    case TensorType::iq4_xs:
      return dequantize_iq4_xs;
    case TensorType::mxfp4:
      return dequantize_mxfp4;
    default:
      return nullptr;
  }
}

}  // namespace

void dequantize(TensorType type, const std::byte* blocks, std::span<float> y) {
  const TensorTypeInfo* info = tensor_type_info(type);
  Dequantize* function = dequantize_function(type);
  assert(info != nullptr && function != nullptr && y.size() % info->block_size == 0);
  function(blocks, y.size() / info->block_size, y.data());
}

}  // namespace sirocco::ref
