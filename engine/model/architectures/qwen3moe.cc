// qwen3moe: Qwen3-30B-A3B and its kin. Each head of Q and K is RMS-normalised before RoPE in the neox style; every
// layer has many small experts whose weights are renormalised unless expert_weights_norm says otherwise.
#include "engine/model/architecture.h"

namespace sirocco {
namespace {

void bind_layer(const ModelSpec& spec, std::uint32_t layer, TensorTable& table, LayerWeights& weights) {
  bind_common_layer(spec, layer, table, weights);
  table.need(fmt::format("blk.{}.attn_q_norm.weight", layer), spec.head_dim, weights.q_norm);
  table.need(fmt::format("blk.{}.attn_k_norm.weight", layer), spec.head_dim, weights.k_norm);
}

}  // namespace

extern const Architecture architecture_qwen3moe;
const Architecture architecture_qwen3moe = {
    .name = "qwen3moe",
    .read_spec = [](const GgufFile& file) -> Result<ModelSpec> {
      SIROCCO_TRY(ModelSpec spec, read_common_spec(file, {.softmax_before_choice = true, .normalise = true}));
      if (!spec.moe) return fail(ErrorCode::corrupt, "qwen3moe.expert_count is missing");
      spec.rope_style = ref::RopeStyle::neox;
      spec.qk_norm = true;
      return spec;
    },
    .bind_layer = bind_layer,
};

}  // namespace sirocco
