// Steps of few rows as CUDA graphs: one launch instead of hundreds. A shape that comes for the first time is launched
// kernel by kernel, which also loads the kernels; when it comes again it is captured, and replayed from then on.
#pragma once

#include <vector>

#include "engine/backend/cuda/cuda_forward.h"

namespace sirocco::cuda {

class GraphCache {
 public:
  // Enqueues what forward.enqueue() would. `missing` is for launches kernel by kernel alone: no kernel may wait for the
  // host there, since the host would wait when the device's queue is full, or for a kernel that is loaded.
  Result<void> launch(const CudaForward& forward, const StepShape& shape, cudaStream_t stream,
                      const MissingHook& missing = {});

 private:
  static constexpr std::size_t kMaxGraphs = 64;  // shapes that are remembered; the one unused for longest leaves

  struct Entry {
    StepShape shape;
    GraphExec graph;
    std::uint64_t used = 0;  // the turn of its last use
  };

  Result<GraphExec> capture(const CudaForward& forward, const StepShape& shape, cudaStream_t stream);
  void remember(const StepShape& shape);

  std::vector<Entry> entries_;
  std::uint64_t turn_ = 0;
};

}  // namespace sirocco::cuda
