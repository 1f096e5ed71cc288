#include "engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "engine/base/cgroup.h"
#include "engine/experts/hot_set.h"
#include "engine/gguf/mapping_guard.h"
#include "engine/recent_speed.h"
#include "engine/running_request.h"
#include "engine/sched/scheduler.h"

namespace sirocco {

namespace {

constexpr std::uint64_t kLeastReserve = 64 * MiB;
constexpr std::chrono::milliseconds kWatchInterval(500);  // of the memory, where experts have slots
constexpr std::chrono::milliseconds kPumpInterval(2);     // of reading experts in the background: a few of them at once

}  // namespace

// Everything under `mutex` is shared; the rest belongs to the engine thread. The lock is never held during a step.
struct Engine::State {
  EngineParts parts;
  EventSink sink;
  FailureSink on_failure;
  std::size_t longest_token = 0;  // bytes, as the file writes it

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::unique_ptr<RunningRequest>> queued;  // submitted, not yet running
  std::unordered_set<RequestId> cancelled;             // asked for since the last step
  bool closing = false;
  RequestId next_id = 1;
  EngineStatus shown;  // as of the last step

  BlockPool blocks;
  std::vector<std::unique_ptr<RunningRequest>> running;  // in order of arrival
  EngineStatus counters;                                 // copied to `shown` after each step
  RecentSpeed prefill_speed;
  RecentSpeed decode_speed;
  std::vector<SequenceState> states;
  std::vector<StepShare> shares;
  std::vector<StepSequence> sequences;
  StepReport report;          // of the last step
  std::vector<float> logits;  // [max_running, vocabulary]
  std::size_t planned_slots = 0;
  Clock::time_point watched;  // when the memory was last looked at
  std::thread thread;

  State(EngineParts p, EventSink s, FailureSink f)
      : parts(std::move(p)),
        sink(std::move(s)),
        on_failure(std::move(f)),
        blocks(parts.kv_blocks, parts.kv_block_tokens),
        logits(std::size_t{parts.max_running} * parts.tokenizer->vocabulary_size()) {
    assert(parts.context <= std::uint64_t{parts.kv_blocks} * parts.kv_block_tokens);
    for (std::size_t id = 0; id < parts.tokenizer->vocabulary_size(); ++id)
      longest_token = std::max(longest_token, parts.tokenizer->token(static_cast<TokenId>(id)).size());
    states.reserve(parts.max_running);
    shares.reserve(parts.max_running);
    sequences.reserve(parts.max_running);
    report.lossy_experts.reserve(parts.max_running);
    counters.kv_blocks = blocks.total();
    counters.kv_blocks_free = blocks.available();
    shown = counters;
  }

  Result<void> check_text_bytes(const Prompt& prompt) const;

