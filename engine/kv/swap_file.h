// Where KV blocks lie that have been moved out of the cache: a file without a name, in slots of one block each. It has
// no part in the memory plan: what the page cache holds of it the kernel takes back. Owned by KvSwap; used by the
// engine thread alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace sirocco {

using SwapSlot = std::uint32_t;

class SwapFile {
 public:
  // As many slots as `bytes` hold. Error: the folder cannot be written.
  static Result<std::unique_ptr<SwapFile>> create(const std::filesystem::path& folder, std::uint64_t bytes,
                                                  std::size_t block_bytes);
  ~SwapFile();
  SwapFile(const SwapFile&) = delete;
  SwapFile& operator=(const SwapFile&) = delete;

  std::size_t block_bytes() const { return block_bytes_; }
  std::uint32_t slots() const { return slots_; }
  std::uint32_t free() const { return slots_ - used_; }

  // Writes a block to a slot that is free (there must be one). Error: of the disk; the slot is free again.
  Result<SwapSlot> write(std::span<const std::byte> block);
  Result<void> read(SwapSlot slot, std::span<std::byte> block) const;
  void release(SwapSlot slot);

  // Gives the disk its space back once no slot is in use.
  void trim();

 private:
  SwapFile(int descriptor, std::string name, std::uint32_t slots, std::size_t block_bytes)
      : descriptor_(descriptor), name_(std::move(name)), slots_(slots), block_bytes_(block_bytes) {}
  std::uint64_t offset(SwapSlot slot) const { return std::uint64_t{slot} * block_bytes_; }

  int descriptor_;
  std::string name_;  // for messages
  std::uint32_t slots_;
  std::size_t block_bytes_;
  std::uint32_t used_ = 0;
  std::uint32_t end_ = 0;       // of the slots that have been written
  std::vector<SwapSlot> free_;  // of those before it
};

}  // namespace sirocco
