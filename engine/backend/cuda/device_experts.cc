#include "engine/backend/cuda/device_experts.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <tuple>
#include <utility>

#include "engine/backend/cuda/upload.h"

namespace sirocco::cuda {
namespace {

constexpr std::string_view kPolicy = "lfru";
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kPieceBytes = 256 * MiB;  // of slots: what an allocation is rounded up by is little beside that

std::array<const Matrix*, 3> projections(const ExpertWeights& expert) {
  return {&expert.gate, &expert.up, &expert.down};
}

std::size_t bytes_in_file(const Matrix& m) {
  return m.outputs * row_bytes(m.type, m.inputs);
}

}  // namespace

SlotLayout::SlotLayout(const Model& model) {
  for (const LayerWeights& weights : model.weights().layers) {
    Layer& layer = layers_.emplace_back();
    if (weights.experts.empty()) continue;
    std::size_t slot = 0;
    std::size_t file = 0;
    const auto parts = projections(weights.experts.front());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      layer.in_slot.at(i) = slot;
      layer.in_file_bytes.at(i) = file;
      slot += padded(matrix_bytes(parts.at(i)->type, parts.at(i)->inputs, parts.at(i)->outputs), kAlignment);
      file += padded(bytes_in_file(*parts.at(i)), kAlignment);
    }
    slot_bytes_ = std::max(slot_bytes_, slot);
    file_bytes_ = std::max(file_bytes_, file);
  }
}

DeviceExpert SlotLayout::in_slot(std::uint32_t layer, const std::byte* slot) const {
  const auto& at = layers_[layer].in_slot;
  return {.gate = slot + at[0], .up = slot + at[1], .down = slot + at[2]};
}

ExpertWeights SlotLayout::copy_out(std::uint32_t layer, const ExpertWeights& expert, std::byte* to,
                                   const std::byte* copied) const {
  ExpertWeights there = expert;
  const auto parts = projections(expert);
  const std::array<Matrix*, 3> targets = {&there.gate, &there.up, &there.down};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t at = layers_[layer].in_file_bytes.at(i);
    std::memcpy(to + at, parts.at(i)->data, bytes_in_file(*parts.at(i)));
    targets.at(i)->data = copied + at;
  }
  return there;
}

Result<void> repack_expert(const ExpertWeights& from, const DeviceExpert& to, cudaStream_t stream) {
  const std::array<const std::byte*, 3> targets = {to.gate, to.up, to.down};
  const auto parts = projections(from);
  for (std::size_t i = 0; i < parts.size(); ++i)
    SIROCCO_CHECK(
        checked(repack({.matrix = *parts.at(i), .tiles = const_cast<std::byte*>(targets.at(i))}, stream), "repack"));
  return {};
}

std::size_t slots_in_piece(std::size_t slots, std::size_t slot_bytes) {
  return std::clamp<std::size_t>(std::min(kPieceBytes / slot_bytes, slots / 8), 1, std::max<std::size_t>(slots, 1));
}

std::size_t DeviceExpertMemory::take_device_part(const SlotLayout& layout, std::size_t count, Bump& device) {
  slots = count;
  for (std::byte*& bytes : arrived) bytes = device.take<std::byte>(layout.file_bytes());
  return count * layout.slot_bytes();
}

void DeviceExpertMemory::take_pinned_part(const ModelSpec& spec, const SlotLayout& layout, Bump& pinned) {
  const std::size_t all = std::size_t{spec.layers} * spec.moe->experts;
  host_table = pinned.take<DeviceExpert>(all);
  rows_of_expert = pinned.take<std::uint32_t>(all);
  for (std::byte*& bytes : leaving) bytes = pinned.take<std::byte>(layout.file_bytes());
}

DeviceExperts::DeviceExperts(std::shared_ptr<const Model> model, const SlotLayout& layout,
                             const DeviceExpertMemory& memory)
    : model_(std::move(model)),
      layout_(layout),
      memory_(memory),
      experts_(model_->spec().moe->experts),
      piece_(slots_in_piece(memory.slots, layout.slot_bytes())),
      in_slot_(memory.slots),
      wished_(memory.slots),
      in_layer_(model_->spec().layers),
      uses_(std::size_t{model_->spec().layers} * experts_) {
  for (std::uint32_t layer = 0; layer < model_->spec().layers; ++layer)
    for (std::uint32_t index = 0; index < experts_; ++index)
      uses_[number({.layer = layer, .index = index})].expert = {.layer = layer, .index = index};
  candidates_.reserve(memory.slots + 1);
  candidate_slots_.reserve(memory.slots);
}

