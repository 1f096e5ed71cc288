#include "engine/backend/cuda/graph_cache.h"

#include <algorithm>

namespace sirocco::cuda {

Result<void> GraphCache::launch(const CudaForward& forward, const StepShape& shape, cudaStream_t stream,
                                const MissingHook& missing) {
  ++turn_;
  const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.shape == shape; });
  if (entry == entries_.end()) {
    remember(shape);
    return forward.enqueue(shape, stream, missing);
  }
  entry->used = turn_;
  if (entry->graph == nullptr) {
    SIROCCO_TRY(entry->graph, capture(forward, shape, stream));
  }
  return checked(cudaGraphLaunch(entry->graph.get(), stream), "cudaGraphLaunch");
}

void GraphCache::remember(const StepShape& shape) {
  if (entries_.size() == kMaxGraphs) {
    // No step is under way: the caller waits for each.
    const auto oldest = std::min_element(entries_.begin(), entries_.end(),
                                         [](const Entry& a, const Entry& b) { return a.used < b.used; });
    entries_.erase(oldest);
  }
  entries_.push_back({.shape = shape, .graph = nullptr, .used = turn_});
}

Result<GraphExec> GraphCache::capture(const CudaForward& forward, const StepShape& shape, cudaStream_t stream) {
  SIROCCO_CHECK(checked(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"));
  const auto enqueued = forward.enqueue(shape, stream);
  // Whatever came of that: the stream must not go on capturing.
  cudaGraph_t made = nullptr;
  const auto ended = checked(cudaStreamEndCapture(stream, &made), "cudaStreamEndCapture");
  const Graph graph(made);
  SIROCCO_CHECK(enqueued);
  SIROCCO_CHECK(ended);
  cudaGraphExec_t exec = nullptr;
  SIROCCO_CHECK(checked(cudaGraphInstantiate(&exec, graph.get(), 0), "cudaGraphInstantiate"));
  return GraphExec(exec);
}

}  // namespace sirocco::cuda
