#include "engine/experts/slotted_experts.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <chrono>
#include <tuple>

#include "engine/base/cgroup.h"

namespace sirocco {
namespace {

// A step of so many rows is a prompt's: what it reads says little about what answers want, and leaves first.
constexpr std::uint32_t kPromptRows = 16;
// Of the slots, what prompts may pass through once all are full: 1 in so many, but enough to read ahead.
constexpr std::size_t kPassingShare = 16;
constexpr std::size_t kLeastPassing = 4;

// Experts of a prompt that are computed with before looking whether others have arrived.
constexpr std::size_t kHitsAtOnce = 8;
constexpr std::size_t kPreloading = 8;  // transfers at the same time: a layer's misses shall not wait long behind them

constexpr std::uint64_t kExtentBits = 2;  // of a transfer's tag; the slot is above

void add(std::atomic<std::uint64_t>& counter, std::uint64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

std::int64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace

Result<std::unique_ptr<SlottedExperts>> SlottedExperts::create(std::unique_ptr<ExpertStore> store,
                                                               std::unique_ptr<TransferQueue> queue, std::size_t slots,
                                                               std::string_view policy) {
  std::unique_ptr<SlottedExperts> experts(new SlottedExperts(std::move(store), std::move(queue)));
  SIROCCO_TRY(experts->policy_, make_policy(policy));
  SIROCCO_CHECK(experts->allocate(std::max(slots, kLeastSlots)));
  return experts;
}

SlottedExperts::SlottedExperts(std::unique_ptr<ExpertStore> store, std::unique_ptr<TransferQueue> queue)
    : store_(std::move(store)), queue_(std::move(queue)) {
  const std::size_t all = std::size_t{store_->layers()} * store_->experts();
  slot_of_.assign(all, -1);
  uses_.resize(all);
  for (std::size_t i = 0; i < all; ++i)
    uses_[i].expert = {.layer = static_cast<std::uint32_t>(i / store_->experts()),
                       .index = static_cast<std::uint32_t>(i % store_->experts())};
  in_layer_.assign(store_->layers(), 0);
  counters_ = std::vector<Counters>(store_->layers());
  wanted_.reserve(store_->experts());
}

SlottedExperts::~SlottedExperts() {
  queue_.reset();  // nothing writes to the slots any more
}

Result<void> SlottedExperts::allocate(std::size_t slots) {
  SIROCCO_CHECK(memory_.reserve(slot_of_.size(), store_->slot_bytes()));
  slots_.resize(slot_of_.size());
  free_.reserve(slots_.size());
  candidates_.reserve(slots_.size());
  candidate_slots_.reserve(slots_.size());
  set_slots(slots);
  follow_wish();
  return {};
}

void SlottedExperts::set_slots(std::size_t slots) {
  wished_ = std::clamp(slots, std::min(kLeastSlots, slots_.size()), slots_.size());
}

// Experts that are being read keep their slots until they have arrived.
void SlottedExperts::follow_wish() {
  const std::size_t slots = wished_;
  if (usable_ > slots) take_arrivals(false);
  while (usable_ > slots && give_back_one()) {
  }
  if (usable_ > slots) {  // at the cost of what was read ahead
    forget_guesses();
    while (usable_ > slots && give_back_one()) {
    }
  }
  std::vector<std::size_t> added;
  for (std::size_t at = 0; at < slots_.size() && usable_ < slots; ++at) {
    if (slots_[at].state != SlotState::absent) continue;
    slots_[at].state = SlotState::empty;
    added.push_back(at);
    ++usable_;
  }
  memory_.take(added);
  if (user_ != nullptr)
    for (const std::size_t at : added) user_->comes(memory_of(at));
  free_.insert(free_.end(), added.rbegin(), added.rend());  // the first of them will be taken first
}

// An empty slot's memory, or that of the expert that may leave. False if none can be now.
bool SlottedExperts::give_back_one() {
  std::size_t at = 0;
  if (!find_slot(false, at)) return false;
  if (user_ != nullptr) user_->goes(memory_of(at));
  memory_.give_back(at);
  slots_[at].state = SlotState::absent;
  --usable_;
  return true;
}

bool SlottedExperts::has(const Slot& slot, std::initializer_list<Projection> projections) const {
  const ExpertStore::Layout& layout = store_->layout(slot.expert);
  return std::all_of(projections.begin(), projections.end(), [&](Projection projection) {
    return (slot.missing >> layout.extent.at(static_cast<std::size_t>(projection)) & 1) == 0;
  });
}

void SlottedExperts::request(std::uint32_t layer, std::span<const WantedExpert> wanted, std::uint32_t rows) {
  assert(std::all_of(wanted_.begin(), wanted_.end(), [](const Wanted& w) { return w.done; }));
  if (layer <= layer_) ++token_;  // the first layer of a step, or the only one
  empty_failed();
  layer_ = layer;
  guesses_.clear();
  if (usable_ != wished_) follow_wish();
  prompt_ = rows >= kPromptRows;
  Counters& counters = counters_[layer];
  wanted_.clear();
  next_miss_ = 0;
  for (const WantedExpert& expert : wanted) {
    const ExpertId id = {.layer = layer, .index = expert.index};
    wanted_.push_back({.index = expert.index, .hit = false});
    count_use(uses_[number(id)], token_, static_cast<double>(expert.rows) / rows);
    const std::int32_t at = slot_of_[number(id)];
    if (at < 0) {
      add(counters.misses, 1);
      continue;
    }
    Slot& slot = slots_[static_cast<std::size_t>(at)];
    ++slot.pins;  // before any miss looks for a slot
    wanted_.back().placed = true;
    wanted_.back().hit = !slot.guessed && slot.missing == 0;
    add(wanted_.back().hit ? counters.hits : counters.misses, 1);
    if (slot.guessed) add(counters.foreseen, 1);
    wanted_under_way_ += static_cast<std::size_t>(std::popcount(slot.missing));
    if (slot.passing && !prompt_) {
      slot.passing = false;
      --passing_;
    }
  }
  forget_guesses();
  start_misses();
}

// From here on they leave like any other.
void SlottedExperts::forget_guesses() {
  foreseen_.clear();
  if (!any_guessed_) return;
  for (Slot& slot : slots_) slot.guessed = false;
  any_guessed_ = false;
}

// Gives slots to the misses that have none, in order, as long as there are any.
void SlottedExperts::start_misses() {
  transfers_.clear();
  for (; next_miss_ < wanted_.size(); ++next_miss_) {
    if (wanted_[next_miss_].placed) continue;  // even if it has left again, computed with
    std::size_t at = 0;
    if (!find_slot(false, at)) break;
    load({.layer = layer_, .index = wanted_[next_miss_].index}, at, false);
    wanted_[next_miss_].placed = true;
  }
  wanted_under_way_ += transfers_.size();
  submit(transfers_);
}

// Its transfers are appended to transfers_.
void SlottedExperts::load(ExpertId expert, std::size_t at, bool guessed) {
  Slot& slot = slots_[at];
  const ExpertStore::Layout& layout = store_->layout(expert);
  slot = {.expert = expert,
          .state = SlotState::loading,
          .guessed = guessed,
          .passing = prompt_ && free_.empty(),
          .pins = guessed ? 0U : 1U};
  slot.missing = static_cast<std::uint8_t>((1U << layout.count) - 1U);
  if (slot.passing) ++passing_;
  slot_of_[number(expert)] = static_cast<std::int32_t>(at);
  counters_[expert.layer].slots = ++in_layer_[expert.layer];
  for (std::uint32_t extent = 0; extent < layout.count; ++extent) {
    const ExpertStore::Extent& read = layout.extents.at(extent);
    transfers_.push_back(
        store_->files().transfer(read.place, memory_.at(at) + read.in_slot, at << kExtentBits | extent));
    transfers_.back().background = guessed && !prompt_;  // a prompt wants nearly all, so these will be
    add(counters_[expert.layer].bytes_read, transfers_.back().bytes);
  }
}

void SlottedExperts::foresee(std::uint32_t layer, std::span<const std::uint32_t> experts) {
  guessed_layer_ = layer;
  guesses_.clear();
  foreseen_.assign(experts.begin(), experts.end());
  if (experts.empty()) {
    for (std::uint32_t index = store_->experts(); index > 0; --index) guesses_.push_back(index - 1);
  } else {
    guesses_.assign(experts.rbegin(), experts.rend());
  }
  // Those that are here already stay.
  std::erase_if(guesses_, [&](std::uint32_t index) { return slot_of_[number({.layer = layer, .index = index})] >= 0; });
  start_guesses();
}

// While the disk has nothing to read that is waited for.
void SlottedExperts::start_guesses() {
  if (guesses_.empty() || wanted_under_way_ != 0 || next_miss_ != wanted_.size()) return;
  transfers_.clear();
  while (!guesses_.empty()) {
    std::size_t at = 0;
    if (!find_slot(true, at)) break;
    load({.layer = guessed_layer_, .index = guesses_.back()}, at, true);
    any_guessed_ = true;
    guesses_.pop_back();
  }
  submit(transfers_);
}

void SlottedExperts::preload(std::span<const ExpertId> experts) {
  preload_.assign(experts.rbegin(), experts.rend());
  for (const ExpertId& expert : experts)
    uses_[number(expert)].lasting = 1;  // more than those of which nothing is known
}

bool SlottedExperts::pump() {
  if (preload_.empty() && preloading_ == 0 && usable_ == wished_) return false;
  take_arrivals(false);
  empty_failed();
  follow_wish();
  transfers_.clear();
  while (!preload_.empty() && !free_.empty() && wanted_under_way_ == 0 && preloading_ < kPreloading) {
    const ExpertId expert = preload_.back();
    preload_.pop_back();
    if (slot_of_[number(expert)] >= 0) continue;
    const std::size_t at = free_.back();
    free_.pop_back();
    load(expert, at, true);
    Slot& slot = slots_[at];
    slot.guessed = false;
    slot.preloaded = true;
    if (slot.passing) --passing_;
    slot.passing = false;
    preloading_ += store_->layout(expert).count;
  }
  for (Transfer& transfer : transfers_) transfer.background = true;
  if (free_.empty()) preload_.clear();
  submit(transfers_);
  return !preload_.empty() || preloading_ != 0 || usable_ != wished_;
}

std::vector<ExpertId> SlottedExperts::hot_set() const {
  std::vector<ExpertId> experts;
  for (const Slot& slot : slots_)
    if (slot.state == SlotState::ready) experts.push_back(slot.expert);
  std::sort(experts.begin(), experts.end(), [&](ExpertId a, ExpertId b) {
    const ExpertUse& first = uses_[number(a)];
    const ExpertUse& second = uses_[number(b)];
    return std::tie(first.last, first.lasting, a) > std::tie(second.last, second.lasting, b);
  });
  return experts;
}

// An empty slot, or one whose expert may leave. What prompts bring passes through few slots.
bool SlottedExperts::find_slot(bool for_guess, std::size_t& found) {
  if (!free_.empty()) {
    found = free_.back();
    free_.pop_back();
    return true;
  }
  const bool only_passing = prompt_ && passing_ >= std::max(usable_ / kPassingShare, kLeastPassing);
  candidates_.clear();
  candidate_slots_.clear();
  bool any_passing = false;
  for (std::size_t at = 0; at < slots_.size(); ++at) {
    const Slot& slot = slots_[at];
    if (slot.state != SlotState::ready || slot.pins != 0 || slot.guessed) continue;
    if (slot.expert.layer == guessed_layer_ &&
        std::binary_search(foreseen_.begin(), foreseen_.end(), slot.expert.index))
      continue;
    if (slot.passing && !any_passing) {
      any_passing = true;
      candidates_.clear();
      candidate_slots_.clear();
    }
    if (slot.passing != any_passing) continue;
    candidates_.push_back(uses_[number(slot.expert)]);
    candidate_slots_.push_back(at);
  }
  if (candidates_.empty()) return false;
  if (only_passing && !any_passing) {
    // Those that pass are in use; the first of them will be free soon.
    const bool busy = std::any_of(slots_.begin(), slots_.end(), [](const Slot& s) { return s.pins != 0; });
    if (for_guess || busy) return false;
  }
  const EvictionMoment moment = {.token = token_,
                                 .layer = layer_,
                                 .layers = store_->layers(),
                                 .used = store_->used(),
                                 .slots = usable_,
                                 .in_layer = in_layer_};
  found = candidate_slots_[policy_->choose(candidates_, moment)];
  add(counters_[slots_[found].expert.layer].evictions, 1);
  empty(found);
  free_.pop_back();
  return true;
}

void SlottedExperts::empty(std::size_t at) {
  Slot& slot = slots_[at];
  slot_of_[number(slot.expert)] = -1;
  counters_[slot.expert.layer].slots = --in_layer_[slot.expert.layer];
  if (slot.passing) --passing_;
  slot = Slot();
  slot.state = SlotState::empty;
  free_.push_back(at);
}

// Whoever wanted them has been told; the next to want one tries again.
void SlottedExperts::empty_failed() {
  if (failures_ == emptied_failures_) return;
  for (std::size_t at = 0; at < slots_.size(); ++at) {
    if (slots_[at].state != SlotState::failed || slots_[at].pins != 0) continue;
    empty(at);
    ++emptied_failures_;
  }
}

void SlottedExperts::set_slot_user(SlotUser* user) {
  for (std::size_t at = 0; at < slots_.size(); ++at) {
    if (slots_[at].state == SlotState::absent) continue;
    if (user_ != nullptr) user_->goes(memory_of(at));
    if (slots_[at].converted) empty(at);
    if (user != nullptr) user->comes(memory_of(at));
  }
  user_ = user;
}

bool SlottedExperts::converted(ExpertId expert) const {
  return slots_[static_cast<std::size_t>(slot_of_[number(expert)])].converted;
}

void SlottedExperts::set_converted(ExpertId expert) {
  slots_[static_cast<std::size_t>(slot_of_[number(expert)])].converted = true;
}

void SlottedExperts::set_timeline(Timeline* timeline) {
  timeline_ = timeline;
  begun_.assign(timeline == nullptr ? 0 : slots_.size() << kExtentBits, 0);
}

void SlottedExperts::submit(std::span<const Transfer> transfers) {
  if (transfers.empty()) return;
  const Timeline::Span span(timeline_, {.kind = Timeline::Kind::submit, .layer = layer_});
  if (timeline_ != nullptr) {
    const std::uint64_t begun = timeline_->reads_begin(transfers.size());
    for (const Transfer& transfer : transfers) begun_[transfer.tag] = begun;
  }
  if (under_way_ == 0) reading_since_ns_ = now_ns();
  under_way_ += transfers.size();
  queue_->submit(transfers);
}

void SlottedExperts::note_arrivals() {
  for (const Arrival& arrival : arrivals_) {
    const auto extent = static_cast<std::uint8_t>(arrival.tag & ((1U << kExtentBits) - 1U));
    const ExpertId expert = slots_[arrival.tag >> kExtentBits].expert;
    const FilePlace& place = store_->layout(expert).extents.at(extent).place;
    timeline_->read_ends({.kind = Timeline::Kind::read,
                          .failed = arrival.error != 0,
                          .extent = extent,
                          .layer = expert.layer,
                          .expert = expert.index,
                          .bytes = place.after_last_block() - place.first_block()},
                         begun_[arrival.tag]);
  }
}

void SlottedExperts::take_arrivals(bool wait) {
  arrivals_.clear();
  if (wait) {
    const Timeline::Span span(timeline_, {.kind = Timeline::Kind::wait, .layer = layer_});
    const std::int64_t begin = now_ns();
    waiting_since_ns_ = begin;
    queue_->collect(arrivals_, true);
    waiting_since_ns_ = 0;
    add(counters_[layer_].wait_ns, static_cast<std::uint64_t>(now_ns() - begin));
  } else {
    queue_->collect(arrivals_, false);
  }
  if (timeline_ != nullptr) note_arrivals();
  for (const Arrival& arrival : arrivals_) {
    const std::size_t at = arrival.tag >> kExtentBits;
    const auto extent = static_cast<std::size_t>(arrival.tag & ((1U << kExtentBits) - 1U));
    Slot& slot = slots_[at];
    const ExpertStore::Extent& read = store_->layout(slot.expert).extents.at(extent);
    const bool ended = arrival.error == 0 || slot.tries.at(extent) + 1 >= kTries;
    if (ended && slot.pins != 0) --wanted_under_way_;
    if (ended && slot.preloaded) --preloading_;
    if (arrival.error == 0) {
      store_->files().forget(read.place);
      slot.missing = static_cast<std::uint8_t>(slot.missing & ~(1U << extent));
    } else if (++slot.tries.at(extent) < kTries) {
      Transfer again = store_->files().transfer(read.place, memory_.at(at) + read.in_slot, arrival.tag);
      again.background = slot.preloaded && slot.pins == 0;
      submit(std::span(&again, 1));
      --under_way_;
      continue;
    } else {
      // The others of its reads still write to the slot: it fails when all have ended.
      if (slot.error == 0) {
        add(counters_[slot.expert.layer].failures, 1);
        ++failures_;
      }
      slot.error = arrival.error;
      slot.missing = static_cast<std::uint8_t>(slot.missing & ~(1U << extent));
    }
    if (slot.missing == 0) slot.state = slot.error == 0 ? SlotState::ready : SlotState::failed;
    if (--under_way_ == 0) reading_ns_ += static_cast<std::uint64_t>(now_ns() - reading_since_ns_);
  }
  start_guesses();
}

// What is new of the hits, or of the others: of so many experts at most. False if nothing.
bool SlottedExperts::tell_all(bool hits, std::size_t most, std::vector<ExpertNews>& news) {
  std::size_t told = 0;
  for (Wanted& wanted : wanted_)
    if (wanted.hit == hits && told < most && tell(wanted, news)) ++told;
  return told != 0;
}

// What is new of one expert; false if nothing.
bool SlottedExperts::tell(Wanted& wanted, std::vector<ExpertNews>& news) {
  if (wanted.done) return false;
  const std::int32_t at = slot_of_[number({.layer = layer_, .index = wanted.index})];
  if (at < 0) return false;
  Slot& slot = slots_[static_cast<std::size_t>(at)];
  const std::size_t before = news.size();
  if (slot.state == SlotState::failed) {
    news.push_back({.index = wanted.index, .what = ExpertNews::What::failed});
    wanted.done = true;
    if (!wanted.leased) --slot.pins;  // or the lease does it
  } else if (slot.error == 0) {
    if (!wanted.leased && has(slot, {Projection::gate, Projection::up})) {
      news.push_back({.index = wanted.index, .what = ExpertNews::What::lease});
      wanted.leased = true;
    }
    if (wanted.leased && has(slot, {Projection::down})) {
      news.push_back({.index = wanted.index, .what = ExpertNews::What::down});
      wanted.done = true;
    }
  }
  return news.size() != before;
}

void SlottedExperts::wait(std::vector<ExpertNews>& news) {
  empty_failed();
  start_misses();
  take_arrivals(false);
  while (true) {
    // What was read first, so that its slots can be read into again; meanwhile what was here, a prompt's bit by bit.
    if (tell_all(false, wanted_.size(), news)) return;
    if (tell_all(true, prompt_ ? kHitsAtOnce : wanted_.size(), news)) return;
    if (std::all_of(wanted_.begin(), wanted_.end(), [](const Wanted& wanted) { return wanted.done; })) return;
    take_arrivals(true);
    start_misses();
  }
}

void SlottedExperts::tell_resident(std::uint32_t layer, std::span<std::uint8_t> resident) {
  take_arrivals(false);  // of guesses
  for (std::uint32_t index = 0; index < resident.size(); ++index) {
    const std::int32_t at = slot_of_[number({.layer = layer, .index = index})];
    resident[index] = at >= 0 && slots_[static_cast<std::size_t>(at)].state == SlotState::ready ? 1 : 0;
  }
}

void SlottedExperts::count(std::uint32_t layer, const LossyCounts& counts) {
  add(counters_[layer].skipped, counts.skipped);
  add(counters_[layer].substituted, counts.substituted);
}

Lease SlottedExperts::lease(ExpertId expert) {
  const auto at = static_cast<std::size_t>(slot_of_[number(expert)]);
  return Lease(this, expert, store_->weights(expert, memory_.at(at)));
}

Error SlottedExperts::failure(ExpertId expert) const {
  const std::int32_t at = slot_of_[number(expert)];
  const int error = at < 0 ? 0 : slots_[static_cast<std::size_t>(at)].error;
  return {ErrorCode::io, fmt::format("expert {} of layer {} could not be read from {}: {}", expert.index, expert.layer,
                                     store_->path(), errno_message(error))};
}

// The pin of request().
void SlottedExperts::release(ExpertId expert) {
  const auto at = static_cast<std::size_t>(slot_of_[number(expert)]);
  --slots_[at].pins;
}

std::chrono::nanoseconds SlottedExperts::waiting_for_disk() const {
  const std::int64_t since = waiting_since_ns_;
  return std::chrono::nanoseconds(since == 0 ? 0 : std::max<std::int64_t>(now_ns() - since, 0));
}

std::string SlottedExperts::reads() const {
  const ReadShape& shape = queue_->shape();
  return fmt::format("{}, {} x {} KiB", queue_->kind(), shape.depth, shape.piece_bytes / KiB);
}

ExpertCounters SlottedExperts::counters(std::uint32_t layer) const {
  const Counters& counters = counters_[layer];
  return {.hits = counters.hits,
          .misses = counters.misses,
          .foreseen = counters.foreseen,
          .evictions = counters.evictions,
          .bytes_read = counters.bytes_read,
          .failures = counters.failures,
          .wait_ns = counters.wait_ns,
          .skipped = counters.skipped,
          .substituted = counters.substituted};
}

std::uint64_t SlottedExperts::free_memory() const {
  return memory_status().free();
}

ExpertCounters SlottedExperts::counters() const {
  ExpertCounters sum;
  for (std::uint32_t layer = 0; layer < layers(); ++layer) sum = sum + counters(layer);
  return sum;
}

}  // namespace sirocco
