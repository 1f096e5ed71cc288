#include "engine/evaluate.h"

#include <algorithm>
#include <numeric>

#include "engine/gguf/mapping_guard.h"

namespace sirocco {

Result<Evaluation> Evaluation::create(std::shared_ptr<const Model> model, const EvaluateOptions& options) {
  const ModelSpec& spec = model->spec();
  if (options.context == 0 || options.context > spec.context)
    return fail(ErrorCode::context_overflow, "{} tokens were asked for, the model holds 1 to {}", options.context,
                spec.context);
  Evaluation evaluation;
  BackendOptions backend;
  backend.backend = options.backend;
  backend.isa = options.isa;
  backend.threads = options.threads;
  backend.kv_type = options.kv_type;
  backend.lossy = options.lossy;
  backend.limits = {.rows = options.rows_per_step, .logit_rows = options.rows_per_step, .context = options.context};
  backend.kv_blocks = (options.context + backend.kv_block_tokens - 1) / backend.kv_block_tokens;
  SIROCCO_TRY(evaluation.residency_, make_residency(model, {.slots = options.slots, .queue = nullptr}));
  SIROCCO_TRY(evaluation.backend_, make_backend(evaluation.residency_.model, *evaluation.residency_.experts, backend));
  evaluation.blocks_.resize(backend.kv_blocks);
  std::iota(evaluation.blocks_.begin(), evaluation.blocks_.end(), 0U);
  evaluation.logits_.resize(std::size_t{options.rows_per_step} * spec.vocabulary);
  evaluation.rows_per_step_ = options.rows_per_step;
  evaluation.context_ = options.context;
  evaluation.model_ = std::move(model);
  return evaluation;
}

Result<void> Evaluation::extend(std::span<const TokenId> tokens, bool all,
                                const std::function<void(std::uint32_t, std::span<const float>)>& on_logits) {
  const std::size_t vocabulary = model_->spec().vocabulary;
  if (position_ + tokens.size() > context_)
    return fail(ErrorCode::context_overflow, "{} tokens at position {}: there is room for {}", tokens.size(), position_,
                context_);
  for (const TokenId token : tokens)
    if (token < 0 || static_cast<std::size_t>(token) >= vocabulary)
      return fail(ErrorCode::invalid_argument, "token {} is not in the vocabulary of {}", token, vocabulary);
  while (!tokens.empty()) {
    const std::size_t rows = std::min<std::size_t>(tokens.size(), rows_per_step_);
    const bool last = rows == tokens.size();
    const StepSequence sequence = {.tokens = tokens.first(rows),
                                   .position = position_,
                                   .block_table = blocks_,
                                   .logits = all    ? WantLogits::all
                                             : last ? WantLogits::last
                                                    : WantLogits::none};
    const Step step = {.sequences = std::span(&sequence, 1)};
    const std::span<float> logits = std::span(logits_).first(step.logit_rows() * vocabulary);
    SIROCCO_CHECK(backend_->step_all(step, logits));
    if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
    const std::size_t first = rows - step.logit_rows();
    for (std::size_t row = first; row < rows; ++row)
      on_logits(position_ + static_cast<std::uint32_t>(row), logits.subspan((row - first) * vocabulary, vocabulary));
    position_ += static_cast<std::uint32_t>(rows);
    tokens = tokens.subspan(rows);
  }
  return {};
}

}  // namespace sirocco
