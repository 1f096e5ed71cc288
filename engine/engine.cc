#include "engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/experts/slot_governor.h"
#include "engine/gguf/mapping_guard.h"
#include "engine/kv_swap.h"
#include "engine/prompt_encoder.h"
#include "engine/recent_speed.h"
#include "engine/request_table.h"
#include "engine/step_meter.h"
#include "engine/weight_memory.h"

namespace sirocco {

namespace {

constexpr std::chrono::seconds kSilentDisk(2);         // for which it is said to be
constexpr std::chrono::milliseconds kPumpInterval(2);  // of reading experts in the background: a few of them at once

}  // namespace

// Everything under `mutex` is shared; the rest belongs to the engine thread. The lock is never held during a step.
struct Engine::State {
  EngineParts parts;
  EventSink sink;
  FailureSink on_failure;
  const PromptEncoder encoder;

  mutable std::mutex mutex;
  std::condition_variable wake;
  KvCache kv;
  Sessions sessions;
  KvSwap swap;
  RequestTable requests;
  bool closing = false;
  EngineStatus shown;  // as of the last step
  MemoryPlan plan;
  bool pump = false;  // there may be something to do for SlottedExperts
  std::chrono::milliseconds idle_after;
  bool released = false;                                                   // the memory of weights
  std::vector<std::function<void(const ReleasedMemory&)>> release_wanted;  // now
  Pace pace;
  bool hurry = false;  // somebody cannot wait until the engine has rested

  WeightMemory weights;
  StepMeter meter;
  RequestTable::Turn turn;
  EngineStatus counters;  // copied to `shown` after each step
  double duty = 1;        // of this turn
  Rest rest;
  RecentSpeed prefill_speed;
  RecentSpeed decode_speed;
  std::vector<StepSequence> sequences;
  StepReport report;  // of the last step
  std::atomic<std::uint64_t> pulse = 0;
  std::vector<float> logits;  // [max_running, vocabulary]
  std::thread thread;
  // Where experts have slots in the host's memory, in a device's; they end before the engine thread.
  std::unique_ptr<SlotGovernor> governor;
  std::unique_ptr<SlotGovernor> device_governor;

  State(EngineParts p, EventSink s, FailureSink f)
      : parts(std::move(p)),
        sink(std::move(s)),
        on_failure(std::move(f)),
        encoder(parts),
        kv(*parts.backend, parts.kv_blocks, parts.kv_block_tokens,
           {.tokens = parts.window, .rows = parts.max_rows_per_step}),
        sessions(mutex, kv, parts.cache_share, parts.sessions, parts.session_store.get()),
        swap(*parts.backend, mutex, std::move(parts.swap_file)),
        requests(parts, kv, swap),
        idle_after(parts.idle_after),
        weights(parts),
        meter(parts),
        logits(std::size_t{parts.max_running} * parts.tokenizer->vocabulary_size()) {
    assert(kv.most_blocks(parts.context) <= parts.kv_blocks);
    sequences.reserve(parts.max_running);
    plan = parts.plan;
    report.lossy_experts.reserve(parts.max_running);
    report.tokens.reserve(parts.max_running);
  }

  Result<Submitted> submit(std::unique_ptr<RunningRequest> entry, const GenerateRequest& request,
                           const std::function<void(const Submitted&)>& announce);
  std::vector<std::string> degraded() const;

