// Products with experts one matrix at a time: of weights in F32, F16 and BF16, and where gate and up differ in type.
#pragma once

#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

enum class ExpertPart : std::uint8_t { gate, up, down };

// y[place] = w x[row], or w x[place] of down, for the tiles of arguments.lists; w in a type that lies as in the file.
// The sums are those of kernels/cpu/linear_float.cc, bit for bit.
cudaError_t expert_floats(const ExpertArguments& arguments, ExpertPart part, TensorType type, float* y,
                          cudaStream_t stream);

// gate[i] = silu(gate[i]) * up[i].
cudaError_t multiply_gated(float* gate, const float* up, std::size_t count, cudaStream_t stream);

}  // namespace sirocco::cuda
