// `sirocco model verify`: is the file whole, are the numbers in it numbers, and does it have what its architecture
// needs? Opening it has proved its structure; this reads every byte.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace sirocco {

// The first block of a tensor with a scale (or the first element) that is infinite or not a number.
struct BadBlock {
  std::string tensor;
  std::uint64_t row = 0;    // counted through all experts of the tensor
  std::uint64_t block = 0;  // within the row
};

struct VerifyReport {
  std::vector<BadBlock> bad;         // one per tensor that has any, in file order
  std::string sha256;                // of the whole file, lower case; empty unless asked for
  std::string not_loadable;          // why the model cannot be loaded; empty where it can, or is not ours to judge:
                                     // a vocabulary without weights, an architecture that is not known
  std::uint64_t trailing_bytes = 0;  // after the last tensor of each part, beyond its padding: they mean nothing
};

// `hash_part` is the part of a split model whose SHA-256 is wanted. Errors: the file cannot be read, Ctrl-C.
Result<VerifyReport> verify_model(const std::shared_ptr<const GgufFile>& file, std::optional<std::size_t> hash_part);

}  // namespace sirocco
