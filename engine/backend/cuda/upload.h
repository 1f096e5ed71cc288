// Weights on their way to the device: read from the mapping and put into the kernels' layout by a few threads, in one
// of two page-locked buffers while the other is being copied.
#pragma once

#include <span>

#include "engine/backend/cuda/device_weights.h"
#include "engine/base/load_progress.h"
#include "engine/base/thread_pool.h"

namespace sirocco::cuda {

// Bytes of page-locked memory that upload() takes while it runs, at most.
inline constexpr std::size_t kUploadMemory = 64 * MiB;

// Returns when all is on the device. `progress` may be null. Error: of CUDA; IO if a file was cut short meanwhile;
// CANCELLED, if progress was asked to stop.
Result<void> upload(std::span<const Upload> uploads, ThreadPool& pool, LoadProgress* progress = nullptr);

}  // namespace sirocco::cuda
