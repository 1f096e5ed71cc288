// The parts of a model's file, opened anew for reading past the page cache, and where in them its weights are.
// Immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/experts/transfer_queue.h"
#include "engine/model/model.h"

namespace sirocco {

struct FilePlace {
  std::uint32_t part = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  std::uint64_t first_block() const { return offset / kDirectBlock * kDirectBlock; }
  std::uint64_t after_last_block() const { return (offset + bytes + kDirectBlock - 1) / kDirectBlock * kDirectBlock; }
};

class ModelFiles {
 public:
  // The very file that is mapped, whatever its name leads to by now. Error: it cannot be opened.
  static Result<std::shared_ptr<const ModelFiles>> open(std::shared_ptr<const GgufFile> file);
  ~ModelFiles();
  ModelFiles(const ModelFiles&) = delete;
  ModelFiles& operator=(const ModelFiles&) = delete;

  bool direct() const { return direct_; }  // false: the file system knows no O_DIRECT, reads go through the page cache

  int first_descriptor() const { return descriptors_.front(); }

  FilePlace place(const Matrix& matrix) const;  // of mapped weights
  // Reads the blocks that enclose `place`, its first one to `to`.
  Transfer transfer(const FilePlace& place, std::byte* to, std::uint64_t tag) const;
  // After they were read: what the page cache took of them, it is told to forget.
  void forget(const FilePlace& place) const;

 private:
  explicit ModelFiles(std::shared_ptr<const GgufFile> file) : file_(std::move(file)) {}

  std::shared_ptr<const GgufFile> file_;
  std::vector<int> descriptors_;  // of the parts
  bool direct_ = true;
};

}  // namespace sirocco
