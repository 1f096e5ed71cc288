#include "engine/backend/cuda/missing_experts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <future>

namespace sirocco::cuda {
namespace {

std::size_t assignments_of(const ModelSpec& spec, const BackendOptions& options) {
  return std::size_t{options.limits.rows} * spec.moe->used;
}

// Of all experts' gate and up, or of their down.
FormatSet formats_of(const Model& model, const Kernels& kernels, bool down) {
  FormatSet formats;
  for (const LayerWeights& layer : model.weights().layers) {
    if (layer.experts.empty()) continue;
    const ExpertWeights& expert = layer.experts.front();  // all of a layer are alike
    formats.add(kernels.activation_format(down ? expert.down.type : expert.gate.type));
    if (!down) formats.add(kernels.activation_format(expert.up.type));
  }
  return formats;
}

Products::Use use_of(const Model& model, const Kernels& kernels, const BackendOptions& options, bool down) {
  const ModelSpec& spec = model.spec();
  const std::size_t assignments = assignments_of(spec, options);
  return {.rows = down ? assignments : options.limits.rows,
          .inputs = down ? spec.moe->width : spec.width,
          .formats = formats_of(model, kernels, down),
          .products = down ? 1U : 2U,
          .met = assignments,
          .groups = std::min<std::size_t>(spec.moe->experts, assignments)};
}

}  // namespace

void take_device_part(const ModelSpec& spec, Bump& device, Mailbox& mailbox) {
  mailbox.posts = device.take<std::uint32_t>(1);
  mailbox.missing_now = device.take<std::uint32_t>(1);
  mailbox.blocks_done = device.take<std::uint32_t>(1);
  mailbox.rows_of_expert = device.take<std::uint32_t>(std::size_t{spec.layers} * spec.moe->experts);
}

void take_pinned_part(const ModelSpec& spec, const BackendOptions& options, Bump& pinned, Mailbox& mailbox) {
  const std::size_t assignments = assignments_of(spec, options);
  take_host_part(spec, options, pinned, mailbox);
  mailbox.rows = pinned.take<float>(std::size_t{options.limits.rows} * spec.width);
  mailbox.out = pinned.take<float>(assignments * spec.width);
}

Result<std::unique_ptr<MissingExperts>> MissingExperts::create(std::shared_ptr<const Model> model,
                                                               ExpertSource& experts, const BackendOptions& options,
                                                               const Mailbox& mailbox) {
  SIROCCO_TRY(const Kernels* kernels, host_kernels(options));
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options.threads, options.pin_threads));
  return std::unique_ptr<MissingExperts>(
      new MissingExperts(std::move(model), *kernels, experts, options, mailbox, std::move(pool)));
}

Result<std::uint64_t> MissingExperts::bytes(const Model& model, const BackendOptions& options) {
  SIROCCO_TRY(const Kernels* kernels, host_kernels(options));
  const std::size_t threads = options.threads == 0 ? ThreadPool::default_threads() : options.threads;
  const std::size_t assignments = assignments_of(model.spec(), options);
  const Products::Use rows = use_of(model, *kernels, options, false);
  const Products::Use hidden = use_of(model, *kernels, options, true);
  return Products::bytes(*kernels, threads, {&rows, 1}) + Products::bytes(*kernels, threads, {&hidden, 1}) +
         ExpertProducts::bytes(model.spec(), assignments) + 2 * assignments * model.spec().moe->width * sizeof(float);
}

MissingExperts::MissingExperts(std::shared_ptr<const Model> model, const Kernels& kernels, ExpertSource& experts,
                               const BackendOptions& options, const Mailbox& mailbox, ThreadPool pool)
    : model_(std::move(model)),
      experts_(experts),
      mailbox_(mailbox),
      questions_(mailbox, model_->spec().moe->experts),
      pool_(std::move(pool)),
      assignments_(assignments_of(model_->spec(), options)),
      formats_(formats_of(*model_, kernels, false)),
      rows_(kernels, pool_, std::array{use_of(*model_, kernels, options, false)}),
      hidden_(kernels, pool_, std::array{use_of(*model_, kernels, options, true)}),
      gate_(assignments_ * model_->spec().moe->width),
      up_(gate_.size()),
      products_(model_->spec(), assignments_, formats_of(*model_, kernels, true), experts, options.instruments.timeline,
                {.rows = &rows_, .hidden = &hidden_, .gate = gate_, .up = up_}),
      passes_(model_->spec().moe->experts) {
  by_rows_.reserve(model_->spec().moe->experts);
}

void MissingExperts::take_question() {
  questions_.take_question();
  asked_ += questions_.wanted().size();
}

