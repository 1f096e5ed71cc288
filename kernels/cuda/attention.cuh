// The kernels of attend(), by how keys are shared out. Both write the parts that attend() folds; their results are the
// same bits (attention_tile.cuh).
#pragma once

#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

// For few rows: a block for each split of the keys, so that one row keeps all of the device busy. Writes the parts of
// every split that a row sees, from its first on.
cudaError_t attend_splits(const AttentionArguments& arguments, cudaStream_t stream);

// For many rows: a block walks all keys of its tile of rows and folds on the way. Writes one part for each row and
// head: arguments.splits is 1.
cudaError_t attend_walk(const AttentionArguments& arguments, cudaStream_t stream);

// Calls f.template operator()<kDim, kQ8>() for the smallest padded head dimension that there is a kernel for.
template <class F>
cudaError_t with_kernel(const AttentionArguments& a, F f) {
  const bool q8_0 = a.kv.type == TensorType::q8_0;
  if (a.head_dim <= 64) return q8_0 ? f.template operator()<64, true>() : f.template operator()<64, false>();
  if (a.head_dim <= 128) return q8_0 ? f.template operator()<128, true>() : f.template operator()<128, false>();
  return q8_0 ? f.template operator()<256, true>() : f.template operator()<256, false>();
}

}  // namespace sirocco::cuda
