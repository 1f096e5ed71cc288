// The host's side of a mailbox (kernels.h): which experts a layer of the running step asks for. Called from the engine
// thread.
#pragma once

#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_api.h"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

// The part of a mailbox in page-locked memory that every host asks with: all but the rows and their outputs.
void take_host_part(const ModelSpec& spec, const BackendOptions& options, Bump& pinned, Mailbox& mailbox);

class HostMailbox {
 public:
  HostMailbox(const Mailbox& mailbox, std::uint32_t experts);

  bool has_question() const;
  // Error: the stream has ended or failed, and none will come.
  Result<void> await_question(cudaStream_t stream) const;
  // Reads it. What it has asked stays there until the layer after the answer.
  void take_question();
  std::uint32_t layer() const { return *mailbox_.layer; }
  std::span<const WantedExpert> wanted() const { return wanted_; }  // ascending
  std::span<const std::uint32_t> first() const { return first_; }   // [experts + 1] places, of those that are wanted
  std::uint32_t rows_of(std::uint32_t expert) const { return first_[expert + 1] - first_[expert]; }

  void answer();
  // The step, and all later ones, end without answers; their results are void.
  void give_up();

  // The sequences whose rows meet an expert that could not be had fail with that error.
  void fail_rows(std::uint32_t expert, const Error& error, std::span<const std::uint32_t> sequences,
                 std::vector<SequenceFailure>& failures) const;

 private:
  Mailbox mailbox_;
  std::uint32_t answered_ = 0;  // questions
  std::vector<WantedExpert> wanted_;
  std::vector<std::uint32_t> first_;
};

}  // namespace sirocco::cuda
