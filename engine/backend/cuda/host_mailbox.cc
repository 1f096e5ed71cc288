#include "engine/backend/cuda/host_mailbox.h"

#include <algorithm>
#include <atomic>

namespace sirocco::cuda {

// Words that different sides write lie apart: Bump aligns each to more than a cache line.
void take_host_part(const ModelSpec& spec, const BackendOptions& options, Bump& pinned, Mailbox& mailbox) {
  mailbox.posted = pinned.take<std::uint32_t>(1);
  mailbox.layer = pinned.take<std::uint32_t>(1);
  mailbox.missing = pinned.take<std::uint32_t>(1);
  mailbox.answered = pinned.take<std::uint32_t>(1);
  mailbox.experts = pinned.take<MissingExpert>(spec.moe->experts);
  mailbox.row_of = pinned.take<std::uint32_t>(std::size_t{options.limits.rows} * spec.moe->used);
}

HostMailbox::HostMailbox(const Mailbox& mailbox, std::uint32_t experts) : mailbox_(mailbox), first_(experts + 1) {
  wanted_.reserve(experts);
}

bool HostMailbox::has_question() const {
  return std::atomic_ref(*mailbox_.posted).load(std::memory_order_acquire) != answered_;
}

Result<void> HostMailbox::await_question(cudaStream_t stream) const {
  while (!has_question()) {
    const cudaError_t status = cudaStreamQuery(stream);
    if (status == cudaErrorNotReady) continue;
    SIROCCO_CHECK(checked(status, "a step"));
    if (!has_question()) return fail(ErrorCode::io, "a step ended without asking for its experts");
  }
  return {};
}

void HostMailbox::take_question() {
  wanted_.clear();
  for (std::uint32_t i = 0; i < *mailbox_.missing; ++i) {
    const MissingExpert& expert = mailbox_.experts[i];
    wanted_.push_back({.index = expert.expert, .rows = expert.count});
    // Places are sorted by expert, so that the next one's beginning is this one's end.
    first_[expert.expert] = expert.first;
    first_[expert.expert + 1] = expert.first + expert.count;
  }
}

void HostMailbox::answer() {
  std::atomic_ref(*mailbox_.answered).store(++answered_, std::memory_order_release);
}

void HostMailbox::give_up() {
  std::atomic_ref(*mailbox_.answered).store(kHostGaveUp, std::memory_order_release);
}

void HostMailbox::fail_rows(std::uint32_t expert, const Error& error, std::span<const std::uint32_t> sequences,
                            std::vector<SequenceFailure>& failures) const {
  for (std::size_t place = first_[expert]; place < first_[expert + 1]; ++place) {
    const std::size_t sequence = sequences[mailbox_.row_of[place]];
    const bool known =
        std::any_of(failures.begin(), failures.end(), [&](const SequenceFailure& f) { return f.sequence == sequence; });
    if (!known) failures.push_back({.sequence = sequence, .error = error});
  }
}

}  // namespace sirocco::cuda
