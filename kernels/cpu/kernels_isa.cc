// The table of the instruction set that this file is compiled for.
#include "kernels/cpu/kernels_isa.h"

#include "kernels/cpu/activations.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/linear_types.h"
#include "kernels/cpu/quantise.h"
#include "kernels/cpu/roofline.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"

#define SIROCCO_STRING_(x) #x
#define SIROCCO_STRING(x) SIROCCO_STRING_(x)

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

constexpr LinearFunctions kNone = {};

const LinearFunctions& linear(TensorType weights) {
  switch (weights) {
    case TensorType::f32:
      return linear_f32;
    case TensorType::f16:
      return linear_f16;
    case TensorType::bf16:
      return linear_bf16;
    case TensorType::q4_0:
      return linear_q4_0;
    case TensorType::q4_1:
      return linear_q4_1;
    case TensorType::q5_0:
      return linear_q5_0;
    case TensorType::q5_1:
      return linear_q5_1;
    case TensorType::q8_0:
      return linear_q8_0;
    case TensorType::iq4_nl:
      return linear_iq4_nl;
    case TensorType::mxfp4:
      return linear_mxfp4;
    case TensorType::q2_k:
      return linear_q2_k;
    case TensorType::q3_k:
      return linear_q3_k;
    case TensorType::q4_k:
      return linear_q4_k;
    case TensorType::q5_k:
      return linear_q5_k;
    case TensorType::q6_k:
      return linear_q6_k;
    case TensorType::iq4_xs:
      return linear_iq4_xs;
    default:
      return kNone;
  }
}

}  // namespace

extern const Kernels kTable = {.backend = "cpu",
                               .isa = SIROCCO_STRING(SIROCCO_ISA),
                               .tile_rows = kTileRows,
                               .panel_outputs = kPanelOutputs,
                               .activation_format = activation_format,
                               .activation_bytes = activation_bytes,
                               .quantise = quantise,
                               .linear = linear,
                               .rms_norm = rms_norm,
                               .rope = rope,
                               .swiglu = swiglu,
                               .kv_block_bytes = kv_block_bytes,
                               .kv_write = kv_write,
                               .attend_piece = attend_piece,
                               .fold_piece = fold_piece,
                               .read_memory = read_memory,
                               .integer_peak = integer_peak};

}  // namespace sirocco::cpu::SIROCCO_ISA