ExpertProducts::Layer MissingExperts::layer(std::size_t rows) const {
  return {.index = questions_.layer(),
          .rows = static_cast<std::uint32_t>(rows),
          .first = questions_.first(),
          .row_of = {mailbox_.row_of, assignments_},
          .out = {mailbox_.out, assignments_ * model_->spec().width},
          .pulse = pulse_};
}

void MissingExperts::prepare(std::size_t rows) {
  const std::size_t width = model_->spec().width;
  rows_.prepare(rows, width, formats_, [&](std::size_t row) { return mailbox_.rows + row * width; });
}

bool MissingExperts::answer(std::span<const std::uint32_t> sequences, std::vector<SequenceFailure>& failures,
                            DeviceExperts& device) {
  if (!questions_.has_question()) return false;
  take_question();
  prepare(sequences.size());
  const ExpertProducts::Layer asking = layer(sequences.size());
  products_.request(asking, questions_.wanted());
  products_.compute(
      asking,
      {.failed =
           [&](ExpertId expert) { questions_.fail_rows(expert.index, experts_.failure(expert), sequences, failures); },
       .computed = [&](const ExpertProducts::Weights& e) { device.offer(e.expert, *e.weights); }});
  questions_.answer();
  return true;
}

// The experts that most rows meet: their way to the device costs the same as any other's.
void MissingExperts::choose_passing(double share) {
  by_rows_.assign(questions_.wanted().begin(), questions_.wanted().end());
  std::stable_sort(by_rows_.begin(), by_rows_.end(),
                   [](const WantedExpert& a, const WantedExpert& b) { return a.rows > b.rows; });
  const auto passing = static_cast<std::size_t>(std::lround(share * static_cast<double>(by_rows_.size())));
  for (std::size_t i = 0; i < by_rows_.size(); ++i) passes_[by_rows_[i].index] = i < passing ? 1 : 0;
}

Result<void> MissingExperts::answer(const ByLayer& step, std::span<const std::uint32_t> sequences,
                                    std::vector<SequenceFailure>& failures) {
  SIROCCO_CHECK(questions_.await_question(step.stream));
  take_question();
  questions_.answer();  // what it has asked stays there
  if (questions_.wanted().empty()) return {};
  choose_passing(step.share);
  prepare(sequences.size());
  const ExpertProducts::Layer asking = layer(sequences.size());
  products_.request(asking, questions_.wanted());
  // A thread of its own copies and enqueues, or the host would compute and the device wait by turns.
  std::future<Result<void>> sending;
  Result<void> sent;
  products_.compute(asking, {.failed =
                                 [&](ExpertId expert) {
                                   passes_[expert.index] = 0;
                                   questions_.fail_rows(expert.index, experts_.failure(expert), sequences, failures);
                                 },
                             .elsewhere = [&](ExpertId expert) { return passes_[expert.index] != 0; },
                             .begin =
                                 [&](std::span<const ExpertProducts::Weights> experts) {
                                   if (sent)
                                     sending = std::async(std::launch::async,
                                                          [this, &step, experts] { return send(step, experts); });
                                 },
                             .end =
                                 [&] {
                                   if (sending.valid()) sent = sending.get();
                                 }});
  SIROCCO_CHECK(sent);
  return copy_outputs(step);
}

Result<void> MissingExperts::send(const ByLayer& step, std::span<const ExpertProducts::Weights> experts) {
  const MoeSpec& moe = *model_->spec().moe;
  const std::uint32_t tile_rows = expert_tile_rows(step.shape.rows, moe.used, moe.experts);
  for (const ExpertProducts::Weights& one : experts) {
    const std::uint32_t e = one.expert.index;
    SIROCCO_CHECK(step.passing.send(step.forward, step.shape, tile_rows,
                                    {.expert = e, .first = questions_.first()[e], .count = questions_.rows_of(e)}, one,
                                    step.stream));
  }
  return {};
}

// Of the experts that the host has computed, and zeros of those that failed.
Result<void> MissingExperts::copy_outputs(const ByLayer& step) {
  const std::size_t width = model_->spec().width;
  for (const WantedExpert& expert : questions_.wanted()) {
    if (passes_[expert.index] != 0) continue;
    const std::size_t at = questions_.first()[expert.index] * width;
    SIROCCO_CHECK(checked(cudaMemcpyAsync(step.forward.expert_out() + at, mailbox_.out + at,
                                          expert.rows * width * sizeof(float), cudaMemcpyHostToDevice, step.stream),
                          "cudaMemcpyAsync of experts' outputs"));
  }
  return {};
}

}  // namespace sirocco::cuda
