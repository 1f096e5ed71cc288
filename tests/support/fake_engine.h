// An Engine without a model: a vocabulary of 32 tokens whose text is one letter each, and a backend whose logits follow
// from the tokens of the sequence alone, so that what a request must answer is known.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>

#include "engine/engine.h"

namespace sirocco::test {

inline constexpr std::size_t kVocabulary = 32;
inline constexpr TokenId kEnd = 2;  // the end token

// Tokens 0 to 25 are "a" to "z" except for kEnd, the rest "A" to "F".
class FakeTokenizer : public Tokenizer {
 public:
  FakeTokenizer() {
    for (std::size_t i = 0; i < kVocabulary; ++i) {
      tokens_.emplace_back(1, static_cast<char>(i < 26 ? 'a' + i : 'A' + i - 26));
      kinds_.push_back(static_cast<TokenId>(i) == kEnd ? TokenKind::control : TokenKind::normal);
    }
    ends_ = {kEnd};
  }
  std::vector<TokenId> encode(std::string_view text, bool) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(c >= 'a' ? c - 'a' : c - 'A' + 26);
    return ids;
  }
  std::string_view piece(TokenId id, bool special) const override { return id == kEnd && !special ? "" : token(id); }
  bool strips_leading_space() const override { return false; }
  std::string_view kind() const override { return "fake"; }
};

// The token that follows: a function of the last one. kEnd follows 'y', which follows nothing.
inline TokenId next_token(TokenId last) {
  if (last == 'y' - 'a') return kEnd;
  const TokenId next = (last * 7 + 3) % static_cast<TokenId>(kVocabulary);
  return next == kEnd || next == 'y' - 'a' ? next + 1 : next;
}

class FakeBackend final : public Backend {
 public:
  static constexpr std::uint32_t kBlockTokens = 4;

  // The answer follows from all tokens of the text, read from the blocks, instead of the last one alone.
  bool remembers = false;
  std::uint32_t window = 0;  // of the last so many tokens; 0: of all
  // Called at the start of each step, on the engine thread; may wait, fail or spoil.
  std::function<Result<void>(const Step&)> before;
  std::function<void(std::span<float>)> spoil;
  bool blocks_fail = false;  // to be copied, exported and imported, as on a device that has failed
  std::function<void(const Step&, StepReport&)> tell;  // beside the logits

  std::string_view name() const override { return "fake"; }
  std::string_view isa() const override { return "none"; }
  std::size_t threads() const override { return 1; }

  Result<void> step(const Step& step, std::span<float> logits, StepReport& report) override {
    report = {};
    if (tell) tell(step, report);
    if (before) SIROCCO_CHECK(before(step));
    const std::lock_guard lock(mutex_);
    std::size_t row = 0;
    for (const StepSequence& s : step.sequences) {
      for (std::size_t i = 0; i < s.tokens.size(); ++i)
        slot(s, s.position + static_cast<std::uint32_t>(i)) = s.tokens[i];
      rows_ += s.tokens.size();
      if (s.logits == WantLogits::none) continue;
      const std::span<float> out = logits.subspan(row++ * kVocabulary, kVocabulary);
      std::fill(out.begin(), out.end(), 0.0F);
      out[static_cast<std::size_t>(answer(s))] = 1;
    }
    if (spoil) spoil(logits);
    return {};
  }

  std::size_t block_bytes() const override { return sizeof(Block); }
  Result<void> copy_block(BlockId from, BlockId to) override {
    if (blocks_fail) return fail(ErrorCode::io, "the device has failed");
    const std::lock_guard lock(mutex_);
    blocks_[to] = blocks_[from];
    return {};
  }
  Result<void> export_block(BlockId block, std::span<std::byte> bytes) const override {
    if (blocks_fail) return fail(ErrorCode::io, "the device has failed");
    const std::lock_guard lock(mutex_);
    std::memcpy(bytes.data(), &blocks_.at(block), sizeof(Block));
    return {};
  }
  Result<void> import_block(BlockId block, std::span<const std::byte> bytes) override {
    if (blocks_fail) return fail(ErrorCode::io, "the device has failed");
    const std::lock_guard lock(mutex_);
    std::memcpy(&blocks_[block], bytes.data(), sizeof(Block));
    return {};
  }

