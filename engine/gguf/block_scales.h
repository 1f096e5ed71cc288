// Where the floating-point scales stand in each tensor type's blocks, and whether they are numbers. One infinite scale
// in a file turns every answer into NaN, and a checksum of the file as it was written cannot tell.
//
// Pure functions on bytes, any thread.
#pragma once

#include <cstddef>
#include <optional>

#include "engine/base/bytes.h"
#include "kernels/tensor_type.h"

namespace sirocco {

// The index in `blocks` of the first block with a scale that is infinite or not a number; for F32, F16, BF16 and F64 of
// the first such element. Integer types have none.
//
//   blocks  a whole number of blocks of `type`
std::optional<std::size_t> first_nonfinite_block(TensorType type, Bytes blocks);

}  // namespace sirocco
