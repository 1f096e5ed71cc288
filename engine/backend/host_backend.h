// The kinds that compute on host memory, on the mapped weights or on slots; included by engine/backend alone.
#pragma once

#include "engine/backend/backend.h"

namespace sirocco {

const BackendKind& cpu_backend();  // the vectors of kernels/cpu
const BackendKind& ref_backend();  // kernels/ref, the yardstick that every machine can run

}  // namespace sirocco
