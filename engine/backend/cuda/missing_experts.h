// What a step on the device misses, computed by the host while the step runs: with kernels/cpu, whose products are the
// device's to the bit, so that it does not matter for an answer which side computed an expert. Owned by the CUDA
// backend, called from the engine thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_api.h"
#include "engine/backend/cuda/device_experts.h"
#include "engine/backend/cuda/host_mailbox.h"
#include "engine/backend/cuda/passing_experts.h"
#include "engine/base/thread_pool.h"
#include "engine/model/expert_products.h"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

// The two parts of a mailbox (kernels.h) for steps of up to options.limits.rows.
void take_device_part(const ModelSpec& spec, Bump& device, Mailbox& mailbox);
void take_pinned_part(const ModelSpec& spec, const BackendOptions& options, Bump& pinned, Mailbox& mailbox);

class MissingExperts {
 public:
  // `experts` and the mailbox's memory outlive it. Error: threads that cannot be had.
  static Result<std::unique_ptr<MissingExperts>> create(std::shared_ptr<const Model> model, ExpertSource& experts,
                                                        const BackendOptions& options, const Mailbox& mailbox);
  // That it will allocate.
  static Result<std::uint64_t> bytes(const Model& model, const BackendOptions& options);

  // From here on what arrives of experts beats there, too (Step::pulse); null: nowhere.
  void set_pulse(std::atomic<std::uint64_t>* pulse) { pulse_ = pulse; }

  // Computes what a layer asks for, if there is a question; returns whether there was.
  //   sequences  [rows] of the step: which one a row belongs to
  //   failures   of sequences that an expert of could not be had
  //   device     is offered what was computed
  bool answer(std::span<const std::uint32_t> sequences, std::vector<SequenceFailure>& failures, DeviceExperts& device);
  // The same for a step that is enqueued layer by layer, each of which asks, where nothing waits on the device: some of
  // the experts pass through it while the host computes the others. Enqueues what completes forward.expert_out().
  struct ByLayer {
    const CudaForward& forward;
    PassingExperts& passing;
    const StepShape& shape;
    double share = 0;  // of the missing experts, that pass through the device
    cudaStream_t stream = nullptr;
  };
  Result<void> answer(const ByLayer& step, std::span<const std::uint32_t> sequences,
                      std::vector<SequenceFailure>& failures);
  // That layers have asked for, since the start.
  std::uint64_t asked() const { return asked_; }

  // The step, and all later ones, end without answers; their results are void.
  void give_up() { questions_.give_up(); }

  std::size_t threads() const { return pool_.threads(); }

 private:
  MissingExperts(std::shared_ptr<const Model> model, const Kernels& kernels, ExpertSource& experts,
                 const BackendOptions& options, const Mailbox& mailbox, ThreadPool pool);

  void take_question();
  ExpertProducts::Layer layer(std::size_t rows) const;
  void prepare(std::size_t rows);
  void choose_passing(double share);
  Result<void> send(const ByLayer& step, std::span<const ExpertProducts::Weights> experts);
  Result<void> copy_outputs(const ByLayer& step);

  std::shared_ptr<const Model> model_;
  ExpertSource& experts_;
  Mailbox mailbox_;
  HostMailbox questions_;
  std::atomic<std::uint64_t>* pulse_ = nullptr;
  ThreadPool pool_;
  std::size_t assignments_;  // of a step, at most
  FormatSet formats_;        // of gate and up
  Products rows_;
  Products hidden_;
  std::vector<float> gate_;  // [assignments, expert width]
  std::vector<float> up_;
  ExpertProducts products_;
  std::uint64_t asked_ = 0;           // experts
  std::vector<std::uint8_t> passes_;  // [experts] through the device; of those that are wanted
  std::vector<WantedExpert> by_rows_;
};

}  // namespace sirocco::cuda
