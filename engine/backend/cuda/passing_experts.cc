#include "engine/backend/cuda/passing_experts.h"

#include <algorithm>
#include <cassert>

namespace sirocco::cuda {

void PassingMemory::take_device_part(const SlotLayout& layout, Bump& device) {
  for (std::byte*& bytes : slot) bytes = device.take<std::byte>(layout.slot_bytes());
  for (std::byte*& bytes : arrived) bytes = device.take<std::byte>(layout.file_bytes());
}

void PassingMemory::take_pinned_part(const SlotLayout& layout, std::size_t step_rows, Bump& pinned) {
  rows = step_rows;
  for (std::byte*& bytes : leaving) bytes = pinned.take<std::byte>(layout.file_bytes());
  tables = pinned.take<DeviceExpert>(kPassing);
  tiles = pinned.take<ExpertTile>(kPassing * rows);
  tile_counts = pinned.take<std::uint32_t>(kPassing);
}

Result<std::unique_ptr<PassingExperts>> PassingExperts::create(const SlotLayout& layout, const PassingMemory& memory) {
  std::unique_ptr<PassingExperts> made(new PassingExperts(layout, memory));
  SIROCCO_TRY(made->stream_, make_stream());
  for (Place& place : made->places_) {
    SIROCCO_TRY(place.arrived, make_event());
    SIROCCO_TRY(place.used, make_event());
  }
  return made;
}

PassingExperts::~PassingExperts() {
  if (stream_) cudaStreamSynchronize(stream_.get());  // it uses what goes now
}

Result<void> PassingExperts::send(const CudaForward& forward, const StepShape& shape, std::uint32_t tile_rows,
                                  const MissingExpert& places, const ExpertProducts::Weights& expert,
                                  cudaStream_t stream) {
  const std::size_t at = turn_++ % kPassing;
  Place& place = places_.at(at);
  const std::uint32_t layer = expert.expert.layer;
  // Of an event that was never recorded this returns at once.
  SIROCCO_CHECK(checked(cudaEventSynchronize(place.used.get()), "cudaEventSynchronize"));
  memory_.tables[at] = layout_.in_slot(layer, memory_.slot.at(at));
  ExpertTile* const tiles = memory_.tiles + at * memory_.rows;
  std::uint32_t count = 0;
  for (std::uint32_t done = 0; done < places.count; done += tile_rows)
    tiles[count++] = {0, places.first + done, std::min(tile_rows, places.count - done)};
  assert(count <= memory_.rows);
  memory_.tile_counts[at] = count;

  const ExpertWeights there = layout_.copy_out(layer, *expert.weights, memory_.leaving.at(at), memory_.arrived.at(at));
  SIROCCO_CHECK(checked(cudaMemcpyAsync(memory_.arrived.at(at), memory_.leaving.at(at), layout_.file_bytes(),
                                        cudaMemcpyHostToDevice, stream_.get()),
                        "cudaMemcpyAsync of an expert"));
  SIROCCO_CHECK(repack_expert(there, memory_.tables[at], stream_.get()));
  SIROCCO_CHECK(checked(cudaEventRecord(place.arrived.get(), stream_.get()), "cudaEventRecord"));
  SIROCCO_CHECK(checked(cudaStreamWaitEvent(stream, place.arrived.get(), 0), "cudaStreamWaitEvent"));
  SIROCCO_CHECK(forward.enqueue_group(shape, layer,
                                      {.table = memory_.tables + at,
                                       .tiles = tiles,
                                       .tile_count = memory_.tile_counts + at,
                                       .assignments = places.count,
                                       .first = places.first,
                                       .count = places.count},
                                      stream));
  return checked(cudaEventRecord(place.used.get(), stream), "cudaEventRecord");
}

}  // namespace sirocco::cuda
