// Streams are queues that run on the thread that must wait; events order them. CUDAEMU_SCHED says when: late (only what
// is needed), eager, or random.
#include <algorithm>

#include "host.h"

namespace cudaemu {

using Schedule = Config::Schedule;

CUstream_st* resolve(cudaStream_t stream) {
  if (stream != nullptr && stream != cudaStreamLegacy) return stream;
  return host.devices[static_cast<std::size_t>(current_device())].null_stream;
}

CUstream_st* new_stream(int device, bool blocking) {
  auto* stream = new CUstream_st;
  stream->device = device;
  stream->blocking = blocking;
  stream->order = order_new_fiber();
  host.streams.push_back(stream);
  return stream;
}

static bool is_null_stream(const CUstream_st* stream) {
  return host.devices[static_cast<std::size_t>(stream->device)].null_stream == stream;
}

static bool ready(const CUstream_st* stream) {
  if (stream->queue.empty() || stream->running) return false;
  const Operation& first = stream->queue.front();
  return first.kind != Operation::Kind::wait || first.event->done >= first.version;
}

// False: the operation stays, since it waits for the host.
static bool run_first(CUstream_st* stream) {
  Operation operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  stream->running = true;
  void* caller = order_this_fiber();
  order_switch(stream->order);
  order_acquire(operation.clock.get());
  switch (operation.kind) {
    case Operation::Kind::record:
      order_release(&operation.event->clock);
      operation.event->done = std::max(operation.event->done, operation.version);
      break;
    case Operation::Kind::wait:
      order_acquire(&operation.event->clock);
      break;
    case Operation::Kind::run: {
      const OpenMemory open(stream->device);
      operation.work();
    }
  }
  stream->waits_for_host = take_ask_again();
  if (!stream->waits_for_host) operation.work = nullptr;  // destroyed in the stream's order
  order_release(&stream->done_clock);
  order_switch(caller);
  if (stream->waits_for_host) stream->queue.push_front(std::move(operation));  // of the host's own
  stream->running = false;
  return !stream->waits_for_host;
}

static bool run_any() {
  std::vector<CUstream_st*> candidates;
  for (CUstream_st* stream : host.streams) {
    if (ready(stream) && !stream->waits_for_host) candidates.push_back(stream);
  }
  if (candidates.empty()) return false;
  run_first(candidates[random().below(candidates.size())]);
  return true;
}

// Makes the stream go on by one operation; others only as needed. False: it, or one that it waits for, waits for the
// host.
static bool advance(CUstream_st* stream) {
  if (config().schedule == Schedule::random && random().below(2) != 0 && run_any()) return true;
  for (int hops = 0; !ready(stream); ++hops) {
    if (stream->queue.empty() || hops > 100'000) {
      fail("stream-deadlock", "a stream waits for an event that never comes");
    }
    stream = stream->queue.front().event->stream;
  }
  return run_first(stream);
}

// The same, by a host that does nothing else until there is an end to it.
static void advance_alone(CUstream_st* stream) {
  if (!advance(stream)) fail("host-deadlock", "the host waits for a stream that waits for the host");
}

void drain(CUstream_st* stream) {
  while (!stream->queue.empty()) advance_alone(stream);
  order_acquire(&stream->done_clock);
}

void drain_all() {
  for (CUstream_st* stream : host.streams) drain(stream);
}

static void drain_blocking(int device) {
  for (CUstream_st* stream : host.streams) {
    if (stream->blocking && stream->device == device) drain(stream);
  }
}

static void push(CUstream_st* stream, Operation operation) {
  order_release(operation.clock.get());
  stream->queue.push_back(std::move(operation));
  if (config().schedule == Schedule::eager) {
    while (run_any()) {
    }
  } else if (config().schedule == Schedule::random) {
    for (std::size_t n = random().below(3); n > 0; --n) run_any();
  }
}

cudaError_t enqueue(cudaStream_t handle, std::function<void()> work) {
  CUstream_st* stream = resolve(handle);
  if (stream->graph != nullptr) {
    auto& nodes = stream->graph->nodes;
    nodes.push_back({.work = std::move(work), .after = stream->last});
    stream->last = {nodes.size() - 1};
    return cudaSuccess;
  }
  if (is_null_stream(stream)) drain_blocking(stream->device);
  Operation operation;
  operation.work = std::move(work);
  push(stream, std::move(operation));
  return cudaSuccess;
}

bool capturing() {
  return std::any_of(host.streams.begin(), host.streams.end(), [](const auto* stream) { return stream->graph; });
}

static std::size_t count(const dim3& size) {
  return std::size_t{size.x} * size.y * size.z;
}

cudaError_t enqueue_kernel(const cudaLaunchConfig_t* asked, const void* kernel, std::function<void()> body) {
  CUDAEMU_API(cudaLaunchKernel);
  Launch launch;
  launch.grid = asked->gridDim;
  launch.block = asked->blockDim;
  launch.dynamic_shared = asked->dynamicSmemBytes;
  for (unsigned i = 0; i < asked->numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = asked->attrs[i];
    if (attribute.id == cudaLaunchAttributeCooperative) launch.cooperative = attribute.val.cooperative != 0;
  }
  constexpr std::size_t kMostCooperative = 16;
  const auto limit = host.shared_limit.find(kernel);
  const auto most_shared = static_cast<std::size_t>(limit == host.shared_limit.end() ? 48 << 10 : limit->second);
  const std::size_t threads = count(launch.block);
  const std::size_t blocks = count(launch.grid);
  if (threads == 0 || threads > 1024 || launch.block.z > 64 || blocks == 0 || launch.grid.y > 65535 ||
      launch.grid.z > 65535) {
    return returned(cudaErrorInvalidConfiguration);
  }
  if (launch.dynamic_shared > most_shared) return returned(cudaErrorInvalidValue);
  if (launch.cooperative && blocks > kMostCooperative) return returned(cudaErrorCooperativeLaunchTooLarge);
  if (resolve(asked->stream)->device != current_device()) return returned(cudaErrorInvalidResourceHandle);
  launch.body = std::move(body);
  launch.body();  // checks the arguments
  return enqueue(asked->stream, [launch]() mutable {
    launch.body();
    run_launch(launch);
  });
}

// An event's new recording, or its wait, takes its place in the queue.
static void push_event(CUstream_st* stream, Operation::Kind kind, cudaEvent_t event) {
  Operation operation;
  operation.kind = kind;
  operation.event = host.events.at(event);
  operation.version = event->recorded;
  push(stream, std::move(operation));
}

static void erase(CUstream_st* stream) {
  host.streams.erase(std::find(host.streams.begin(), host.streams.end(), stream));
  order_drop(stream->order);
  delete stream;
}

}  // namespace cudaemu

