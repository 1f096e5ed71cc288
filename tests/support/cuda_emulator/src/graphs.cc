// Capture of streams into graphs, and their replay: nodes that do not wait for each other run in random order.
#include <algorithm>

#include "host.h"

namespace cudaemu {

// Whether every node comes before the end of the stream that began the capture.
static bool all_joined(const CUgraph_st& graph, std::vector<std::size_t> last) {
  std::vector<char> reached(graph.nodes.size());
  while (!last.empty()) {
    const std::size_t i = last.back();
    last.pop_back();
    if (std::exchange(reached[i], 1) != 0) continue;
    last.insert(last.end(), graph.nodes[i].after.begin(), graph.nodes[i].after.end());
  }
  return std::all_of(reached.begin(), reached.end(), [](char r) { return r != 0; });
}

// No container: under ThreadSanitizer its functions may be those of instrumented objects, and fibers share this
// thread's stack.
static std::size_t choose_node(const CUgraphExec_st& graph) {
  const auto may_run = [&](std::size_t i) {
    const auto& after = graph.nodes[i].after;
    return graph.done[i] == 0 &&
           std::all_of(after.begin(), after.end(), [&](std::size_t j) { return graph.done[j] != 0; });
  };
  std::size_t candidates = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) candidates += may_run(i) ? 1 : 0;
  std::size_t left = random().below(candidates);
  std::size_t chosen = 0;
  while (!may_run(chosen) || left-- != 0) ++chosen;
  return chosen;
}

// To its end, or until a node waits for the host: then the operation comes again, and the replay goes on from there.
static void replay(CUgraphExec_st& graph) {
  void* stream = order_this_fiber();
  if (graph.done.empty()) {
    graph.done.resize(graph.nodes.size());
    order_release(&graph.begin_clock);
  }
  while (std::find(graph.done.begin(), graph.done.end(), 0) != graph.done.end()) {
    const std::size_t chosen = choose_node(graph);
    Node& node = graph.nodes[chosen];
    order_switch(node.order);
    order_acquire(&graph.begin_clock);
    for (const std::size_t i : node.after) order_acquire(&graph.nodes[i].clock);
    node.work();
    order_release(&node.clock);
    order_switch(stream);
    if (asked_again()) return;
    graph.done[chosen] = 1;
  }
  for (Node& node : graph.nodes) order_acquire(&node.clock);
  graph.done.clear();
}

}  // namespace cudaemu

using namespace cudaemu;  // NOLINT: every function below is of the toolkit's header

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  CUDAEMU_API(cudaStreamBeginCapture);
  if (handle == nullptr || handle == cudaStreamLegacy || handle->graph != nullptr) {
    return returned(cudaErrorStreamCaptureUnsupported);
  }
  handle->graph = new CUgraph_st;
  ++host.graphs;
  handle->began_capture = true;
  handle->last.clear();
  return cudaSuccess;
}
// The capture is over, also if this fails.
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* result) {
  const Lock lock;
  initialise();
  *result = nullptr;
  if (!stream->began_capture) return returned(cudaErrorStreamCaptureUnmatched);
  CUgraph_st* graph = stream->graph;
  const bool joined = all_joined(*graph, stream->last);
  for (CUstream_st* other : host.streams) {
    if (other->graph != graph) continue;
    other->graph = nullptr;
    other->began_capture = false;
    other->last.clear();
  }
  const cudaError_t wanted = injected("cudaStreamEndCapture", false);
  if (wanted == cudaSuccess && joined) {
    *result = graph;
    return cudaSuccess;
  }
  delete graph;
  --host.graphs;
  return returned(wanted != cudaSuccess ? wanted : cudaErrorStreamCaptureUnjoined);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  CUDAEMU_API(cudaStreamIsCapturing);
  *status = resolve(stream)->graph != nullptr ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* result, cudaGraph_t graph, unsigned long long) {
  CUDAEMU_API_OF(cudaGraphInstantiate, true);
  *result = new CUgraphExec_st{.nodes = graph->nodes, .device = current_device()};
  for (Node& node : (*result)->nodes) node.order = order_new_fiber();
  ++host.graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* result, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiate(result, graph, flags);
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  CUDAEMU_API(cudaGraphUpload);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  CUDAEMU_API(cudaGraphLaunch);
  if (resolve(stream)->device != graph->device) return returned(cudaErrorInvalidResourceHandle);
  return enqueue(stream, [graph] { replay(*graph); });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  CUDAEMU_API_THAT_FREES;
  delete graph;
  --host.graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  CUDAEMU_API_THAT_FREES;
  drain_all();
  for (const Node& node : graph->nodes) order_drop(node.order);
  delete graph;
  --host.graphs;
  return cudaSuccess;
}

}  // extern "C"