  void loop();
  void watch_memory();
  bool wait_for_work();
  void admit();
  void drop_cancelled();
  Result<void> take_step();
  void after_row(RunningRequest& request, std::span<float> row);
  void end(RunningRequest& request, Event&& event);
  void end_all(const Error& error);
  void fail(const Error& error);
  void publish();
};

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() {
  close();
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options, EventSink sink, FailureSink on_failure) {
  EngineParts parts;
  SIROCCO_TRY(parts.model, Model::open(options.model));
  const Model& model = *parts.model;
  const std::string where = options.model.filename().string();
  auto tokenizer = Tokenizer::from_metadata(model.file().metadata());
  if (!tokenizer) return fail(tokenizer.error().at(where));
  parts.tokenizer = *std::move(tokenizer);
  if (parts.tokenizer->vocabulary_size() != model.spec().vocabulary)
    return fail(ErrorCode::corrupt, "{}: the tokenizer has {} tokens, token_embd.weight {} rows", where,
                parts.tokenizer->vocabulary_size(), model.spec().vocabulary);
  auto chat = ChatFormat::from_metadata(model.file().metadata(), parts.tokenizer);
  if (chat) {
    parts.chat = *std::move(chat);
  } else {
    parts.chat_error = chat.error().at(where);
  }
  SIROCCO_TRY(EnginePlan plan, plan_engine(parts.model, options));
  parts.plan = std::move(plan.memory);
  SIROCCO_TRY(Residency residency, make_residency(parts.model, {.slots = plan.residency.slots,
                                                                .policy = options.eviction,
                                                                .foresight = options.foresight,
                                                                .queue = nullptr}));
  parts.model = std::move(residency.model);
  parts.experts = std::move(residency.experts);
  parts.slotted = residency.slotted;
  parts.degraded = std::move(residency.degraded);
  if (parts.slotted != nullptr)
    for (std::string& reason : lossy_reasons(options.lossy)) parts.degraded.push_back(std::move(reason));
  // A budget that was given is kept unless memory really runs out.
  parts.memory_reserve =
      options.memory_budget == 0 ? options.memory_headroom : std::min(options.memory_headroom, kLeastReserve);
  if (parts.slotted != nullptr && !options.hot_set.empty()) {
    if (const auto hot = load_hot_set(options.hot_set, *parts.model)) {
      parts.slotted->preload(*hot);
    } else {
      parts.warnings.push_back(hot.error().message());
    }
  }
  SIROCCO_TRY(parts.backend, make_backend(parts.model, *parts.experts, plan.backend));
  parts.context = plan.backend.limits.context;
  parts.kv_blocks = plan.backend.kv_blocks;
  parts.kv_block_tokens = plan.backend.kv_block_tokens;
  parts.max_rows_per_step = plan.backend.limits.rows;
  parts.max_running = options.max_running;
  parts.max_queued = options.max_queued;
  return start(std::move(parts), std::move(sink), std::move(on_failure));
}

std::unique_ptr<Engine> Engine::start(EngineParts parts, EventSink sink, FailureSink on_failure) {
  auto state = std::make_unique<State>(std::move(parts), std::move(sink), std::move(on_failure));
  state->thread = std::thread([s = state.get()] {
    pthread_setname_np(pthread_self(), "engine");
    s->loop();
  });
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

Result<std::vector<TokenId>> Engine::tokenize(const Prompt& prompt) const {
  const EngineParts& parts = state_->parts;
  if (const auto* conversation = std::get_if<Conversation>(&prompt)) {
    if (!parts.chat) return fail(*parts.chat_error);
    return parts.chat->encode(conversation->messages, conversation->tools);
  }
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    std::vector<TokenId> ids = parts.tokenizer->encode(text->text, text->special);
    const std::optional<TokenId> bos = parts.tokenizer->add_bos() ? parts.tokenizer->bos() : std::nullopt;
    if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
    return ids;
  }
  const auto& ids = std::get<std::vector<TokenId>>(prompt);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= parts.tokenizer->vocabulary_size())
      return fail(ErrorCode::invalid_argument, "token {} at position {} is not in the vocabulary of {}", ids[i], i,
                  parts.tokenizer->vocabulary_size());
  return ids;
}

// Tokenising takes time by the byte. No token stands for more of them than the longest has, so that a text which cannot
// fit whatever its tokens are need not be read.
Result<void> Engine::State::check_text_bytes(const Prompt& prompt) const {
  std::size_t bytes = 0;
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) bytes = text->text.size();
  if (const auto* conversation = std::get_if<Conversation>(&prompt)) {
    for (const ChatMessage& message : conversation->messages) bytes += message.content.size();
  }
  if (bytes <= parts.context * longest_token) return {};
  return sirocco::fail(ErrorCode::context_overflow,
                       "the prompt has {} bytes, more than the context of {} tokens can hold", bytes, parts.context);
}

Result<Submitted> Engine::submit(const GenerateRequest& request,
                                 const std::function<void(const Submitted&)>& announce) {
  State& s = *state_;
  const EngineParts& parts = s.parts;
  SIROCCO_CHECK(request.sampling.validate(parts.tokenizer->vocabulary_size()));
  SIROCCO_CHECK(s.check_text_bytes(request.prompt));
  SIROCCO_TRY(std::vector<TokenId> prompt, tokenize(request.prompt));
  if (prompt.empty()) return fail(ErrorCode::invalid_argument, "the prompt is empty");
  if (prompt.size() >= parts.context)
    return fail(ErrorCode::context_overflow, "the prompt has {} tokens, the context holds {} with the answer",
                prompt.size(), parts.context);
  auto entry = std::make_unique<RunningRequest>(parts, request, std::move(prompt));

  const std::lock_guard lock(s.mutex);
  if (s.closing) return fail(ErrorCode::shutting_down, "the engine is shutting down");
  if (s.shown.failure) return fail(*s.shown.failure);
  if (s.queued.size() >= parts.max_queued)
    return fail(ErrorCode::busy, "{} requests are waiting, the most that may (engine.max_queued); try again later",
                s.queued.size());
  entry->id = s.next_id++;
  const Submitted submitted = {.id = entry->id,
                               .prompt_tokens = entry->prompt_tokens(),
                               .queue_position = static_cast<std::uint32_t>(s.queued.size())};
  if (announce) announce(submitted);
  s.queued.push_back(std::move(entry));
  s.wake.notify_one();
  return submitted;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(state_->mutex);
  state_->cancelled.insert(id);
  state_->wake.notify_one();
}

