#include "engine/kv/swap_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdlib>

namespace sirocco {

Result<std::unique_ptr<SwapFile>> SwapFile::create(const std::filesystem::path& folder, std::uint64_t bytes,
                                                   std::size_t block_bytes) {
  std::string name = (folder / "kv-swap-XXXXXX").string();
  const int descriptor = mkostemp(name.data(), O_CLOEXEC);  // for nobody else to read
  if (descriptor < 0)
    return fail(errno_code(errno),
                "{}: no file can be made there for KV that is moved out (memory.kv_swap_directory): {}",
                folder.string(), errno_message(errno));
  unlink(name.c_str());
  const auto slots = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes / block_bytes, UINT32_MAX));
  return std::unique_ptr<SwapFile>(new SwapFile(descriptor, folder.string(), slots, block_bytes));
}

SwapFile::~SwapFile() {
  close(descriptor_);
}

Result<SwapSlot> SwapFile::write(std::span<const std::byte> block) {
  assert(block.size() == block_bytes_ && free() > 0);
  if (free_.empty()) free_.push_back(end_++);
  const SwapSlot slot = free_.back();
  for (std::size_t done = 0; done < block.size();) {
    const ssize_t written =
        pwrite(descriptor_, block.data() + done, block.size() - done, static_cast<off_t>(offset(slot) + done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      return fail(errno_code(errno), "{}: KV cannot be moved out (memory.kv_swap_directory): {}", name_,
                  errno_message(errno));
    done += static_cast<std::size_t>(written);
  }
  free_.pop_back();
  ++used_;
  return slot;
}

Result<void> SwapFile::read(SwapSlot slot, std::span<std::byte> block) const {
  assert(block.size() == block_bytes_);
  for (std::size_t done = 0; done < block.size();) {
    const ssize_t got =
        pread(descriptor_, block.data() + done, block.size() - done, static_cast<off_t>(offset(slot) + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      return fail(ErrorCode::io, "{}: KV that was moved out cannot be read back (memory.kv_swap_directory): {}", name_,
                  got == 0 ? "the file has become shorter" : errno_message(errno));
    done += static_cast<std::size_t>(got);
  }
  return {};
}

void SwapFile::release(SwapSlot slot) {
  assert(used_ > 0);
  --used_;
  free_.push_back(slot);
}

void SwapFile::trim() {
  if (used_ > 0 || end_ == 0) return;
  free_.clear();
  end_ = 0;
  // What it cannot give back it will use again.
  [[maybe_unused]] const int ignored = ftruncate(descriptor_, 0);
}

}  // namespace sirocco