using namespace cudaemu;  // NOLINT: every function below is of the toolkit's header

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  CUDAEMU_API_OF(cudaStreamCreate, true);
  host.most_urgent = std::min(host.most_urgent, priority);
  *stream = new_stream(current_device(), (flags & cudaStreamNonBlocking) == 0);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, kDefaultPriority);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, 0, kDefaultPriority);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  CUDAEMU_API_THAT_FREES;
  drain(stream);
  erase(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  CUDAEMU_API(cudaStreamSynchronize);
  CUstream_st* stream = resolve(handle);
  if (stream->graph != nullptr) return returned(cudaErrorStreamCaptureUnsupported);
  if (is_null_stream(stream)) drain_blocking(stream->device);
  drain(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  CUDAEMU_API(cudaStreamQuery);
  CUstream_st* stream = resolve(handle);
  if (!stream->queue.empty()) {
    advance(stream);
    return cudaErrorNotReady;
  }
  order_acquire(&stream->done_clock);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  CUDAEMU_API(cudaDeviceSynchronize);
  if (capturing()) return returned(cudaErrorStreamCaptureUnsupported);
  for (CUstream_st* stream : host.streams) {
    if (stream->device == current_device()) drain(stream);
  }
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  CUDAEMU_API(cudaLaunchHostFunc);
  return enqueue(stream, [=] {
    const ClosedMemory closed;
    function(data);
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  CUDAEMU_API_OF(cudaEventCreate, true);
  auto created = std::make_shared<CUevent_st>();
  created->device = current_device();
  *event = created.get();
  host.events[*event] = created;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  CUDAEMU_API_THAT_FREES;
  if (host.events.erase(event) == 0) fail("bad-free", "cudaEventDestroy of %p", static_cast<void*>(event));
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  CUDAEMU_API(cudaEventRecord);
  CUstream_st* stream = resolve(handle);
  if (stream->device != event->device) return returned(cudaErrorInvalidResourceHandle);
  event->graph = stream->graph;
  if (stream->graph != nullptr) {
    event->nodes = stream->last;
    return cudaSuccess;
  }
  event->stream = stream;
  ++event->recorded;
  push_event(stream, Operation::Kind::record, event);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  CUDAEMU_API(cudaStreamWaitEvent);
  CUstream_st* stream = resolve(handle);
  if (event->graph != nullptr) {
    if (stream->graph != nullptr && stream->graph != event->graph) return returned(cudaErrorStreamCaptureMerge);
    stream->graph = event->graph;
    stream->last.insert(stream->last.end(), event->nodes.begin(), event->nodes.end());
    return cudaSuccess;
  }
  if (stream->graph != nullptr) return returned(cudaErrorStreamCaptureIsolation);
  if (event->recorded != 0) push_event(stream, Operation::Kind::wait, event);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  CUDAEMU_API(cudaEventSynchronize);
  while (event->done < event->recorded) advance_alone(event->stream);
  order_acquire(&event->clock);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  CUDAEMU_API(cudaEventQuery);
  if (event->done < event->recorded) {
    advance(event->stream);
    return cudaErrorNotReady;
  }
  order_acquire(&event->clock);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  CUDAEMU_API(cudaEventElapsedTime);
  *milliseconds = 1.0f;  // time has no meaning here
  return cudaSuccess;
}

}  // extern "C"