  void loop();
  bool wait_for_work();
  void release_memory(std::unique_lock<std::mutex>& lock);
  void take_memory_back();
  void begin_turn();
  void move_in();
  Result<void> take_step();
  void share_prompt(RunningRequest& request);
  void after_row(RunningRequest& request, TokenId chosen, std::span<float> row);
  void end(RunningRequest& request, Event&& event);
  void tell_end(RunningRequest& request, Event&& event);
  void end_all(const Error& error);
  void fail(const Error& error);
  void publish();
};

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() {
  close();
}

std::unique_ptr<Engine> Engine::start(EngineParts parts, EventSink sink, FailureSink on_failure) {
  auto state = std::make_unique<State>(std::move(parts), std::move(sink), std::move(on_failure));
  state->thread = std::thread([s = state.get()] {
    pthread_setname_np(pthread_self(), "engine");
    s->loop();
  });
  const auto govern = [s = state.get()](ExpertSlots* slots, std::uint64_t reserve) -> std::unique_ptr<SlotGovernor> {
    if (slots == nullptr) return nullptr;
    return std::make_unique<SlotGovernor>(*slots, slots->slots(), reserve, [s] {
      const std::lock_guard lock(s->mutex);
      s->pump = true;
      s->wake.notify_one();
    });
  };
  state->governor = govern(state->parts.slotted, state->parts.memory_reserve);
  state->device_governor = govern(state->parts.backend->device_slots(), state->parts.device_reserve);
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

Result<std::vector<TokenId>> Engine::tokenize(const Prompt& prompt) const {
  return state_->encoder.tokenize(prompt);
}

Result<Submitted> Engine::submit(const GenerateRequest& request,
                                 const std::function<void(const Submitted&)>& announce) {
  State& s = *state_;
  SIROCCO_CHECK(request.sampling.validate(s.parts.tokenizer->vocabulary_size()));
  if (request.session.empty()) {
    SIROCCO_TRY(std::vector<TokenId> prompt, s.encoder.encode(request));
    return s.submit(std::make_unique<RunningRequest>(s.parts, request, std::move(prompt)), request, announce);
  }
  SIROCCO_TRY(SessionTurn turn, s.sessions.begin_turn(request.uid, request.session));
  auto prompt = s.encoder.encode(request, turn);
  if (!prompt) {
    s.sessions.abandon(turn.session);
    return fail(prompt.error().at("session " + request.session));
  }
  auto entry = std::make_unique<RunningRequest>(s.parts, request, *std::move(prompt));
  const std::uint64_t session = turn.session;
  entry->begin_turn(std::move(turn));
  auto submitted = s.submit(std::move(entry), request, announce);
  if (!submitted) s.sessions.abandon(session);
  return submitted;
}

Result<Submitted> Engine::State::submit(std::unique_ptr<RunningRequest> entry, const GenerateRequest& request,
                                        const std::function<void(const Submitted&)>& announce) {
  const std::lock_guard lock(mutex);
  if (closing) return sirocco::fail(ErrorCode::shutting_down, "the engine is shutting down");
  if (shown.failure) return sirocco::fail(*shown.failure);
  SIROCCO_TRY(const Submitted submitted, requests.add(std::move(entry), request));
  hurry = hurry || request.request_class == RequestClass::realtime;
  if (announce) announce(submitted);
  wake.notify_one();
  return submitted;
}

Sessions& Engine::sessions() {
  return state_->sessions;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(state_->mutex);
  state_->hurry = state_->hurry || state_->requests.contains(id);
  state_->requests.ask_to_end(id, FinishReason::cancelled);
  state_->wake.notify_one();
}

Result<void> Engine::set_budget(std::uint64_t bytes, std::function<void(const BudgetReport&)> done) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (s.closing) return fail(ErrorCode::shutting_down, "the engine is shutting down");
  if (s.governor == nullptr)
    return fail(
        ErrorCode::unsupported,
        "all of the model is in memory, mapped from its file, and the kernel takes back what it needs: a budget that "
        "is smaller takes a restart (memory.budget)");
  ResidencyPlan residency = s.parts.residency;
  SIROCCO_CHECK(replan_slots(s.plan, residency, bytes == 0 ? s.parts.plan.budget : bytes));
  const std::uint64_t reserve = bytes == 0 ? s.parts.memory_reserve : std::min(s.parts.memory_reserve, kLeastReserve);
  s.governor->set_plan(residency.slots, reserve, [&s, residency, budget = s.plan.budget, done = std::move(done)] {
    done({.budget = budget,
          .slots = s.parts.slotted->slots(),
          .planned_slots = residency.slots,
          .experts = residency.experts});
  });
  return {};
}

Result<void> Engine::set_device_budget(std::uint64_t bytes, std::function<void(const BudgetReport&)> done) {
  State& s = *state_;
  const auto device = s.parts.backend->device_state();
  const std::lock_guard lock(s.mutex);
  if (s.closing) return fail(ErrorCode::shutting_down, "the engine is shutting down");
  ExpertSlots* const slots = s.parts.backend->device_slots();
  if (s.device_governor == nullptr || !device)
    return fail(
        ErrorCode::unsupported,
        "no GPU holds some of the experts in slots of its own: a budget of its memory takes a restart (device.memory)");
  const std::uint64_t rest = device->arena - slots->slots() * slots->slot_bytes();
  const std::uint64_t least = rest + slots->least_slots() * slots->slot_bytes();
  if (bytes != 0 && bytes < least)
    return fail(ErrorCode::out_of_memory, "the GPU's memory: {} are not enough, the least is {}", format_bytes(bytes),
                format_bytes(least));
  std::size_t planned = slots->most_slots();
  if (bytes != 0 && (bytes - rest) / slots->slot_bytes() < planned)
    planned = (bytes - rest) / slots->slot_bytes() / slots->slots_at_once() * slots->slots_at_once();
  s.device_governor->set_plan(planned, s.parts.device_reserve, [slots, rest, planned, done = std::move(done)] {
    done({.budget = rest + planned * slots->slot_bytes(),
          .slots = slots->slots(),
          .planned_slots = planned,
          .experts = slots->experts()});
  });
  return {};
}

Result<void> Engine::release_memory(std::function<void(const ReleasedMemory&)> done) {
  const std::lock_guard lock(state_->mutex);
  if (state_->closing) return fail(ErrorCode::shutting_down, "the engine is shutting down");
  state_->release_wanted.push_back(std::move(done));
  state_->wake.notify_one();
  return {};
}

void Engine::set_idle_after(std::chrono::milliseconds idle_after) {
  const std::lock_guard lock(state_->mutex);
  state_->idle_after = idle_after;
  state_->wake.notify_one();
}

std::uint64_t Engine::pulse() const {
  return state_->pulse.load(std::memory_order_relaxed);
}

void Engine::ask_for_pulse() {
  const std::lock_guard lock(state_->mutex);
  state_->pump = true;
  state_->wake.notify_one();
}

void Engine::set_pace(Pace pace) {
  const std::lock_guard lock(state_->mutex);
  const bool faster = pace.duty > state_->pace.duty;
  state_->hurry = state_->hurry || faster;
  state_->pace = std::move(pace);
  if (faster) state_->wake.notify_one();
}

void Engine::number_requests_from(RequestId first) {
  const std::lock_guard lock(state_->mutex);
  state_->requests.number_from(first);
}

void Engine::close() {
  std::array<std::unique_ptr<SlotGovernor>, 2> governors;
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
    governors = {std::move(state_->governor), std::move(state_->device_governor)};
    state_->wake.notify_one();
  }
  for (auto& governor : governors) governor.reset();  // its thread takes the lock
  if (state_->thread.joinable()) state_->thread.join();
}

