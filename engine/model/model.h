// A model file, understood: its spec and its weights bound by name, with everything missing or misshapen reported
// together before anything is computed. Immutable after open(); shared by std::shared_ptr.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/model/weights.h"

namespace sirocco {

class Model {
 public:
  static Result<std::shared_ptr<const Model>> open(const std::filesystem::path& path);
  static Result<std::shared_ptr<const Model>> bind(const std::shared_ptr<const GgufFile>& file);

  // The same model with its weights elsewhere: in `memory`, which it keeps.
  std::shared_ptr<const Model> with_weights(ModelWeights weights, std::shared_ptr<const void> memory) const;

  const GgufFile& file() const { return *file_; }
  const std::shared_ptr<const GgufFile>& shared_file() const { return file_; }
  const ModelSpec& spec() const { return spec_; }
  const ModelWeights& weights() const { return weights_; }

  // Sums over the tensors of the file.
  struct Sizes {
    std::uint64_t dense_bytes = 0;   // everything but the experts
    std::uint64_t expert_bytes = 0;  // all of them
    std::uint64_t parameters = 0;
    std::uint64_t active_parameters = 0;  // that one row passes through
    std::uint64_t layer_parameters = 0;   // of those, the layers': what a row of a prompt multiplies with
  };
  const Sizes& sizes() const { return sizes_; }

  // Bytes that the weights of one decoded token are read from: dense layers, its experts and the output matrix.
  std::uint64_t bytes_per_token() const;

 private:
  Model() = default;
  static Result<std::shared_ptr<const Model>> bind_tensors(std::shared_ptr<const GgufFile> file,
                                                           const std::string& where);
  void measure();
  std::shared_ptr<const GgufFile> file_;
  ModelSpec spec_;
  ModelWeights weights_;
  std::shared_ptr<const void> memory_;  // of weights that are not in the mapping
  Sizes sizes_;
};

}  // namespace sirocco