void Engine::close() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
    state_->wake.notify_one();
  }
  if (state_->thread.joinable()) state_->thread.join();
}

Result<void> Engine::save_hot_set(const std::filesystem::path& file) const {
  const EngineParts& parts = state_->parts;
  assert(!state_->thread.joinable());
  if (parts.slotted == nullptr) return {};
  return sirocco::save_hot_set(file, *parts.model, parts.slotted->hot_set());
}

EngineStatus Engine::status() const {
  const std::lock_guard lock(state_->mutex);
  EngineStatus status = state_->shown;
  for (const auto& request : state_->queued) status.requests.push_back(request->status(false));
  return status;
}

const EngineParts& Engine::parts() const {
  return state_->parts;
}

void Engine::State::loop() {
  if (parts.slotted != nullptr) planned_slots = parts.slotted->slots();
  while (wait_for_work()) {
    watch_memory();
    drop_cancelled();
    admit();
    if (running.empty()) {
      publish();
      continue;
    }
    const auto stepped = take_step();
    if (const auto lost = lost_mapping()) {
      // Zeros stand where weights were: whatever was computed since is void.
      fail(Error(ErrorCode::io, *lost));
    } else if (!stepped) {
      end_all(stepped.error());
    }
    publish();
  }
  end_all(Error(ErrorCode::shutting_down, "the daemon is shutting down"));
  publish();
}

// Others may need memory that experts have, at any time; they get it within a second.
void Engine::State::watch_memory() {
  if (parts.slotted == nullptr || Clock::now() - watched < kWatchInterval) return;
  watched = Clock::now();
  const std::size_t now = parts.slotted->slots();
  const std::size_t wanted =
      slots_for(memory_status().free(), parts.memory_reserve, parts.slotted->slot_bytes(), now, planned_slots);
  if (wanted != now) parts.slotted->set_slots(wanted);
}

// False when the engine is to stop.
bool Engine::State::wait_for_work() {
  const auto has_work = [this] { return closing || !cancelled.empty() || !queued.empty() || !running.empty(); };
  std::unique_lock lock(mutex);
  while (!has_work()) {
    lock.unlock();
    const bool preloading = parts.slotted != nullptr && parts.slotted->pump();
    lock.lock();
    if (parts.slotted == nullptr) {
      wake.wait(lock, has_work);
    } else if (!wake.wait_for(lock, preloading ? kPumpInterval : kWatchInterval, has_work)) {
      lock.unlock();
      watch_memory();
      lock.lock();
    }
  }
  return !closing;
}

void Engine::State::drop_cancelled() {
  std::unordered_set<RequestId> asked;
  std::vector<std::unique_ptr<RunningRequest>> dropped;
  {
    const std::lock_guard lock(mutex);
    asked.swap(cancelled);
    if (asked.empty()) return;
    for (auto& request : queued)
      if (asked.contains(request->id)) dropped.push_back(std::move(request));
    std::erase(queued, nullptr);
  }
  for (auto& request : running)
    if (asked.contains(request->id)) dropped.push_back(std::move(request));
  std::erase(running, nullptr);
  for (const auto& request : dropped) {
    std::string held = request->held_text();
    if (!held.empty()) sink(request->id, TokensEvent{.ids = {}, .text = std::move(held)});
    end(*request, request->done(FinishReason::cancelled, {}));
  }
}

