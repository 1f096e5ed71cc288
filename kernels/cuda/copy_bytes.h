// A copy by a kernel, for a device that has the host's memory: there one by the runtime would be the same bytes moved
// by an engine that nobody needs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace sirocco::cuda {

// From memory of the host's that the device can read, or within the device's.
cudaError_t copy_bytes(const std::byte* from, std::byte* to, std::size_t bytes, cudaStream_t stream);

}  // namespace sirocco::cuda
