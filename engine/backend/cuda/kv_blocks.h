// Moves blocks of the KV cache while steps go on with others: on a stream of its own, through page-locked memory, and
// waited for, so that a block may be taken for something else as soon as a call returns. Owned by the CUDA backend;
// called from any thread, one at a time.
#pragma once

#include <span>

#include "engine/backend/cuda/cuda_forward.h"

namespace sirocco::cuda {

class KvBlocks {
 public:
  static Result<KvBlocks> create(const CudaKv& kv, const ModelSpec& spec);

  static std::size_t bytes(const CudaKv& kv, const ModelSpec& spec);  // of a block: of all layers' keys and values

  Result<void> copy(BlockId from, BlockId to) const;
  Result<void> read(BlockId block, std::span<std::byte> bytes) const;  // [bytes(kv, spec)]
  Result<void> write(BlockId block, std::span<const std::byte> bytes) const;

 private:
  // f(the keys, then the values of each layer of block 0, offset in `staging_`), then waits, also after an error.
  template <class Function>
  Result<void> on_each_part(std::string_view call, Function f) const;

  std::byte* base_ = nullptr;
  std::size_t part_ = 0;    // bytes of a block's keys, or values, in one layer
  std::size_t stride_ = 0;  // from one layer's keys to its values, and from those to the next layer's keys
  std::size_t parts_ = 0;
  PinnedMemory staging_;  // [parts_, part_]
  Stream stream_;
};

}  // namespace sirocco::cuda
