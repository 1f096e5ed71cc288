// Writes a GGUF version 3 file as a stream: the header first, then each tensor's bytes in the order declared, so that a
// model of any size is written with a few megabytes of memory. The bytes go to PATH.part, which is renamed to PATH by
// finish() and removed if the writer is destroyed before that: a failed write never leaves half a model behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace sirocco {

class GgufWriter {
 public:
  struct TensorDeclaration {
    std::string name;
    TensorType type;
    std::vector<std::uint64_t> shape;  // file order, 1 to 4 dimensions
  };

  // Writes header, metadata and tensor table. `general.alignment` in the metadata is honoured.
  static Result<GgufWriter> create(const std::filesystem::path& path, const GgufMetadata& metadata,
                                   std::vector<TensorDeclaration> tensors);
  GgufWriter(GgufWriter&&) noexcept;
  GgufWriter& operator=(GgufWriter&&) noexcept;
  ~GgufWriter();

  // The next bytes of the tensor being written. A tensor's bytes may come in any number of pieces, never more than it
  // has; when they are complete, padding is written and the next tensor begins.
  Result<void> append(Bytes bytes);
  const TensorDeclaration* current() const;  // the tensor whose bytes come next; null when all are complete
  std::uint64_t current_bytes() const;       // its size
  std::uint64_t file_bytes() const;          // of the finished file, known from the start

  // What was appended so far can be read at part_path() after flush(): a look at the whole file before it gets its
  // name.
  Result<void> flush();
  const std::filesystem::path& part_path() const;

  // Flushes to disk and renames. An error if bytes are missing.
  Result<void> finish();

 private:
  struct State;
  explicit GgufWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sirocco
