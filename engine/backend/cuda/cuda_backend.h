// The backend for an NVIDIA GPU: all weights and the KV cache are in its memory. A program that has it registers it in
// main(). No header of CUDA is needed for that.
#pragma once

#include "engine/backend/backend.h"

namespace sirocco {

// For register_device_backend().
const BackendKind& cuda_backend();

}  // namespace sirocco
