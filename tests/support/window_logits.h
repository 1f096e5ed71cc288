// Logits of a model with a sliding window, of steps whose block table has nothing behind the window.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "engine/experts/mapped_experts.h"
#include "engine/kv/block_pool.h"
#include "tests/support/golden_models.h"

namespace sirocco::test {

inline constexpr std::uint32_t kWindowTexts = 96;  // tokens that they have at most

// Of all tokens, computed in steps of `rows`; with the whole table, or as the KV cache leaves it: kNoBlock in front.
inline std::vector<float> window_logits(const std::shared_ptr<const Model>& model, BackendOptions options,
                                        std::span<const TokenId> tokens, std::uint32_t rows, bool whole) {
  const std::size_t vocabulary = model->spec().vocabulary;
  options.limits = {.rows = rows, .logit_rows = rows, .context = kWindowTexts};
  options.kv_blocks = kWindowTexts / options.kv_block_tokens;
  MappedExperts experts(model);
  const auto backend = make_backend(model, experts, options).value();
  std::vector<BlockId> table;
  for (std::uint32_t i = options.kv_blocks; i > 0; --i) table.push_back(i - 1);
  std::vector<float> logits(tokens.size() * vocabulary);
  for (std::uint32_t position = 0; position < tokens.size(); position += rows) {
    const std::uint32_t seen = position + 1 - std::min(position + 1, model->spec().window);
    if (!whole) std::fill_n(table.begin(), seen / options.kv_block_tokens, kNoBlock);
    const std::size_t count = std::min<std::size_t>(rows, tokens.size() - position);
    const StepSequence sequence = {.tokens = tokens.subspan(position, count),
                                   .position = position,
                                   .block_table = table,
                                   .logits = WantLogits::all};
    const auto done = backend->step_all({.sequences = std::span(&sequence, 1)},
                                        std::span(logits).subspan(position * vocabulary, count * vocabulary));
    EXPECT_TRUE(done) << (done ? "" : done.error().message());
  }
  return logits;
}

}  // namespace sirocco::test
