// kernels/ref as a table (kernels/kernels.h): F32 activations on dequantised weights.
#pragma once

#include "kernels/kernels.h"

namespace sirocco::ref {

const Kernels& kernels();

}  // namespace sirocco::ref
