// The golden models (tests/golden/model) with the logits that transformers computes for them, and the logits of a
// backend to compare with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/evaluate.h"
#include "tests/support/source_dir.h"

namespace sirocco::test {

struct Golden {
  std::string model;
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // [tokens, vocabulary]

  friend void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.model; }
};

// tiny.json: architectures and layouts in F32; quant.json: a model of each tensor type.
inline std::vector<Golden> goldens() {
  const auto dir = golden_dir() / "model";
  std::ifstream tiny(dir / "tiny.json");
  std::ifstream quant(dir / "quant.json");
  nlohmann::json index = nlohmann::json::parse(tiny);
  for (const auto& entry : nlohmann::json::parse(quant)) index.push_back(entry);
  std::vector<Golden> all;
  for (const auto& entry : index) {
    Golden golden{.model = entry.at("model"), .tokens = entry.at("tokens"), .logits = {}};
    golden.logits.resize(golden.tokens.size() * entry.at("vocab").get<std::size_t>());
    std::ifstream in(dir / entry.at("file").get<std::string>(), std::ios::binary);
    in.read(reinterpret_cast<char*>(golden.logits.data()),
            static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
    EXPECT_TRUE(in.good()) << golden.model;
    all.push_back(std::move(golden));
  }
  return all;
}

// For INSTANTIATE_TEST_SUITE_P.
inline std::string golden_name(const testing::TestParamInfo<Golden>& golden) {
  std::string name = golden.param.model.substr(0, golden.param.model.find('.'));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

inline std::shared_ptr<const Model> open_golden(const std::string& name) {
  auto model = Model::open(golden_dir() / "model" / name);
  EXPECT_TRUE(model) << (model ? "" : model.error().message());
  return model ? *model : nullptr;
}

// `cut`: the text is given in random pieces; null: in one.
inline std::vector<float> all_logits(const std::shared_ptr<const Model>& model, std::span<const TokenId> tokens,
                                     const EvaluateOptions& options, std::mt19937* cut = nullptr) {
  auto evaluation = Evaluation::create(model, options);
  EXPECT_TRUE(evaluation) << (evaluation ? "" : evaluation.error().message());
  if (!evaluation) return {};
  std::vector<float> all;
  while (!tokens.empty()) {
    const std::size_t rows =
        cut == nullptr ? tokens.size() : std::uniform_int_distribution<std::size_t>(1, tokens.size())(*cut);
    const auto done = evaluation->extend(tokens.first(rows), true, [&](std::uint32_t, std::span<const float> row) {
      all.insert(all.end(), row.begin(), row.end());
    });
    EXPECT_TRUE(done) << (done ? "" : done.error().message());
    if (!done) return {};
    tokens = tokens.subspan(rows);
  }
  return all;
}

inline float median(std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What int8 activations may cost: far less than what tells tokens apart, but where a near-tied expert flips single
// positions move by whole logits, so the median is judged, against the median size of a logit.
inline constexpr float kMedianTolerance = 0.03F;

inline float median_difference(std::span<const float> logits, std::span<const float> golden) {
  std::vector<float> differences;
  std::vector<float> sizes;
  for (std::size_t i = 0; i < golden.size(); ++i) {
    differences.push_back(std::abs(logits[i] - golden[i]));
    sizes.push_back(std::abs(golden[i]));
  }
  return median(differences) / median(sizes);
}

}  // namespace sirocco::test
