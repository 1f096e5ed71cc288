// Reads an architecture's own metadata keys ("llama.block_count", here "block_count"), each with the range its value
// may have. Errors name the whole key. Used while a ModelSpec is made; refers to the metadata it was made of.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "engine/gguf/gguf_file.h"

namespace sirocco {

class SpecReader {
 public:
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

  // Needs general.architecture and its block_count.
  static Result<SpecReader> create(const GgufMetadata& metadata);

  std::uint32_t layers() const { return layers_; }
  std::string full(std::string_view key) const { return prefix_ + "." + std::string(key); }
  bool contains(std::string_view key) const { return metadata_->contains(full(key)); }

  // An integer, or one for each layer if all are equal: models whose layers differ are not computed.
  Result<std::uint32_t> integer(std::string_view key, std::uint64_t low, std::uint64_t high) const;
  Result<float> number(std::string_view key, double low, double high) const;
  Result<bool> boolean(std::string_view key) const { return metadata_->boolean(full(key)); }
  Result<std::string> string(std::string_view key) const { return metadata_->string(full(key)); }
  // A number, one for each layer if all are equal, or a boolean as 0 or 1.
  Result<double> setting(std::string_view key) const;

  // The same for keys that may be missing.
  Result<std::uint32_t> integer_or(std::string_view key, std::uint32_t missing, std::uint64_t low,
                                   std::uint64_t high) const {
    return contains(key) ? integer(key, low, high) : missing;
  }
  Result<float> number_or(std::string_view key, double missing, double low, double high) const {
    return contains(key) ? number(key, low, high) : static_cast<float>(missing);
  }
  Result<bool> boolean_or(std::string_view key, bool missing) const { return contains(key) ? boolean(key) : missing; }

 private:
  SpecReader(const GgufMetadata& metadata, std::string prefix) : metadata_(&metadata), prefix_(std::move(prefix)) {}
  Result<std::uint64_t> one_integer(const std::string& full_key) const;
  // Of an array with a value for each layer.
  template <class T>
  Result<T> common_value(const std::string& full_key, const std::vector<T>& values) const;

  const GgufMetadata* metadata_;
  std::string prefix_;  // general.architecture
  std::uint32_t layers_ = 0;
};

}  // namespace sirocco
