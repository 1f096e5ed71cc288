// `sirocco model inspect`: what is in a model file and whether it can be served, without computing anything with it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace sirocco {

// What a tensor is for: "embedding", "attention", "dense ffn", "experts", "router", "norms", "output" or "other".
std::string_view tensor_group(std::string_view name);

struct TensorTotals {
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
};

struct ModelSummary {
  explicit ModelSummary(const GgufFile& file);

  std::map<std::string_view, TensorTotals> groups;  // by tensor_group
  std::map<std::string_view, TensorTotals> types;   // by the type's name
  TensorTotals total;
  std::uint64_t active_parameters = 0;  // of one token: the experts' share that is used, and all else
};

nlohmann::ordered_json inspect_json(const std::shared_ptr<const GgufFile>& file);
std::string inspect_text(const std::shared_ptr<const GgufFile>& file);

}  // namespace sirocco