  std::uint64_t rows() const {  // computed so far
    const std::lock_guard lock(mutex_);
    return rows_;
  }

 private:
  using Block = std::array<TokenId, kBlockTokens>;

  TokenId& slot(const StepSequence& s, std::uint32_t position) {
    const BlockId block = s.block_table[position / kBlockTokens];
    if (block == kNoBlock) std::abort();  // behind the window
    return blocks_[block][position % kBlockTokens];
  }
  TokenId answer(const StepSequence& s) {
    const auto last = s.position + static_cast<std::uint32_t>(s.tokens.size()) - 1;
    if (!remembers) return next_token(slot(s, last));
    std::uint64_t hash = 1;
    for (std::uint32_t p = window == 0 || last < window ? 0 : last - window + 1; p <= last; ++p)
      hash = (hash ^ static_cast<std::uint64_t>(slot(s, p))) * 0x9E3779B97F4A7C15U + 7;
    const auto token = static_cast<TokenId>((hash >> 32) % kVocabulary);
    return token == kEnd ? kEnd + 1 : token;
  }

  mutable std::mutex mutex_;
  std::map<BlockId, Block> blocks_;
  std::uint64_t rows_ = 0;
};

// Collects what the engine says; wait() returns when a request has ended.
class Events {
 public:
  struct Answer {
    std::vector<TokenId> ids;
    std::string text;
    std::optional<DoneEvent> done;
    std::optional<Error> error;
    int endings = 0;
  };

  EventSink sink() {
    return [this](RequestId id, Event&& event) {
      const std::lock_guard lock(mutex_);
      Answer& answer = answers_[id];
      if (auto* tokens = std::get_if<TokensEvent>(&event)) {
        answer.ids.insert(answer.ids.end(), tokens->ids.begin(), tokens->ids.end());
        answer.text += tokens->text;
      } else {
        ++answer.endings;
        if (auto* done = std::get_if<DoneEvent>(&event)) answer.done = *done;
        if (auto* error = std::get_if<Error>(&event)) answer.error = *error;
        ended_.notify_all();
      }
    };
  }
  Answer wait(RequestId id) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return answers_[id].endings > 0; });
    return answers_[id];
  }
  Answer now(RequestId id) {
    const std::lock_guard lock(mutex_);
    return answers_[id];
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::map<RequestId, Answer> answers_;
};

struct FakeEngine {
  Events events;
  FakeBackend* backend = nullptr;  // owned by the engine; set its hooks before the first submit
  std::unique_ptr<Engine> engine;

  // `sink` in place of `events`, where someone else listens.
  explicit FakeEngine(const std::function<void(EngineParts&)>& change = {}, EventSink sink = {},
                      FailureSink on_failure = {}) {
    EngineParts parts;
    parts.tokenizer = std::make_shared<FakeTokenizer>();
    parts.chat_error = Error(ErrorCode::unsupported, "the fake model has no chat format");
    auto fake = std::make_unique<FakeBackend>();
    backend = fake.get();
    parts.backend = std::move(fake);
    parts.context = 64;
    parts.kv_blocks = 64;
    parts.kv_block_tokens = FakeBackend::kBlockTokens;
    parts.max_rows_per_step = 8;
    parts.max_running = 4;
    parts.max_queued = 8;
    if (change) change(parts);
    engine = Engine::start(std::move(parts), sink ? std::move(sink) : events.sink(), std::move(on_failure));
  }
};

// A gate that the engine thread passes only when told: steps are taken one at a time.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_ || tickets_ > 0; });
    if (!open_) --tickets_;
    ++passed_;
    changed_.notify_all();
  }
  void let_through(int steps) {
    const std::lock_guard lock(mutex_);
    tickets_ += steps;
    changed_.notify_all();
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait_for_arrivals(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  int arrivals() {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int tickets_ = 0;
  int waiting_ = 0;
  int passed_ = 0;
  bool open_ = false;
};

}  // namespace sirocco::test
