// Replayed routing reaches the experts that it names, and nothing else changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/experts/mapped_experts.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

using Experts = std::vector<std::uint32_t>;

// Notes what was asked for; lets every expert be a layer's first, if told so.
class NotingExperts final : public ExpertSource {
 public:
  explicit NotingExperts(std::shared_ptr<const Model> model) : model_(model), mapped_(std::move(model)) {}

  void request(std::uint32_t layer, std::span<const WantedExpert> wanted, std::uint32_t rows) override {
    Experts& now = requests.emplace_back();
    for (const WantedExpert& expert : wanted) now.push_back(expert.index);
    mapped_.request(layer, wanted, rows);
  }
  void wait(std::vector<ExpertNews>& news) override { mapped_.wait(news); }
  Lease lease(ExpertId expert) override {
    return Lease(this, expert, model_->weights().layers[expert.layer].experts[all_the_same ? 0 : expert.index]);
  }
  Error failure(ExpertId expert) const override { return mapped_.failure(expert); }

  std::vector<Experts> requests;  // of each layer
  bool all_the_same = false;

 private:
  void release(ExpertId) override {}

  std::shared_ptr<const Model> model_;
  MappedExperts mapped_;
};

// Experts `position` + `layer` and the one after it, of the first four.
class Walk final : public RoutingReplay {
 public:
  std::span<const std::uint32_t> experts(std::uint32_t position, std::uint32_t layer) const override {
    return kPairs.at((position + layer) % kPairs.size());
  }

 private:
  static constexpr std::array<std::array<std::uint32_t, 2>, 4> kPairs = {{{0, 1}, {1, 2}, {2, 3}, {0, 3}}};
};

constexpr std::array<TokenId, 3> kTokens = {1, 200, 92};

// The logits of the last of the tokens, at positions 0, 1, 2.
std::vector<float> logits(const std::shared_ptr<const Model>& model, NotingExperts& experts,
                          const Instruments& instruments) {
  const auto backend = make_backend(model, experts,
                                    {.threads = 2,
                                     .limits = {.rows = 4, .logit_rows = 1, .context = 32},
                                     .kv_blocks = 1,
                                     .instruments = instruments})
                           .value();
  const BlockId block = 0;
  std::vector<float> logits(model->spec().vocabulary);
  for (const std::span<const TokenId> tokens : {std::span(kTokens).first(2), std::span(kTokens).last(1)}) {
    const StepSequence sequence = {.tokens = tokens,
                                   .position = tokens.size() == 2 ? 0U : 2U,
                                   .block_table = std::span(&block, 1),
                                   .logits = WantLogits::last};
    EXPECT_TRUE(backend->step_all({.sequences = std::span(&sequence, 1)}, logits));
  }
  return logits;
}

class Replay : public testing::Test {
 protected:
  const std::shared_ptr<const Model> model_ = Model::open(test::golden_dir() / "model" / "tiny-mixtral.gguf").value();
  const Walk walk_ = {};
};

TEST_F(Replay, ReachesTheExpertsOfEachPositionAndLayer) {
  ASSERT_EQ(model_->spec().moe->experts, 8U);
  ASSERT_EQ(model_->spec().moe->used, 2U);
  ASSERT_EQ(model_->spec().layers, 3U);
  NotingExperts experts(model_);
  const std::vector<float> replayed = logits(model_, experts, {.replay = &walk_});
  EXPECT_EQ(experts.requests, (std::vector<Experts>{{0, 1, 2}, {1, 2, 3}, {0, 2, 3}, {2, 3}, {0, 3}, {0, 1}}));
  NotingExperts chosen(model_);
  EXPECT_NE(logits(model_, chosen, {}), replayed);
  EXPECT_NE(chosen.requests, experts.requests);
}

TEST_F(Replay, EachExpertWeighsTheSame) {
  // Where all experts are one, what is left of the routing is the sum of its weights.
  NotingExperts experts(model_);
  experts.all_the_same = true;
  const std::vector<float> routed = logits(model_, experts, {});
  const std::vector<float> replayed = logits(model_, experts, {.replay = &walk_});
  float largest = 0;
  for (std::size_t i = 0; i < routed.size(); ++i) {
    EXPECT_NEAR(replayed[i], routed[i], 1e-4);
    largest = std::max(largest, std::abs(routed[i]));
  }
  EXPECT_GT(largest, 0.1F);
}

TEST_F(Replay, ATimelineChangesNoBitAndHoldsEveryPart) {
  NotingExperts experts(model_);
  const std::vector<float> expected = logits(model_, experts, {});
  Timeline timeline(1000);
  timeline.start();
  EXPECT_EQ(logits(model_, experts, {.timeline = &timeline}), expected);
  std::array<std::size_t, 32> of_kind = {};
  for (const Timeline::Event& event : timeline.events()) ++of_kind.at(static_cast<std::size_t>(event.kind));
  const auto count = [&](Timeline::Kind kind) { return of_kind.at(static_cast<std::size_t>(kind)); };
  for (const Timeline::Kind once : {Timeline::Kind::step, Timeline::Kind::embed, Timeline::Kind::logits})
    EXPECT_EQ(count(once), 2U) << Timeline::name(once);
  for (const Timeline::Kind kind :
       {Timeline::Kind::layer, Timeline::Kind::attention, Timeline::Kind::route, Timeline::Kind::request,
        Timeline::Kind::gate_up, Timeline::Kind::down, Timeline::Kind::sum})
    EXPECT_EQ(count(kind), 6U) << Timeline::name(kind);
  const auto& first = *std::find_if(timeline.events().begin(), timeline.events().end(),
                                    [](const auto& event) { return event.kind == Timeline::Kind::down; });
  EXPECT_EQ(first.layer, 0U);
  EXPECT_EQ(first.rows, 4U);  // two rows, two experts each
  EXPECT_GT(first.bytes, 0U);
}

}  // namespace
}  // namespace sirocco