EngineStatus Engine::status() const {
  const std::lock_guard lock(state_->mutex);
  EngineStatus status = state_->shown;
  status.requests = state_->requests.status();
  status.plan = state_->plan;
  status.kv = state_->kv.counters();
  status.kv_swap = state_->swap.counters();
  status.sessions = state_->sessions.size();
  if (state_->governor) status.planned_slots = state_->governor->planned();
  if (state_->device_governor) status.planned_device_slots = state_->device_governor->planned();
  status.degraded = state_->degraded();
  status.memory_released = state_->released;
  status.pace = state_->pace;
  return status;
}

const EngineParts& Engine::parts() const {
  return state_->parts;
}

void Engine::State::loop() {
  while (wait_for_work()) {
    begin_turn();
    if (turn.rows.empty()) {
      publish();
      continue;
    }
    take_memory_back();
    const auto stepped = take_step();
    if (const auto lost = lost_mapping()) {
      // Zeros stand where weights were: whatever was computed since is void.
      fail(Error(ErrorCode::io, *lost));
    } else if (!stepped && stepped.error().code() == ErrorCode::device_failed) {
      fail(stepped.error());
    } else if (!stepped) {
      end_all(stepped.error());
    }
    publish();
  }
  end_all(Error(ErrorCode::shutting_down, "the daemon is shutting down"));
  publish();
  for (const auto& done : std::exchange(release_wanted, {})) done({});  // nobody asks any more
}

// What does not work as well as it should at this moment. With the lock held.
std::vector<std::string> Engine::State::degraded() const {
  std::vector<std::string> reasons = parts.degraded;
  if (!pace.reason.empty()) reasons.push_back(pace.reason);
  if (const std::optional<Error>& trouble = swap.trouble()) reasons.push_back(trouble->message());
  if (device_governor != nullptr && !released) {
    const std::size_t slots = parts.backend->device_slots()->slots();
    if (const std::size_t planned = device_governor->planned(); slots < planned)
      reasons.push_back(
          fmt::format("the GPU's memory is short: experts have {} of the {} slots planned there", slots, planned));
  }
  if (governor == nullptr) return reasons;
  const std::size_t slots = parts.slotted->slots();
  if (const std::size_t planned = governor->planned(); slots < planned && !released)
    reasons.push_back(fmt::format("memory is short: experts have {} of the {} slots planned", slots, planned));
  if (const std::uint64_t failed = parts.slotted->counters().failures; failed != 0)
    reasons.push_back(fmt::format("{} reads of experts failed: look at the disk (dmesg)", failed));
  if (const auto waiting = parts.slotted->waiting_for_disk(); waiting > kSilentDisk)
    reasons.push_back(fmt::format("the disk has not answered for {} s",
                                  std::chrono::duration_cast<std::chrono::seconds>(waiting).count()));
  return reasons;
}

