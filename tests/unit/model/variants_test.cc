// Metadata that changes what a model computes, against transformers (tests/golden/model/make_variants.py).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/evaluate.h"
#include "tests/support/changed_model.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

nlohmann::json variants() {
  std::ifstream in(test::golden_dir() / "model" / "variants.json");
  return nlohmann::json::parse(in);
}

GgufValue value_of(const nlohmann::json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_string()) return json.get<std::string>();
  return json.get<float>();
}

class Variants : public testing::TestWithParam<nlohmann::json> {};

TEST_P(Variants, LogitsAreThoseOfTransformers) {
  const nlohmann::json& golden = GetParam();
  const test::TemporaryFolder folder;
  const auto change = [&](GgufMetadata& metadata) {
    for (const auto& key : golden.at("removed")) metadata.erase(key.get<std::string>());
    for (const auto& [key, value] : golden.at("set").items()) metadata.set(key, value_of(value));
  };
  const auto file = test::change_model(golden.at("model"), folder / "variant.gguf", {.metadata = change});
  const auto model = Model::bind(file);
  ASSERT_TRUE(model) << model.error().message();

  const auto tokens = golden.at("tokens").get<std::vector<TokenId>>();
  auto evaluation = Evaluation::create(*model, {.backend = "ref", .context = 24, .kv_type = TensorType::f32}).value();
  std::vector<float> logits;
  ASSERT_TRUE(evaluation.extend(tokens, true, [&](std::uint32_t, std::span<const float> row) {
    logits.insert(logits.end(), row.begin(), row.end());
  }));
  std::vector<float> expected(tokens.size() * golden.at("vocab").get<std::size_t>());
  std::ifstream in(test::golden_dir() / "model" / golden.at("file").get<std::string>(), std::ios::binary);
  in.read(reinterpret_cast<char*>(expected.data()), static_cast<std::streamsize>(expected.size() * sizeof(float)));
  ASSERT_TRUE(in.good());
  ASSERT_EQ(logits.size(), expected.size());
  float worst = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - expected[i]));
  EXPECT_LT(worst, 1e-3F);
}

INSTANTIATE_TEST_SUITE_P(Metadata, Variants, testing::ValuesIn(variants().get<std::vector<nlohmann::json>>()),
                         [](const auto& variant) {
                           std::string name = variant.param.at("name");
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace sirocco
