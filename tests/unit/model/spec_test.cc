// Every key that asks for a computation is honoured or refused by its name, never passed over.
#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "tests/support/changed_model.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

// The error of tiny-mixtral with a key set, or "(accepted)".
std::string error_with(const std::string& key, GgufValue value) {
  const test::TemporaryFolder folder;
  const auto set = [&](GgufMetadata& metadata) { metadata.set(key, std::move(value)); };
  const auto file = test::change_model("tiny-mixtral.gguf", folder / "m.gguf", {.metadata = set});
  const auto model = Model::bind(file);
  return model ? "(accepted)" : model.error().message();
}

TEST(Spec, KeysOfOtherComputationsAreRefusedByName) {
  const std::pair<std::string, GgufValue> asked[] = {
      {"attention.causal", false},
      {"attention.clamp_kqv", 8.0F},
      {"attention.max_alibi_bias", 8.0F},
      {"attention.scale", 0.25F},
      {"attention.temperature_scale", 0.1F},
      {"attn_logit_softcapping", 50.0F},
      {"embedding_scale", 12.0F},
      {"expert_gating_func", std::uint32_t{2}},
      {"expert_group_count", std::uint32_t{8}},
      {"expert_shared_count", std::uint32_t{1}},
      {"final_logit_softcapping", 30.0F},
      {"logit_scale", 0.0625F},
      {"residual_scale", 0.22F},
      {"rope.scaling.yarn_log_multiplier", 0.1F},
      {"use_parallel_residual", true},
      {"swiglu_clamp_exp", GgufArray(std::vector<float>{7.0F, 7.0F, 7.0F})},
  };
  for (const auto& [key, value] : asked) {
    EXPECT_EQ(error_with("llama." + key, value).find("m.gguf: llama." + key + " is "), 0U)
        << error_with("llama." + key, value);
  }
  EXPECT_EQ(error_with("llama.final_logit_softcapping", 30.0F),
            "m.gguf: llama.final_logit_softcapping is 30; this build computes only 0, and the result would be wrong");
}

TEST(Spec, TheSameKeysAreAcceptedWhereTheyChangeNothing) {
  const std::pair<std::string, GgufValue> neutral[] = {
      {"attention.causal", true},
      {"attention.clamp_kqv", 0.0F},
      {"attention.scale", 0.0F},
      {"attention.scale", 0.35355339F},  // 1 / sqrt(8)
      {"embedding_scale", 0.0F},
      {"expert_feed_forward_length", std::uint32_t{0}},
      {"expert_gating_func", std::uint32_t{1}},
      {"expert_weights_norm", true},
      {"expert_weights_scale", 0.0F},
      {"logit_scale", 1.0F},
      {"swiglu_clamp_exp", GgufArray(std::vector<float>{0.0F, 0.0F, 0.0F})},
      {"use_parallel_residual", false},
  };
  for (const auto& [key, value] : neutral) EXPECT_EQ(error_with("llama." + key, value), "(accepted)") << key;
}

TEST(Spec, ValuesForEachLayerAreOneForEachLayerAndAllEqual) {
  const auto heads = [](std::vector<std::int32_t> values) {
    return error_with("llama.attention.head_count_kv", GgufArray(std::move(values)));
  };
  EXPECT_EQ(heads({2, 2, 2}), "(accepted)");
  EXPECT_EQ(heads({2, 2, 2, 2, 2}),
            "m.gguf: llama.attention.head_count_kv has 5 values, expected one for each of the 3 layers");
  EXPECT_EQ(heads({}), "m.gguf: llama.attention.head_count_kv has 0 values, expected one for each of the 3 layers");
  EXPECT_EQ(heads({2, 4, 2}),
            "m.gguf: llama.attention.head_count_kv differs from layer to layer, which this build does not compute");
  EXPECT_EQ(heads({-2, -2, -2}), "m.gguf: llama.attention.head_count_kv is -2, expected 0 or more");
}

TEST(Spec, RopeScalingThatIsNotComputedIsNamed) {
  EXPECT_EQ(error_with("llama.rope.scaling.type", std::string("longrope")),
            "m.gguf: llama.rope.scaling.type is \"longrope\"; this build computes none, linear and yarn");
  EXPECT_EQ(error_with("llama.rope.scaling.type", std::string("\x1B[2Jx")),
            "m.gguf: llama.rope.scaling.type is \" [2Jx\"; this build computes none, linear and yarn");
  EXPECT_EQ(error_with("llama.rope.freq_base", std::numeric_limits<float>::quiet_NaN()),
            "m.gguf: llama.rope.freq_base is nan, expected 1 to 1000000000000");
}

TEST(Spec, ArchitectureThatIsNotKnownIsNamedWithoutItsEscapeSequences) {
  EXPECT_EQ(error_with("general.architecture", std::string("\x1B[31mevil\a")),
            "m.gguf: architecture \" [31mevil \" is not one this build computes (llama, qwen3moe)");
}

}  // namespace
}  // namespace sirocco