// False when the engine is to stop. Gives the memory of weights back, if that is asked for or nobody has asked for
// anything in a while; and rests for as long as the pace says.
bool Engine::State::wait_for_work() {
  const auto has_work = [this] { return closing || !requests.empty(); };
  const auto idle_since = Clock::now();
  std::unique_lock lock(mutex);
  if (!release_wanted.empty()) release_memory(lock);
  pulse.fetch_add(1, std::memory_order_relaxed);
  while (!has_work()) {
    pulse.fetch_add(1, std::memory_order_relaxed);
    pump = false;
    const bool may_rest = idle_after.count() > 0 && !released;
    if (!release_wanted.empty() || (may_rest && Clock::now() >= idle_since + idle_after)) {
      release_memory(lock);
      continue;
    }
    lock.unlock();
    bool more = parts.slotted != nullptr && parts.slotted->pump();
    if (ExpertSlots* const device = parts.backend->device_slots(); device != nullptr) more = device->pump() || more;
    lock.lock();
    const auto before = idle_after;
    const auto woken = [&] { return pump || has_work() || !release_wanted.empty() || idle_after != before; };
    if (more) {
      wake.wait_for(lock, kPumpInterval, woken);
    } else if (may_rest) {
      wake.wait_until(lock, idle_since + idle_after, woken);
    } else {
      wake.wait(lock, woken);
    }
  }
  for (;;) {
    pulse.fetch_add(1, std::memory_order_relaxed);
    const auto until = std::min(rest.until(), requests.next_deadline());
    if (closing || hurry || Clock::now() >= until) return !closing;
    wake.wait_until(lock, until);
  }
}

// With the lock held, but for the time that it takes.
void Engine::State::release_memory(std::unique_lock<std::mutex>& lock) {
  const auto wanted = std::exchange(release_wanted, {});
  released = true;
  if (governor) governor->set_resting(true);
  if (device_governor) device_governor->set_resting(true);
  lock.unlock();
  const ReleasedMemory what = weights.release(!wanted.empty());
  for (const auto& done : wanted) done(what);
  lock.lock();
}

void Engine::State::take_memory_back() {
  const std::lock_guard lock(mutex);
  if (!released) return;
  released = false;
  if (governor) governor->set_resting(false);
  if (device_governor) device_governor->set_resting(false);
  weights.take_back();
}

// Ends what is to end, moves KV out and in; what starts has its blocks. Whoever asks meanwhile finds each request in
// the table, or has been told its ending.
void Engine::State::begin_turn() {
  {
    const std::lock_guard lock(mutex);
    requests.next(turn);
    hurry = false;
    duty = pace.duty;
    if (turn.moved_out.empty()) requests.take_blocks(turn);
  }
  if (!turn.moved_out.empty()) {
    for (RunningRequest* const request : turn.moved_out)
      swap.move_out(*request, kv.first_block(request->cached()), kv.blocks_for(request->cached()));
    const std::lock_guard lock(mutex);
    requests.take_blocks(turn);
  }
  for (RequestTable::Ending& ending : turn.endings) {
    if (ending.error) {
      tell_end(*ending.request, *std::move(ending.error));
      continue;
    }
    std::string held = ending.request->held_text();
    if (!held.empty()) sink(ending.request->id, TokensEvent{.ids = {}, .text = std::move(held)});
    tell_end(*ending.request, ending.request->done(*ending.reason, {}));
  }
  turn.endings.clear();
  move_in();
  swap.trim();
}

// What was moved out and goes on.
void Engine::State::move_in() {
  bool any = false;
  for (RequestTable::Rows& rows : turn.rows) {
    if (!rows.moves_in) continue;
    rows.restored = swap.move_in(*rows.request, rows.restored);
    any = true;
  }
  if (!any) return;
  const std::lock_guard lock(mutex);
  requests.go_on(turn);
}

