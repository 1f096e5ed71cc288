// llama: Llama, Mistral, Mixtral, SmolLM2 and their kin. The converter permuted the rows of Q and K, so that RoPE pairs
// are neighbours (the "normal" style). llama-3 scaling comes as frequency factors in the tensor rope_freqs.weight.
#include "engine/model/architecture.h"

namespace sirocco {

extern const Architecture architecture_llama;
const Architecture architecture_llama = {
    .name = "llama",
    .read_spec = [](const GgufFile& file) -> Result<ModelSpec> {
      // Mixtral: softmax over all experts, the chosen ones' weights renormalised.
      SIROCCO_TRY(ModelSpec spec, read_common_spec(file, {.softmax_before_choice = true, .normalise = true}));
      spec.rope_style = ref::RopeStyle::normal;
      return spec;
    },
    .bind_layer = bind_common_layer,
};

}  // namespace sirocco
