// The sampler against transformers' logits processors; tests/golden/sample/make_sampler_golden.py wrote the values.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/sample/sampler.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

using nlohmann::json;

const json& golden() {
  static const json file = json::parse(std::ifstream(test::golden_dir() / "sample" / "sampler.json"));
  return file;
}

std::vector<float> row(const std::string& name) {
  std::vector<float> logits;
  for (const json& value : golden().at("rows").at(name)) {
    logits.push_back(value.is_null() ? -std::numeric_limits<float>::infinity() : value.get<float>());
  }
  return logits;
}

SamplingParameters parameters_of(const json& from) {
  SamplingParameters parameters;
  parameters.temperature = from.value("temperature", 1.0F);
  parameters.top_k = from.value("top_k", 0U);
  parameters.top_p = from.value("top_p", 1.0F);
  parameters.min_p = from.value("min_p", 0.0F);
  parameters.repetition_penalty = from.value("repetition_penalty", 1.0F);
  parameters.frequency_penalty = from.value("frequency_penalty", 0.0F);
  parameters.presence_penalty = from.value("presence_penalty", 0.0F);
  for (const json& bias : from.value("logit_bias", json::array())) {
    parameters.logit_bias.emplace_back(bias.at(0).get<TokenId>(), bias.at(1).get<float>());
  }
  return parameters;
}

// A sampler that has answered with the golden file's answer: each time only one token was possible.
Sampler sampler_after_answer(const SamplingParameters& parameters, std::size_t vocabulary) {
  Sampler sampler(parameters, golden().at("prompt").get<std::vector<TokenId>>(), vocabulary);
  for (const json& token : golden().at("answer")) {
    std::vector<float> forced(vocabulary, -std::numeric_limits<float>::infinity());
    forced.at(token.get<std::size_t>()) = 0;
    EXPECT_EQ(sampler.sample(forced).value(), token.get<TokenId>());
  }
  return sampler;
}

TEST(SamplerGolden, KeepsTheTokensOfTransformersWithTheirProbabilities) {
  ASSERT_EQ(golden().at("cases").size(), 4U * 28 + 19);
  for (const json& test_case : golden().at("cases")) {
    SCOPED_TRACE(test_case.at("row").dump() + " " + test_case.at("parameters").dump());
    std::vector<float> logits = row(test_case.at("row"));
    const SamplingParameters parameters = parameters_of(test_case.at("parameters"));
    ASSERT_TRUE(parameters.validate(logits.size()));
    Sampler sampler = sampler_after_answer(parameters, logits.size());

    const auto candidates = sampler.candidates(logits);
    ASSERT_TRUE(candidates) << candidates.error().message();
    std::vector<Sampler::Candidate> by_id(candidates->begin(), candidates->end());
    std::sort(by_id.begin(), by_id.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    std::vector<TokenId> kept;
    for (const Sampler::Candidate& candidate : by_id) kept.push_back(candidate.id);

    EXPECT_EQ(kept, test_case.at("kept").get<std::vector<TokenId>>());
    // transformers rounds the divided logits to f32: at 90 (9 / 0.1) that alone is 4e-6 for a logit and the highest.
    ASSERT_EQ(kept.size(), test_case.at("probabilities").size());
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const float expected = test_case.at("probabilities").at(i);
      EXPECT_NEAR(by_id[i].probability, expected, 1e-5F * expected + 1e-12F) << "token " << kept[i];
    }
  }
}

}  // namespace
}  // namespace sirocco