Result<void> Engine::State::take_step() {
  sequences.clear();
  for (const RequestTable::Rows& rows : turn.rows) sequences.push_back(rows.request->rows(rows.rows));
  const Step step = {.sequences = sequences, .pulse = &pulse};
  const std::size_t vocabulary = parts.tokenizer->vocabulary_size();
  meter.begin();
  const auto began = Clock::now();
  SIROCCO_CHECK(parts.backend->step(step, std::span(logits).first(step.logit_rows() * vocabulary), report));
  if (lost_mapping()) return {};
  const auto ended = Clock::now();
  const double seconds = std::chrono::duration<double>(ended - began).count();
  rest.after_step(ended, seconds, duty);
  const double paced = seconds / duty;  // what requests have to reckon with
  const std::uint32_t rows = turn.prompt_rows + turn.decode_rows;
  counters.prefill_tokens += turn.prompt_rows;
  counters.decode_tokens += turn.decode_rows;
  prefill_speed.add(turn.prompt_rows, paced * turn.prompt_rows / rows);
  decode_speed.add(turn.decode_rows, paced * turn.decode_rows / rows);
  meter.end({.seconds = seconds,
             .expected_seconds = turn.expected_seconds * duty,
             .sequences = static_cast<std::uint32_t>(turn.rows.size()),
             .decode_rows = turn.decode_rows,
             .prompt_rows = turn.prompt_rows});
  {
    const std::lock_guard lock(mutex);
    requests.observe(turn, paced);
  }

  std::size_t row = 0;
  for (std::size_t i = 0; i < turn.rows.size(); ++i) {
    RunningRequest& request = *turn.rows[i].request;
    request.advance(turn.rows[i].rows);
    if (!report.lossy_experts.empty()) request.add_lossy(report.lossy_experts[i]);
    const std::size_t here = row;
    if (sequences[i].logits != WantLogits::none) ++row;
    const auto failed = std::find_if(report.failures.begin(), report.failures.end(),
                                     [&](const SequenceFailure& failure) { return failure.sequence == i; });
    if (failed != report.failures.end()) {
      end(request, failed->error);
    } else if (sequences[i].logits != WantLogits::none) {
      if (request.prefilled()) share_prompt(request);
      const TokenId chosen = report.tokens.empty() ? kNoToken : report.tokens[i];
      after_row(request, chosen, std::span(logits).subspan(here * vocabulary, vocabulary));
    }
  }
  return {};
}

void Engine::State::after_row(RunningRequest& request, TokenId chosen, std::span<float> row) {
  Result<RunningRequest::Output> output = chosen == kNoToken ? request.sample(row) : request.accept(chosen);
  if (!output) return end(request, output.error());
  if (!output->tokens.text.empty() || !output->tokens.ids.empty()) sink(request.id, std::move(output->tokens));
  if (output->done) end(request, *std::move(output->done));
}

void Engine::State::share_prompt(RunningRequest& request) {
  const std::lock_guard lock(mutex);
  requests.share_prompt(request);
}

// Out of the table, and told.
void Engine::State::end(RunningRequest& request, Event&& event) {
  if (std::holds_alternative<Error>(event)) request.mark_void();
  std::unique_ptr<RunningRequest> ended;
  {
    const std::lock_guard lock(mutex);
    ended = requests.remove(request.id);
  }
  tell_end(*ended, std::move(event));
}

// It is out of the table, and its session has the answer: who has read the ending finds it so.
void Engine::State::tell_end(RunningRequest& request, Event&& event) {
  {
    const std::lock_guard lock(mutex);
    requests.give_back(request);
    if (std::optional<SessionTurn> of_session = request.take_turn()) {
      if (std::holds_alternative<DoneEvent>(event) && request.complete(*of_session)) {
        const std::span<const TokenId> computed = request.computed();
        sessions.end_turn(*std::move(of_session), {computed.begin(), computed.end()});
      } else {
        sessions.abandon_locked(of_session->session);
      }
    }
  }
  sink(request.id, std::move(event));
}

// A step that failed ends the requests that were in it; the others go on, unless the engine cannot.
void Engine::State::end_all(const Error& error) {
  std::vector<std::unique_ptr<RunningRequest>> ended;
  {
    const std::lock_guard lock(mutex);
    if (closing || counters.failure) {
      ended = requests.remove_all();
    } else {
      for (const RequestTable::Rows& rows : turn.rows) ended.push_back(requests.remove(rows.request->id));
    }
    shown.failure = counters.failure;
  }
  for (const auto& request : ended) {
    request->mark_void();
    tell_end(*request, error);
  }
}

// Of the whole engine. Told last: who hears of it may stop everything, and the requests are to end with the reason.
void Engine::State::fail(const Error& error) {
  counters.failure = error;
  end_all(error);
  if (on_failure) on_failure(error);
}

void Engine::State::publish() {
  counters.prefill_tokens_per_s = prefill_speed.tokens_per_s();
  counters.decode_tokens_per_s = decode_speed.tokens_per_s();
  const std::lock_guard lock(mutex);
  shown = counters;
}

}  // namespace sirocco
