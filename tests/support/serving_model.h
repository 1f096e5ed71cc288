// A golden model on a backend of its own, its experts in slots or mapped: what the tests of engine/experts compute
// with.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/experts/residency.h"
#include "tests/support/source_dir.h"
#include "tests/support/testing_queue.h"

namespace sirocco::test {

inline std::shared_ptr<const Model> open_model(const std::string& name) {
  return Model::open(golden_dir() / "model" / name).value();
}

inline std::vector<TokenId> text_of(const Model& model, std::size_t length, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> text(length);
  for (TokenId& token : text) token = static_cast<TokenId>(random() % model.spec().vocabulary);
  return text;
}

inline constexpr std::uint32_t kContext = 64;

// A model on a backend of its own, one sequence.
class Serving {
 public:
  Serving(const std::shared_ptr<const Model>& model, ResidencyOptions options, const LossyOptions& lossy = {})
      : residency_(make_residency(model, std::move(options)).value()),
        backend_(make_backend(residency_.model, *residency_.experts,
                              {.threads = 2,
                               .limits = {.rows = kContext, .logit_rows = kContext, .context = kContext},
                               .kv_blocks = 4,
                               .lossy = lossy})
                     .value()) {
    std::iota(blocks_.begin(), blocks_.end(), 0U);
  }

  // All logits of a text: a prompt of `prompt` tokens in one step, then token by token.
  std::vector<float> logits(std::span<const TokenId> text, std::size_t prompt) {
    const std::size_t vocabulary = residency_.model->spec().vocabulary;
    std::vector<float> all(text.size() * vocabulary);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t rows = at == 0 ? prompt : 1;
      const StepSequence sequence = {.tokens = text.subspan(at, rows),
                                     .position = static_cast<std::uint32_t>(at),
                                     .block_table = blocks_,
                                     .logits = WantLogits::all};
      StepReport report;
      const auto done = backend_->step({.sequences = std::span(&sequence, 1)},
                                       std::span(all).subspan(at * vocabulary, rows * vocabulary), report);
      EXPECT_TRUE(done) << (done ? "" : done.error().message());
      EXPECT_TRUE(report.failures.empty());
      for (const std::uint64_t experts : report.lossy_experts) lossy_experts_ += experts;
      at += rows;
    }
    return all;
  }

  std::uint64_t lossy_experts() const { return lossy_experts_; }  // as the steps of logits() told
  Backend& backend() { return *backend_; }
  SlottedExperts* slotted() const { return residency_.slotted; }
  const Residency& residency() const { return residency_; }
  std::span<const BlockId> blocks() const { return blocks_; }

 private:
  Residency residency_;
  std::unique_ptr<Backend> backend_;
  std::uint64_t lossy_experts_ = 0;
  std::vector<BlockId> blocks_ = std::vector<BlockId>(2);
};

inline std::unique_ptr<TransferQueue> testing_queue(TestingQueue::Control& control) {
  return std::make_unique<TestingQueue>(control);
}

}  // namespace sirocco::test