Result<std::unique_ptr<DeviceExperts>> DeviceExperts::create(std::shared_ptr<const Model> model,
                                                             const SlotLayout& layout,
                                                             const DeviceExpertMemory& memory) {
  std::unique_ptr<DeviceExperts> made(new DeviceExperts(std::move(model), layout, memory));
  SIROCCO_TRY(made->policy_, make_policy(kPolicy));
  SIROCCO_TRY(made->stream_, make_stream());
  for (Arrival& arrival : made->arrivals_) {
    SIROCCO_TRY(arrival.done, make_event());
  }
  while (made->usable_ < memory.slots) SIROCCO_CHECK(made->add_piece());
  return made;
}

DeviceExperts::~DeviceExperts() {
  if (stream_) cudaStreamSynchronize(stream_.get());  // it uses what goes now
}

void DeviceExperts::place(ExpertId expert, std::size_t slot) {
  in_slot_[slot] = expert;
  ++in_layer_[expert.layer];
  memory_.host_table[number(expert)] = layout_.in_slot(expert.layer, slot_at(slot));
  changed_ = true;
}

Result<void> DeviceExperts::fill(std::span<const ExpertId> hot, ThreadPool& pool) {
  std::vector<std::vector<Upload>> uploads(pieces_.size());  // a copy must not reach from one piece into another
  std::size_t slot = 0;
  const auto& layers = model_->weights().layers;
  const auto add = [&](ExpertId expert) {
    if (slot == memory_.slots || layers[expert.layer].experts.empty()) return;
    if (memory_.host_table[number(expert)].gate != nullptr) return;
    const DeviceExpert at = layout_.in_slot(expert.layer, slot_at(slot));
    const std::array<const std::byte*, 3> targets = {at.gate, at.up, at.down};
    const auto parts = projections(layers[expert.layer].experts[expert.index]);
    for (std::size_t i = 0; i < parts.size(); ++i)
      uploads[slot / piece_].push_back(
          {.target = const_cast<std::byte*>(targets.at(i)), .matrix = *parts.at(i), .bytes = {}});
    place(expert, slot++);
  };
  for (const ExpertId expert : hot) add(expert);
  for (std::uint32_t index = 0; index < experts_; ++index)
    for (std::uint32_t layer = 0; layer < layers.size(); ++layer) add({.layer = layer, .index = index});
  assert(slot == memory_.slots);
  for (const std::vector<Upload>& of_piece : uploads) SIROCCO_CHECK(upload(of_piece, pool));
  return {};
}

Result<void> DeviceExperts::add_piece() {
  const std::size_t slots = std::min(piece_, memory_.slots - usable_);
  SIROCCO_TRY(DeviceMemory piece, allocate_device(slots * layout_.slot_bytes()));
  pieces_.push_back(std::move(piece));
  usable_ += slots;
  return {};
}

// The last one. No step is under way.
void DeviceExperts::drop_piece() {
  cudaStreamSynchronize(stream_.get());  // an expert may be on its way there; whether it has failed the next step sees
  const std::size_t first = (pieces_.size() - 1) * piece_;
  for (std::size_t slot = first; slot < usable_; ++slot) {
    if (!in_slot_[slot]) continue;
    const ExpertId expert = *std::exchange(in_slot_[slot], std::nullopt);
    const auto arrival = std::find_if(arrivals_.begin(), arrivals_.end(), [&](const Arrival& a) {
      return a.state == Arrival::State::under_way && a.slot == slot;
    });
    if (arrival != arrivals_.end()) {
      arrival->state = Arrival::State::none;
      continue;
    }
    --in_layer_[expert.layer];
    memory_.host_table[number(expert)] = {};
  }
  usable_ = first;
  pieces_.pop_back();
  changed_ = true;
}

