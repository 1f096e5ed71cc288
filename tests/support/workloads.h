// Requests as many clients would send them, and an engine of a golden model that answers them.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/experts/mapped_experts.h"
#include "tests/support/fake_engine.h"
#include "tests/support/source_dir.h"

namespace sirocco::test {

inline GenerateRequest ask(std::vector<TokenId> prompt, std::uint32_t max_tokens, std::uint32_t uid = 0) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.uid = uid;
  return request;
}

// Texts that begin alike, and end in the middle of blocks and at their ends.
inline std::vector<GenerateRequest> random_requests(std::mt19937& random, std::size_t count, TokenId vocabulary,
                                                    std::size_t longest) {
  std::vector<std::vector<TokenId>> texts(1);
  std::vector<GenerateRequest> requests;
  while (requests.size() < count) {
    std::vector<TokenId> text = texts[random() % texts.size()];
    text.resize(std::min(text.size(), random() % longest));
    for (std::size_t more = 1 + random() % 9; more > 0 && text.size() < longest; --more)
      text.push_back(static_cast<TokenId>(3 + random() % static_cast<std::uint32_t>(vocabulary - 3)));
    texts.push_back(text);
    requests.push_back(
        ask(text, static_cast<std::uint32_t>(1 + random() % 12), static_cast<std::uint32_t>(random() % 3)));
    requests.back().sampling.seed = random();
    if (random() % 2 == 0) requests.back().sampling.temperature = 1;
  }
  return requests;
}

// A golden model, with room for a few texts of up to 160 tokens.
struct RealEngine {
  Events events;
  std::unique_ptr<Engine> engine;

  explicit RealEngine(const std::string& name, TensorType kv_type, CacheShare share,
                      const std::function<void(EngineParts&)>& change = {}) {
    EngineParts parts;
    parts.model = Model::open(golden_dir() / "model" / name).value();
    parts.tokenizer = Tokenizer::from_metadata(parts.model->file().metadata()).value();
    parts.chat_error = Error(ErrorCode::unsupported, "the tiny model has no chat format");
    Residency residency = make_residency(parts.model, {.slots = 0, .queue = nullptr}).value();
    parts.model = residency.model;
    parts.experts = std::move(residency.experts);
    parts.backend = make_backend(parts.model, *parts.experts,
                                 {.threads = 2,
                                  .limits = {.rows = 16, .logit_rows = 16, .context = 160},
                                  .kv_blocks = 24,
                                  .kv_type = kv_type})
                        .value();
    parts.context = 160;
    parts.kv_blocks = 24;
    parts.max_rows_per_step = 16;
    parts.max_queued = parts.max_queued_per_uid = 100;
    parts.cache_share = share;
    if (change) change(parts);
    engine = Engine::start(std::move(parts), events.sink(), {});
  }
};

}  // namespace sirocco::test
