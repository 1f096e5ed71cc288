#include "engine/backend/cuda/shared_experts.h"

#include <algorithm>

#include "kernels/cuda/copy_bytes.h"

namespace sirocco::cuda {
namespace {

const std::byte* moved(const std::byte* data, const std::byte* from, const std::byte* to) {
  return to + (data - from);
}

}  // namespace

void SharedExpertMemory::take_pinned_part(const ModelSpec& spec, const BackendOptions& options, Bump& pinned,
                                          Mailbox& mailbox) {
  const std::size_t assignments = std::size_t{options.limits.rows} * spec.moe->used;
  take_host_part(spec, options, pinned, mailbox);
  table = pinned.take<DeviceExpert>(spec.moe->experts);
  lists = pinned.take<ExpertTile>(assignments);
  list_counts = pinned.take<std::uint32_t>(spec.moe->experts);
}

Result<std::unique_ptr<SharedExperts>> SharedExperts::create(std::shared_ptr<const Model> model, ExpertSource& experts,
                                                             const SharedExpertMemory& memory, const Mailbox& mailbox,
                                                             SlotReach reach) {
  std::unique_ptr<SharedExperts> made(new SharedExperts(std::move(model), experts, memory, mailbox, reach));
  SIROCCO_TRY(made->landed_, make_event());
  experts.set_slot_user(made.get());
  SIROCCO_CHECK(made->in_reach_);
  return made;
}

SharedExperts::SharedExperts(std::shared_ptr<const Model> model, ExpertSource& experts,
                             const SharedExpertMemory& memory, const Mailbox& mailbox, SlotReach reach)
    : model_(std::move(model)),
      experts_(experts),
      layout_(*model_),
      memory_(memory),
      mailbox_(mailbox, model_->spec().moe->experts),
      reach_(reach),
      leases_(model_->spec().moe->experts) {
  const std::size_t all = leases_.size();
  news_.reserve(2 * all);
  ready_.reserve(all);
  failed_.reserve(all);
  group_.reserve(all);
}

SharedExperts::~SharedExperts() {
  end_step();
  experts_.set_slot_user(nullptr);
}

// A slot that is too small for tiles, or that cannot be registered, is out of reach: its experts are put into tiles
// beside it.
void SharedExperts::comes(std::span<std::byte> slot) {
  if (slot.size() < layout_.slot_bytes()) return;
  void* device = slot.data();
  if (reach_ == SlotReach::none) return;
  if (reach_ == SlotReach::registered) {
    auto registered =
        checked(cudaHostRegister(slot.data(), slot.size(), cudaHostRegisterMapped), "cudaHostRegister of a slot");
    if (!registered) {
      in_reach_ = std::move(registered);
      return;
    }
    const auto found = checked(cudaHostGetDevicePointer(&device, slot.data(), 0), "cudaHostGetDevicePointer");
    if (!found) {
      in_reach_ = found;
      cudaHostUnregister(slot.data());
      return;
    }
  }
  slot_bytes_ = slot.size();
  slots_[slot.data()] = static_cast<std::byte*>(device);
}

void SharedExperts::goes(std::span<std::byte> slot) {
  if (slots_.erase(slot.data()) != 0 && reach_ == SlotReach::registered) cudaHostUnregister(slot.data());
}

// Where the slot is for the device in which those bytes are; null: in none, or out of reach.
std::byte* SharedExperts::device_slot(const std::byte* in_slot, std::size_t& offset) const {
  auto at = slots_.upper_bound(in_slot);
  if (at == slots_.begin()) return nullptr;
  --at;
  offset = static_cast<std::size_t>(in_slot - at->first);
  return offset < slot_bytes_ ? at->second : nullptr;
}

void SharedExperts::end_step() {
  for (Lease& lease : leases_) lease = Lease();
}

Result<void> SharedExperts::compute(const Layer& layer, std::span<const std::uint32_t> sequences,
                                    std::vector<SequenceFailure>& failures) {
  SIROCCO_CHECK(mailbox_.await_question(layer.stream));
  end_step();  // the question stands behind the products of the layer before
  mailbox_.take_question();
  mailbox_.answer();
  groups_ = 0;
  listed_ = 0;
  left_ = mailbox_.wanted().size();
  if (left_ == 0) return {};
  experts_.request(mailbox_.layer(), mailbox_.wanted(), static_cast<std::uint32_t>(sequences.size()));
  Result<void> done = in_reach_;  // of a slot that has come with the request, too
  while (left_ != 0) {            // also after a failure: what was requested must have been taken
    take_news(sequences, failures);
    if (done) done = clear_failed(layer);
    if (done) done = enqueue(layer);
    if (left_ == 0 && done) break;  // the last ones are computed with while the next layer begins
    const auto computed = checked(cudaStreamSynchronize(layer.stream), "a layer's experts");
    if (done) done = computed;
    for (const std::uint32_t expert : ready_) leases_[expert] = Lease();
  }
  return done;
}

void SharedExperts::take_news(std::span<const std::uint32_t> sequences, std::vector<SequenceFailure>& failures) {
  news_.clear();
  ready_.clear();
  failed_.clear();
  experts_.wait(news_);
  if (pulse_ != nullptr) pulse_->fetch_add(1, std::memory_order_relaxed);
  for (const ExpertNews& news : news_) {
    const ExpertId expert = {.layer = mailbox_.layer(), .index = news.index};
    if (news.what == ExpertNews::What::lease) {
      leases_[news.index] = experts_.lease(expert);
      continue;
    }
    --left_;
    if (news.what == ExpertNews::What::down) {
      ready_.push_back(news.index);
    } else {
      mailbox_.fail_rows(news.index, experts_.failure(expert), sequences, failures);
      leases_[news.index] = Lease();
      failed_.push_back(news.index);
    }
  }
}

// Its places are zeros.
Result<void> SharedExperts::clear_failed(const Layer& layer) {
  const std::size_t width = model_->spec().width;
  for (const std::uint32_t expert : failed_)
    SIROCCO_CHECK(checked(cudaMemsetAsync(layer.forward.expert_out() + mailbox_.first()[expert] * width, 0,
                                          mailbox_.rows_of(expert) * width * sizeof(float), layer.stream),
                          "cudaMemsetAsync"));
  return {};
}

Result<void> SharedExperts::enqueue(const Layer& layer) {
  group_.clear();
  for (const std::uint32_t index : ready_) {
    const ExpertId expert = {.layer = mailbox_.layer(), .index = index};
    std::size_t offset = 0;
    std::byte* const slot = device_slot(leases_[index].weights().gate.data, offset);
    if (slot == nullptr) {
      SIROCCO_CHECK(enqueue_beside(layer, expert));
      continue;
    }
    if (!experts_.converted(expert)) SIROCCO_CHECK(convert(expert, slot, offset, layer.stream));
    memory_.table[index] = layout_.in_slot(expert.layer, slot);
    group_.push_back(index);
  }
  return group_.empty() ? Result<void>() : enqueue_group(layer, group_);
}

// From the file's layout to tiles, which need not have the same places: by way of memory beside the slot.
Result<void> SharedExperts::convert(ExpertId expert, std::byte* slot, std::size_t offset, cudaStream_t stream) {
  ExpertWeights from = leases_[expert.index].weights();
  const std::byte* const begin = from.gate.data - offset;
  for (Matrix* matrix : {&from.gate, &from.up, &from.down}) matrix->data = moved(matrix->data, begin, slot);
  SIROCCO_CHECK(repack_expert(from, layout_.in_slot(expert.layer, memory_.tiles), stream));
  SIROCCO_CHECK(checked(copy_bytes(memory_.tiles, slot, layout_.slot_bytes(), stream), "copy_bytes"));
  experts_.set_converted(expert);
  return {};
}

Result<void> SharedExperts::enqueue_beside(const Layer& layer, ExpertId expert) {
  ExpertWeights from = leases_[expert.index].weights();
  if (reach_ != SlotReach::pageable) {
    if (!landing_) {
      SIROCCO_TRY(landing_, allocate_pinned(layout_.file_bytes()));
    }
    // Of an event that was never recorded this returns at once.
    SIROCCO_CHECK(checked(cudaEventSynchronize(landed_.get()), "cudaEventSynchronize"));
    from = layout_.copy_out(expert.layer, from, landing_.get(), landing_.get());
  }
  memory_.table[expert.index] = layout_.in_slot(expert.layer, memory_.tiles);
  SIROCCO_CHECK(repack_expert(from, memory_.table[expert.index], layer.stream));
  SIROCCO_CHECK(checked(cudaEventRecord(landed_.get(), layer.stream), "cudaEventRecord"));
  return enqueue_group(layer, {&expert.index, 1});
}

Result<void> SharedExperts::enqueue_group(const Layer& layer, std::span<const std::uint32_t> experts) {
  const MoeSpec& moe = *model_->spec().moe;
  const std::uint32_t tile_rows = expert_tile_rows(layer.shape.rows, moe.used, moe.experts);
  ExpertGroup group = {.table = memory_.table,
                       .tiles = memory_.lists + listed_,
                       .tile_count = memory_.list_counts + groups_,
                       .experts = static_cast<std::uint32_t>(experts.size())};
  std::uint32_t begin = UINT32_MAX;
  std::uint32_t end = 0;
  const std::uint32_t before = listed_;
  for (const std::uint32_t expert : experts) {
    const std::uint32_t first = mailbox_.first()[expert];
    const std::uint32_t count = mailbox_.rows_of(expert);
    for (std::uint32_t done = 0; done < count; done += tile_rows)
      memory_.lists[listed_++] = {expert, first + done, std::min(tile_rows, count - done)};
    group.assignments += count;
    begin = std::min(begin, first);
    end = std::max(end, first + count);
  }
  group.first = begin;
  group.count = end - begin;
  memory_.list_counts[groups_++] = listed_ - before;
  // The launches are the fence: what the host has written before them, a read from disk included, the kernels see.
  return layer.forward.enqueue_group(layer.shape, mailbox_.layer(), group, layer.stream);
}

}  // namespace sirocco::cuda
