// Teacher-forced evaluation: the logits of given tokens, without an Engine around it. What `sirocco logits`,
// `sirocco bench` and the golden tests stand on.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "engine/backend/backend.h"
#include "engine/base/result.h"
#include "engine/experts/residency.h"
#include "engine/model/model.h"

namespace sirocco {

struct EvaluateOptions {
  std::string backend = "auto";
  std::string isa = "auto";
  std::size_t threads = 0;
  std::uint32_t context = 0;  // positions to have room for
  std::uint32_t rows_per_step = 64;
  TensorType kv_type = TensorType::f16;
  std::size_t slots = 0;  // for experts; 0: all are in memory
  LossyOptions lossy = {};
};

// One sequence on a backend of its own. Not thread-safe.
class Evaluation {
 public:
  static Result<Evaluation> create(std::shared_ptr<const Model> model, const EvaluateOptions& options);

  // Computes the next tokens of the sequence, in steps of rows_per_step. on_logits(position, logits of [vocabulary]
  // f32) is called for every token if `all`, else for the last.
  Result<void> extend(std::span<const TokenId> tokens, bool all,
                      const std::function<void(std::uint32_t, std::span<const float>)>& on_logits);

  void rewind(std::uint32_t position) { position_ = position; }  // forget what is at and after that position
  std::uint32_t position() const { return position_; }
  const Backend& backend() const { return *backend_; }
  ExpertCounters counters() const { return residency_.slotted ? residency_.slotted->counters() : ExpertCounters(); }

 private:
  Evaluation() = default;

  std::shared_ptr<const Model> model_;
  Residency residency_;
  std::unique_ptr<Backend> backend_;
  std::vector<BlockId> blocks_;
  std::vector<float> logits_;  // [rows_per_step, vocabulary]
  std::uint32_t rows_per_step_ = 0;
  std::uint32_t context_ = 0;
  std::uint32_t position_ = 0;
};

}  // namespace sirocco
