// An architecture is one file in engine/model/architectures/: how its metadata becomes a ModelSpec, and which tensors
// it needs. CMake lists the files, so that adding one is adding a file NAME.cc that defines `architecture_NAME`.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/model/weights.h"

namespace sirocco {

// The tensors that a model needs, with the shapes they must have. Nothing is reported until finish(), which tells all
// missing, misshapen and superfluous tensors together.
class TensorTable {
 public:
  explicit TensorTable(const GgufFile& file) : file_(file) {}

  // Looks the tensor up and binds it to `target`. shape in the file's order: {inputs, outputs}.
  void need(const std::string& name, const std::vector<std::uint64_t>& shape, Matrix& target);
  void need(const std::string& name, std::uint64_t size, std::vector<float>& target);
  // The same for what may be absent; then `target` stays as it is.
  bool optional(const std::string& name, const std::vector<std::uint64_t>& shape, Matrix& target);
  bool optional(const std::string& name, std::uint64_t size, std::vector<float>& target);

  // The experts of a layer in any of the layouts in use: merged (ffn_gate_exps, ffn_up_exps, ffn_down_exps), fused
  // (ffn_gate_up_exps: the gate's rows first) or one tensor per expert (ffn_gate.0 …, files of early 2024).
  void need_experts(std::uint32_t layer, std::uint32_t width, const MoeSpec& moe, LayerWeights& target);

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  Result<void> finish();

 private:
  const GgufTensor* find(const std::string& name, const std::vector<std::uint64_t>& shape, bool required);
  // Keeps the first few problems and counts the rest: a hostile file can have millions, and no one reads them.
  template <class Text>
  void report(Text&& text);
  void slice(const GgufTensor* tensor, std::uint64_t first_row, std::uint64_t rows, Matrix& target);

  const GgufFile& file_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> problems_;
  std::size_t more_problems_ = 0;
  bool unsupported_ = false;
};

struct Architecture {
  std::string_view name;  // general.architecture
  Result<ModelSpec> (*read_spec)(const GgufFile& file);
  void (*bind_layer)(const ModelSpec& spec, std::uint32_t layer, TensorTable& table, LayerWeights& weights);
};

// Null for one that is not known.
const Architecture* find_architecture(std::string_view name);
std::vector<std::string_view> architecture_names();

// What all architectures of the Llama family say in the same words, under their own prefix: sizes, heads, RoPE with its
// scaling, window, experts. The architecture then changes what is different. A key that asks for something that is not
// computed is an error that names it. (common_spec.cc)
//
//   route  how the architecture weighs the chosen experts where the file does not say
Result<ModelSpec> read_common_spec(const GgufFile& file, const ref::RouteParameters& route);

// attn_norm, q, k, v, output, and ffn_norm with a dense FFN or a router and experts: the Llama family's layer.
void bind_common_layer(const ModelSpec& spec, std::uint32_t layer, TensorTable& table, LayerWeights& weights);

}  // namespace sirocco