// Between steps. What cannot be had is not wished for any longer.
void DeviceExperts::follow_wish() {
  const std::size_t wished = wished_;
  while (usable_ > wished && pieces_.size() > 1) drop_piece();
  while (usable_ + std::min(piece_, memory_.slots - usable_) <= wished && usable_ < memory_.slots) {
    if (add_piece()) continue;
    std::size_t same = wished;
    wished_.compare_exchange_strong(same, usable_);
    return;
  }
}

std::uint64_t DeviceExperts::free_memory() const {
  if (const auto free = cuda::free_memory(false)) free_ = *free;
  return free_;
}

void DeviceExperts::preload(std::span<const ExpertId> experts) {
  preload_.assign(experts.rbegin(), experts.rend());
}

std::optional<std::size_t> DeviceExperts::find_empty() const {
  for (std::size_t slot = 0; slot < usable_; ++slot)
    if (!in_slot_[slot]) return slot;
  return std::nullopt;
}

// Between steps, into slots that nobody has.
void DeviceExperts::start_preloads() {
  for (std::size_t i = 0; i < arrivals_.size() && !preload_.empty(); ++i) {
    Arrival& arrival = arrivals_.at(i);
    if (arrival.state != Arrival::State::none) continue;
    const std::optional<std::size_t> slot = find_empty();
    if (!slot) {
      if (usable_ == memory_.slots) preload_.clear();
      return;
    }
    const ExpertId expert = preload_.back();
    preload_.pop_back();
    const auto known = [&](const Arrival& a) { return a.state != Arrival::State::none && a.expert == expert; };
    if (memory_.host_table[number(expert)].gate != nullptr || std::any_of(arrivals_.begin(), arrivals_.end(), known)) {
      --i;
      continue;
    }
    arrival = {.state = Arrival::State::under_way,
               .expert = expert,
               .weights = layout_.copy_out(expert.layer, model_->weights().layers[expert.layer].experts[expert.index],
                                           memory_.leaving.at(i), memory_.arrived.at(i)),
               .slot = *slot,
               .done = std::move(arrival.done)};
    in_slot_[*slot] = expert;
    if (!send(i)) preload_.clear();  // the next step fails, and says why
  }
}

bool DeviceExperts::pump() {
  follow_wish();
  if (!take_arrived()) return false;  // likewise
  start_preloads();
  return std::any_of(arrivals_.begin(), arrivals_.end(),
                     [](const Arrival& a) { return a.state == Arrival::State::under_way; });
}

std::vector<ExpertId> DeviceExperts::hot_set() const {
  std::vector<ExpertId> experts;
  for (const std::optional<ExpertId>& expert : in_slot_)
    if (expert && memory_.host_table[number(*expert)].gate != nullptr) experts.push_back(*expert);
  std::sort(experts.begin(), experts.end(), [&](ExpertId a, ExpertId b) {
    const ExpertUse& first = uses_[number(a)];
    const ExpertUse& second = uses_[number(b)];
    return std::tie(first.last, first.lasting, a) > std::tie(second.last, second.lasting, b);
  });
  return experts;
}

Result<void> DeviceExperts::take_arrived() {
  for (Arrival& arrival : arrivals_) {
    if (arrival.state != Arrival::State::under_way) continue;
    const cudaError_t status = cudaEventQuery(arrival.done.get());
    if (status == cudaErrorNotReady) continue;
    SIROCCO_CHECK(checked(status, "an expert on its way"));
    place(arrival.expert, arrival.slot);
    arrival.state = Arrival::State::none;
  }
  return {};
}

Result<void> DeviceExperts::begin_step(cudaStream_t stream) {
  follow_wish();
  SIROCCO_CHECK(take_arrived());
  if (!changed_) return {};
  changed_ = false;
  return checked(cudaMemcpyAsync(memory_.table, memory_.host_table, uses_.size() * sizeof(DeviceExpert),
                                 cudaMemcpyHostToDevice, stream),
                 "cudaMemcpyAsync of the experts' table");
}

Result<void> DeviceExperts::fetch_uses(const std::uint32_t* rows_of_expert, cudaStream_t stream) const {
  return checked(cudaMemcpyAsync(memory_.rows_of_expert, rows_of_expert, uses_.size() * sizeof(std::uint32_t),
                                 cudaMemcpyDeviceToHost, stream),
                 "cudaMemcpyAsync of the experts' uses");
}