// Waiting requests start in order of arrival as soon as there is a place and there are blocks for the longest they can
// get. Whoever asks meanwhile finds each in one of the two lists.
void Engine::State::admit() {
  const std::lock_guard lock(mutex);
  while (!queued.empty() && running.size() < parts.max_running) {
    auto taken = blocks.take(queued.front()->longest());
    if (!taken) return;
    queued.front()->start(*std::move(taken));
    shown.requests.push_back(queued.front()->status(true));
    running.push_back(std::move(queued.front()));
    queued.pop_front();
  }
}

Result<void> Engine::State::take_step() {
  states.clear();
  for (const auto& request : running) states.push_back(request->state());
  plan_step(states, parts.max_rows_per_step, shares);
  sequences.clear();
  std::uint32_t prompt_rows = 0;
  std::uint32_t rows = 0;
  for (const StepShare& share : shares) {
    sequences.push_back(running[share.sequence]->rows(share.rows));
    rows += share.rows;
    prompt_rows += states[share.sequence].decoding ? 0 : share.rows;
  }
  const Step step = {.sequences = sequences};
  const std::size_t vocabulary = parts.tokenizer->vocabulary_size();
  const auto began = Clock::now();
  SIROCCO_CHECK(parts.backend->step(step, std::span(logits).first(step.logit_rows() * vocabulary), report));
  if (lost_mapping()) return {};
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  counters.prefill_tokens += prompt_rows;
  counters.decode_tokens += rows - prompt_rows;
  prefill_speed.add(prompt_rows, seconds * prompt_rows / rows);
  decode_speed.add(rows - prompt_rows, seconds * (rows - prompt_rows) / rows);

  std::size_t row = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    RunningRequest& request = *running[shares[i].sequence];
    request.advance(shares[i].rows);
    if (!report.lossy_experts.empty()) request.add_lossy(report.lossy_experts[i]);
    const std::size_t here = row;
    if (sequences[i].logits != WantLogits::none) ++row;
    const auto failed = std::find_if(report.failures.begin(), report.failures.end(),
                                     [&](const SequenceFailure& failure) { return failure.sequence == i; });
    if (failed != report.failures.end()) {
      end(request, failed->error);
    } else if (sequences[i].logits != WantLogits::none) {
      after_row(request, std::span(logits).subspan(here * vocabulary, vocabulary));
    }
  }
  std::erase_if(running, [](const auto& request) { return request->ended; });
  return {};
}

void Engine::State::after_row(RunningRequest& request, std::span<float> row) {
  Result<RunningRequest::Output> output = request.sample(row);
  if (!output) return end(request, output.error());
  if (!output->tokens.text.empty() || !output->tokens.ids.empty()) sink(request.id, std::move(output->tokens));
  if (output->done) end(request, *std::move(output->done));
}

void Engine::State::end(RunningRequest& request, Event&& event) {
  blocks.give_back(request.take_blocks());
  request.ended = true;
  {
    // Who has read the ending does not find the request among those that run.
    const std::lock_guard lock(mutex);
    std::erase_if(shown.requests, [&](const EngineStatus::Request& r) { return r.id == request.id; });
    shown.kv_blocks_free = blocks.available();
  }
  sink(request.id, std::move(event));
}

void Engine::State::end_all(const Error& error) {
  std::deque<std::unique_ptr<RunningRequest>> waiting;
  {
    const std::lock_guard lock(mutex);
    // A step that failed ends the requests that were in it; those that wait go on, unless the engine cannot.
    if (closing || counters.failure) waiting.swap(queued);
    shown.failure = counters.failure;
  }
  for (const auto& request : running)
    if (!request->ended) end(*request, error);
  running.clear();
  for (const auto& request : waiting) end(*request, error);
}

// Of the whole engine. Told last: who hears of it may stop everything, and the requests are to end with the reason.
void Engine::State::fail(const Error& error) {
  counters.failure = error;
  end_all(error);
  if (on_failure) on_failure(error);
}

void Engine::State::publish() {
  counters.kv_blocks_free = blocks.available();
  counters.prefill_tokens_per_s = prefill_speed.tokens_per_s();
  counters.decode_tokens_per_s = decode_speed.tokens_per_s();
  const std::lock_guard lock(mutex);
  shown = counters;
  for (const auto& request : running) shown.requests.push_back(request->status(true));
}

}  // namespace sirocco
