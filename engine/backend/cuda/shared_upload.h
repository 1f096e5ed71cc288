// Weights on an integrated device: kernels read them where they lie, or where they were read to, and write them in
// their own layout. Nothing is copied between host and device, since both are the same memory.
#pragma once

#include <span>

#include "engine/backend/cuda/device_weights.h"
#include "engine/backend/cuda/reach.h"
#include "engine/base/load_progress.h"
#include "engine/base/thread_pool.h"

namespace sirocco::cuda {

// Bytes that are in reach at once: of page-locked memory, or of registered pages.
inline constexpr std::size_t kReachMemory = 32 * MiB;

// Returns when all is there. `progress` may be null. Error: as upload()'s.
Result<void> upload_shared(std::span<const Upload> uploads, const GgufFile& file, Reach reach, ThreadPool& pool,
                           LoadProgress* progress = nullptr);

}  // namespace sirocco::cuda
