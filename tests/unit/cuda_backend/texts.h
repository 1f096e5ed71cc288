// Three texts at once on a backend: what a prompt's step and those of answers say, to be compared with ==.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco::test {

inline constexpr std::uint32_t kTextsPrompt = 24;  // rows: more than a graph has
inline constexpr std::uint32_t kTextsAnswer = 10;

inline TokenId likeliest(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Three sequences: their prompts in one step, of which all logits are wanted, then greedy answers, some steps of which
// have rows of one sequence alone. All logits there were.
class Texts {
 public:
  Texts(Backend& backend, const ModelSpec& spec) : backend_(backend), vocabulary_(spec.vocabulary) {
    for (std::uint32_t i = 0; i < texts_.size(); ++i) {
      Text& text = texts_.at(i);
      text.blocks = {2 * i, 2 * i + 1};
      for (std::uint32_t t = 0; t < kTextsPrompt - 7 * i; ++t)
        text.tokens.push_back(static_cast<TokenId>((13 * t + 29 * i + 5) % vocabulary_));
    }
  }

  // The first turns of a longer run say the same.
  Result<void> run(std::uint32_t turns = kTextsAnswer) {
    SIROCCO_CHECK(step({0, 1, 2}));
    for (std::uint32_t turn = 0; turn < turns; ++turn)
      SIROCCO_CHECK(turn % 4 == 3 ? step({turn % 3}) : step({0, 1, 2}));
    return {};
  }

  const std::vector<float>& logits() const { return logits_; }

 private:
  struct Text {
    std::vector<TokenId> tokens;
    std::vector<BlockId> blocks;
    std::uint32_t done = 0;
  };

  Result<void> step(const std::vector<std::uint32_t>& which) {
    std::vector<StepSequence> sequences;
    for (const std::uint32_t i : which) {
      const Text& text = texts_.at(i);
      sequences.push_back({.tokens = std::span(text.tokens).subspan(text.done),
                           .position = text.done,
                           .block_table = text.blocks,
                           .logits = WantLogits::all});
    }
    const Step step = {.sequences = sequences};
    const std::size_t begin = logits_.size();
    logits_.resize(begin + step.rows() * vocabulary_);
    SIROCCO_CHECK(backend_.step_all(step, std::span(logits_).subspan(begin)));
    std::size_t end = begin;
    for (const std::uint32_t i : which) {
      Text& text = texts_.at(i);
      end += (text.tokens.size() - text.done) * vocabulary_;
      text.done = static_cast<std::uint32_t>(text.tokens.size());
      text.tokens.push_back(likeliest(std::span(logits_).subspan(end - vocabulary_, vocabulary_)));
    }
    return {};
  }

  Backend& backend_;
  std::size_t vocabulary_;
  std::array<Text, 3> texts_;
  std::vector<float> logits_;
};

inline std::vector<float> logits_of(const std::shared_ptr<const Model>& model, ExpertSource& experts,
                                    const BackendOptions& options, std::uint32_t turns = kTextsAnswer) {
  const auto backend = make_backend(model, experts, options);
  EXPECT_TRUE(backend) << (backend ? "" : backend.error().message());
  if (!backend) return {};
  Texts texts(**backend, model->spec());
  const auto done = texts.run(turns);
  EXPECT_TRUE(done) << (done ? "" : done.error().message());
  return texts.logits();
}

}  // namespace sirocco::test
