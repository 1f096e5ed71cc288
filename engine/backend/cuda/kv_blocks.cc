#include "engine/backend/cuda/kv_blocks.h"

#include <cassert>
#include <cstring>

namespace sirocco::cuda {

std::size_t KvBlocks::bytes(const CudaKv& kv, const ModelSpec& spec) {
  return std::size_t{2} * spec.layers * kv.block_bytes(spec);
}

Result<KvBlocks> KvBlocks::create(const CudaKv& kv, const ModelSpec& spec) {
  KvBlocks blocks;
  blocks.base_ = kv.base;
  blocks.part_ = kv.block_bytes(spec);
  blocks.stride_ = kv.blocks * blocks.part_;
  blocks.parts_ = std::size_t{2} * spec.layers;
  SIROCCO_TRY(blocks.staging_, allocate_pinned(bytes(kv, spec)));
  SIROCCO_TRY(blocks.stream_, make_stream());
  return blocks;
}

template <class Function>
Result<void> KvBlocks::on_each_part(std::string_view call, Function f) const {
  Result<void> enqueued;
  for (std::size_t i = 0; enqueued && i < parts_; ++i)
    enqueued = checked(f(base_ + i * stride_, staging_.get() + i * part_), call);
  Result<void> done = checked(cudaStreamSynchronize(stream_.get()), call);
  SIROCCO_CHECK(enqueued);
  return done;
}

Result<void> KvBlocks::copy(BlockId from, BlockId to) const {
  return on_each_part("the copy of a KV block", [&](std::byte* device, std::byte*) {
    return cudaMemcpyAsync(device + to * part_, device + from * part_, part_, cudaMemcpyDeviceToDevice, stream_.get());
  });
}

Result<void> KvBlocks::read(BlockId block, std::span<std::byte> bytes) const {
  assert(bytes.size() == parts_ * part_);
  SIROCCO_CHECK(on_each_part("reading a KV block", [&](std::byte* device, std::byte* host) {
    return cudaMemcpyAsync(host, device + block * part_, part_, cudaMemcpyDeviceToHost, stream_.get());
  }));
  std::memcpy(bytes.data(), staging_.get(), bytes.size());
  return {};
}

Result<void> KvBlocks::write(BlockId block, std::span<const std::byte> bytes) const {
  assert(bytes.size() == parts_ * part_);
  std::memcpy(staging_.get(), bytes.data(), bytes.size());
  return on_each_part("writing a KV block", [&](std::byte* device, const std::byte* host) {
    return cudaMemcpyAsync(device + block * part_, host, part_, cudaMemcpyHostToDevice, stream_.get());
  });
}

}  // namespace sirocco::cuda