void DeviceExperts::offer(ExpertId expert, const ExpertWeights& weights) {
  if (expert.layer < next_layer_) return;
  const auto known = [&](const Arrival& a) { return a.state != Arrival::State::none && a.expert == expert; };
  if (std::any_of(arrivals_.begin(), arrivals_.end(), known)) return;
  for (std::size_t i = 0; i < arrivals_.size(); ++i) {
    Arrival& arrival = arrivals_.at(i);
    if (arrival.state != Arrival::State::none) continue;
    arrival.state = Arrival::State::offered;
    arrival.expert = expert;
    arrival.weights = layout_.copy_out(expert.layer, weights, memory_.leaving.at(i), memory_.arrived.at(i));
    next_layer_ = expert.layer + 1;
    return;
  }
}

// Every expert that a row met is once more used.
void DeviceExperts::count(std::uint32_t rows, std::uint32_t layers) {
  ++token_;
  for (std::size_t i = 0; i < std::size_t{layers} * experts_; ++i) {
    const std::uint32_t met = memory_.rows_of_expert[i];
    if (met == 0) continue;
    count_use(uses_[i], token_, rows == 1 ? 1 : static_cast<double>(met) / rows);
    ++(memory_.host_table[i].gate != nullptr ? hits_ : misses_);  // nothing has changed since the step
  }
}

// The slot that the newcomer shall have, empty; nothing, if what is there is worth more.
std::optional<std::size_t> DeviceExperts::find_slot(ExpertId newcomer) {
  if (const std::optional<std::size_t> empty = find_empty()) {
    in_slot_[*empty] = newcomer;
    return empty;
  }
  candidates_.clear();
  candidate_slots_.clear();
  for (std::size_t slot = 0; slot < usable_; ++slot) {
    if (memory_.host_table[number(*in_slot_[slot])].gate == nullptr) continue;  // one that arrives has it
    candidates_.push_back(uses_[number(*in_slot_[slot])]);
    candidate_slots_.push_back(slot);
  }
  candidates_.push_back(uses_[number(newcomer)]);
  const std::size_t leaves = policy_->choose(candidates_, {.token = token_,
                                                           .layer = newcomer.layer,
                                                           .layers = model_->spec().layers,
                                                           .used = model_->spec().moe->used,
                                                           .slots = usable_,
                                                           .in_layer = in_layer_});
  if (leaves == candidate_slots_.size()) return std::nullopt;
  const std::size_t slot = candidate_slots_[leaves];
  memory_.host_table[number(*in_slot_[slot])] = {};
  --in_layer_[in_slot_[slot]->layer];
  in_slot_[slot] = newcomer;
  changed_ = true;
  return slot;
}

// No step is under way, and the next one's table is without the slot's last owner.
Result<void> DeviceExperts::send(std::size_t index) {
  Arrival& arrival = arrivals_.at(index);
  SIROCCO_CHECK(checked(cudaMemcpyAsync(memory_.arrived.at(index), memory_.leaving.at(index), layout_.file_bytes(),
                                        cudaMemcpyHostToDevice, stream_.get()),
                        "cudaMemcpyAsync of an expert"));
  SIROCCO_CHECK(
      repack_expert(arrival.weights, layout_.in_slot(arrival.expert.layer, slot_at(arrival.slot)), stream_.get()));
  return checked(cudaEventRecord(arrival.done.get(), stream_.get()), "cudaEventRecord");
}

Result<void> DeviceExperts::end_step(std::uint32_t rows, std::uint32_t layers) {
  count(rows, layers);
  bool room = false;
  for (std::size_t i = 0; i < arrivals_.size(); ++i) {
    Arrival& arrival = arrivals_.at(i);
    room = room || arrival.state == Arrival::State::none;
    if (arrival.state != Arrival::State::offered) continue;
    const std::optional<std::size_t> slot = find_slot(arrival.expert);
    arrival.state = slot ? Arrival::State::under_way : Arrival::State::none;
    if (!slot) continue;
    arrival.slot = *slot;
    SIROCCO_CHECK(send(i));
  }
  if (room) next_layer_ = 0;  // all layers above have been asked
  start_preloads();
  return {};
}

}  // namespace sirocco::cuda
