// sirocco bench: tokens/s of prompts and answers on a model file, beside the bound that memory bandwidth sets.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/backend_options.h"
#include "cli/file_commands.h"
#include "cli/finite_logits.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/roofline.h"
#include "cli/route_trace.h"
#include "cli/timeline_report.h"
#include "cli/waiting.h"
#include "engine/base/cgroup.h"
#include "engine/base/printable.h"
#include "engine/engine.h"
#include "engine/experts/residency.h"
#include "engine/gguf/mapping_guard.h"

namespace sirocco {
namespace {

constexpr int kMemoryPasses = 5;
constexpr std::size_t kPeersVocabulary = 32'000;  // tests/bench/peers
constexpr std::uint32_t kTurnsAt = 7;             // of each position of --at
constexpr std::size_t kTimelineEvents = 1'000'000;

struct BenchOptions {
  std::string model;
  std::uint32_t prompt = 512;
  std::uint32_t generate = 128;
  std::uint32_t batch = 1;
  std::uint32_t repeat = 5;
  std::uint32_t rows = 512;
  std::vector<std::uint32_t> at;
  std::string memory;
  std::string device_memory;
  std::string trace;
  std::string route_trace;
  bool json = false;
  EngineOptions engine;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Sequences of made-up tokens on a backend, without a scheduler: what the hardware and the kernels give.
class BenchRun {
 public:
  // `timeline` may be null, and is stopped; it outlives this.
  static Result<BenchRun> create(const std::shared_ptr<const Model>& model, const BenchOptions& options,
                                 const EnginePlan& plan, Timeline* timeline) {
    BackendOptions backend = plan.backend;
    BenchRun run;
    run.timeline_ = timeline;
    if (!options.route_trace.empty()) {
      SIROCCO_TRY(const RouteTrace trace, read_route_trace(options.route_trace));
      SIROCCO_TRY(RouteTraceReplay replay, RouteTraceReplay::create(trace, model->spec()));
      run.replay_ = std::make_unique<RouteTraceReplay>(std::move(replay));
    }
    backend.instruments = {.timeline = timeline, .replay = run.replay_.get()};
    SIROCCO_TRY(run.residency_, make_residency(model, {.slots = plan.residency.slots,
                                                       .slot_bytes = plan.residency.slot_bytes,
                                                       .dense = plan.residency.dense_bytes != 0,
                                                       .policy = options.engine.eviction,
                                                       .foresight = options.engine.foresight,
                                                       .timeline = timeline,
                                                       .queue = nullptr}));
    SIROCCO_TRY(run.backend_, make_backend(run.residency_.model, *run.residency_.experts, backend));
    run.options_ = options;
    run.rows_per_step_ = backend.limits.rows;
    run.vocabulary_ = model->spec().vocabulary;
    run.logits_.resize(std::size_t{options.batch} * run.vocabulary_);
    const std::uint32_t blocks = backend.kv_blocks / options.batch;
    for (std::uint32_t sequence = 0; sequence < options.batch; ++sequence) {
      run.tables_.emplace_back(blocks);
      std::iota(run.tables_.back().begin(), run.tables_.back().end(), sequence * blocks);
    }
    // Spread over the vocabulary, the same in every run, and of the first sequence in tests/bench/peers. Sequences
    // differ: the same tokens would choose the same experts.
    const std::size_t prompt = std::max(options.prompt, 1U);
    run.tokens_.resize(options.batch * prompt);
    for (std::size_t i = 0; i < run.tokens_.size(); ++i)
      run.tokens_[i] = static_cast<TokenId>((1000 + 7919 * i) % std::min(run.vocabulary_, kPeersVocabulary));
    return run;
  }

  struct Speed {
    double prefill = 0;  // tokens/s of all sequences together
    double decode = 0;
    ExpertCounters prefill_experts;
    ExpertCounters decode_experts;
    Timeline::Totals prefill_time;  // if there is a timeline
    Timeline::Totals decode_time;
  };

  // On the timeline, if `trace`.
  Result<Speed> measure(bool trace) {
    if (trace) timeline_->start();
    const ExpertCounters before = counters();
    const Timeline::Totals time_before = time();
    const auto begin = std::chrono::steady_clock::now();
    SIROCCO_CHECK(prefill());
    const double prefill_seconds = seconds_since(begin);
    const Timeline::Totals prefill_time = time() - time_before;
    const ExpertCounters between = counters();
    // Of the sequence computed last: what is not a number spreads through the KV cache to all later logits.
    SIROCCO_CHECK(check_finite(std::span(logits_).first(vocabulary_), options_.prompt - 1, options_.model));
    const Timeline::Totals time_between = time();
    const auto middle = std::chrono::steady_clock::now();
    SIROCCO_CHECK(decode_all(options_.prompt));
    const double decode_seconds = seconds_since(middle);
    const Timeline::Totals decode_time = time() - time_between;
    if (trace) timeline_->stop();
    SIROCCO_CHECK(check_finite(logits_, options_.prompt + options_.generate - 1, options_.model));
    if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
    return Speed{.prefill = options_.batch * options_.prompt / prefill_seconds,
                 .decode = options_.batch * options_.generate / decode_seconds,
                 .prefill_experts = between - before,
                 .decode_experts = counters() - between,
                 .prefill_time = prefill_time,
                 .decode_time = decode_time};
  }

  // tokens/s of answers at each of those positions, taking turns. What they read was computed by measure().
  Result<std::vector<std::vector<double>>> measure_at(std::span<const std::uint32_t> positions) {
    std::vector<std::vector<double>> speeds(positions.size());
    for (std::uint32_t turn = 0; turn < kTurnsAt; ++turn) {
      for (std::size_t at = 0; at < positions.size(); ++at) {
        const auto begin = std::chrono::steady_clock::now();
        SIROCCO_CHECK(decode_all(positions[at]));
        speeds[at].push_back(options_.batch * options_.generate / seconds_since(begin));
      }
    }
    return speeds;
  }

  const Backend& backend() const { return *backend_; }

 private:
  BenchRun() = default;

  ExpertCounters counters() const {
    return residency_.slotted == nullptr ? ExpertCounters() : residency_.slotted->counters();
  }

  Timeline::Totals time() const { return timeline_ == nullptr ? Timeline::Totals() : timeline_->totals(); }

  Result<void> prefill() {
    const Timeline::Span span(timeline_, {.kind = Timeline::Kind::prefill});
    if (replay_) replay_->set(0, 0);
    for (std::uint32_t sequence = 0; sequence < options_.batch; ++sequence) SIROCCO_CHECK(prefill(sequence));
    return {};
  }

  std::span<const TokenId> tokens_of(std::uint32_t sequence) const {
    const std::size_t prompt = tokens_.size() / options_.batch;
    return std::span(tokens_).subspan(sequence * prompt, prompt);
  }

  Result<void> prefill(std::uint32_t of) {
    for (std::uint32_t position = 0; position < options_.prompt; position += rows_per_step_) {
      const std::uint32_t rows = std::min(rows_per_step_, options_.prompt - position);
      const bool last = position + rows == options_.prompt;
      const StepSequence sequence = {.tokens = tokens_of(of).subspan(position, rows),
                                     .position = position,
                                     .block_table = tables_[of],
                                     .logits = last ? WantLogits::last : WantLogits::none};
      const Step step = {.sequences = std::span(&sequence, 1)};
      SIROCCO_CHECK(backend_->step_all(step, std::span(logits_).first(step.logit_rows() * vocabulary_)));
    }
    return {};
  }

  // One answer, where the last one ended in a trace of routing.
  Result<void> decode_all(std::uint32_t position) {
    const Timeline::Span span(timeline_, {.kind = Timeline::Kind::decode});
    if (replay_) replay_->set(position, options_.prompt + decoded_);
    decoded_ += options_.generate;
    for (std::uint32_t i = 0; i < options_.generate; ++i) SIROCCO_CHECK(decode(position + i));
    return {};
  }

  Result<void> decode(std::uint32_t position) {
    std::vector<StepSequence> sequences;
    for (std::uint32_t i = 0; i < options_.batch; ++i) {
      const std::span<const TokenId> tokens = tokens_of(i);
      sequences.push_back({.tokens = tokens.subspan(position % tokens.size(), 1),
                           .position = position,
                           .block_table = tables_[i],
                           .logits = WantLogits::last,
                           .choice = TokenChoice()});
    }
    return backend_->step_all({.sequences = sequences}, logits_);
  }

  BenchOptions options_;
  Timeline* timeline_ = nullptr;
  std::unique_ptr<RouteTraceReplay> replay_;
  Residency residency_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::vector<BlockId>> tables_;  // of each sequence
  std::vector<TokenId> tokens_;               // [batch, prompt]
  std::vector<float> logits_;                 // [batch, vocabulary]
  std::uint32_t rows_per_step_ = 0;
  std::size_t vocabulary_ = 0;
  std::uint64_t decoded_ = 0;  // steps
};

// What a token reads of weights and KV cache, in the middle of an answer that begins at `position`.
std::uint64_t bytes_of_token(const Model& model, const BackendKind& kind, const BenchOptions& options,
                             const BackendOptions& backend, std::uint32_t position) {
  const ModelSpec& spec = model.spec();
  std::uint32_t positions = position + options.generate / 2;
  if (spec.window != 0) positions = std::min(positions, spec.window);
  return model.bytes_per_token() + kind.kv_block_bytes(spec, backend) / backend.kv_block_tokens * positions;
}

// What the machine can do, taking turns with what it bounds.
class Bounds {
 public:
  // device_memory: bytes per second, where the weights are not in the host's memory: it alone bounds.
  Bounds(const Kernels& kernels, ThreadPool& pool, std::optional<double> device_memory)
      : kernels_(kernels), pool_(pool), device_memory_(device_memory) {}

  void measure() {
    if (device_memory_) return;
    if (!roofline_) roofline_.emplace(kernels_, pool_);
    for (int pass = 0; pass < kMemoryPasses; ++pass) memory_.push_back(roofline_->read());
    if (const auto peak = roofline_->multiply()) peak_.push_back(*peak);
  }
  void release() { roofline_.reset(); }
  std::uint64_t bytes() const { return roofline_ ? bytes_beyond_caches() : 0; }  // that it holds

  double memory() const { return device_memory_ ? *device_memory_ : median(memory_); }
  std::optional<double> peak() const { return peak_.empty() ? std::nullopt : std::optional(median(peak_)); }

 private:
  const Kernels& kernels_;
  ThreadPool& pool_;
  std::optional<double> device_memory_;
  std::optional<Roofline> roofline_;
  std::vector<double> memory_;
  std::vector<double> peak_;
};

// The last run's timeline, written and summarised.
Result<nlohmann::ordered_json> report_timeline(const Timeline& timeline, const BenchRun::Speed& last, bool reads,
                                               const BenchOptions& options, std::ofstream& file) {
  write_chrome_trace(file, timeline,
                     {{"program", "sirocco " SIROCCO_VERSION},
                      {"model", options.model},
                      {"prompt", options.prompt},
                      {"generate", options.generate},
                      {"batch", options.batch}});
  file.close();
  if (!file) return fail(ErrorCode::io, "{}: cannot be written", options.trace);
  return nlohmann::ordered_json{{"file", options.trace},
                                {"events", timeline.events().size()},
                                {"events_left_out", timeline.left_out()},
                                {"prefill", phase_json(last.prefill_time, reads)},
                                {"decode", phase_json(last.decode_time, reads)}};
}

Result<nlohmann::ordered_json> bench(BenchOptions& options) {
  using Json = nlohmann::ordered_json;
  for (const std::uint32_t position : options.at) {
    if (position > options.prompt)
      return fail(ErrorCode::invalid_argument, "--at {}: the prompt has {} tokens (--prompt)", position,
                  options.prompt);
  }
  std::optional<Timeline> timeline;
  std::ofstream trace;
  if (!options.trace.empty()) {
    trace.open(options.trace);
    if (!trace) return fail(errno_code(errno), "{}: cannot be written: {}", options.trace, errno_message(errno));
    timeline.emplace(kTimelineEvents);
  }
  if (!options.memory.empty()) {
    SIROCCO_TRY(options.engine.memory_budget, parse_bytes(options.memory));
  }
  if (!options.device_memory.empty()) {
    SIROCCO_TRY(options.engine.device_memory, parse_bytes(options.device_memory));
  }
  SIROCCO_TRY(const auto model, Model::open(options.model));
  options.engine.context = options.prompt + options.generate;
  options.engine.max_running = options.batch;
  options.engine.max_rows_per_step = std::max(options.rows, options.batch);
  const std::uint32_t block = BackendOptions().kv_block_tokens;  // each sequence has whole blocks of its own
  options.engine.kv_tokens = std::uint64_t{options.batch} * ((options.engine.context + block - 1) / block * block);
  SIROCCO_TRY(const EnginePlan plan, plan_engine(model, options.engine));
  SIROCCO_TRY(const BackendKind* kind, choose_backend(*model, plan.backend));
  SIROCCO_TRY(const Kernels* kernels, host_kernels(plan.backend));
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options.engine.threads));
  const bool slotted = plan.residency.slots != 0;
  SIROCCO_TRY(const std::optional<double> device_memory, kind->memory_bandwidth());
  Bounds bounds(*kernels, pool, device_memory);
  if (slotted) {
    // There is no memory for both: bounds before and after.
    bounds.measure();
    bounds.release();
  }
  SIROCCO_TRY(BenchRun made, BenchRun::create(model, options, plan, timeline ? &*timeline : nullptr));
  std::optional<BenchRun> run(std::move(made));

  std::vector<double> prefill;
  std::vector<double> decode;
  std::vector<double> disk_runs;
  ExpertCounters prefill_experts;
  ExpertCounters decode_experts;
  BenchRun::Speed last;
  Waiting waiting("warming up");  // the first run maps pages in and starts threads
  for (std::uint32_t i = 0; i <= options.repeat; ++i) {
    if (!slotted) {
      bounds.measure();
    } else if (const auto disk = disk_bandwidth(options.model)) {
      disk_runs.push_back(*disk);
    }
    if (i > 0) waiting.now_for(fmt::format("run {} of {}", i, options.repeat));
    SIROCCO_TRY(const BenchRun::Speed speed, run->measure(timeline && i == options.repeat));
    if (i == 0) continue;
    last = speed;
    prefill.push_back(speed.prefill);
    decode.push_back(speed.decode);
    prefill_experts = prefill_experts + speed.prefill_experts;
    decode_experts = decode_experts + speed.decode_experts;
  }

  Json at = Json::array();
  if (!options.at.empty()) {
    waiting.now_for("answers at other positions");
    SIROCCO_TRY(const auto speeds, run->measure_at(options.at));
    for (std::size_t i = 0; i < speeds.size(); ++i)
      at.push_back({{"position", options.at[i]},
                    {"tokens_per_s", median(speeds[i])},
                    {"runs", speeds[i]},
                    {"bytes_per_token", bytes_of_token(*model, *kind, options, plan.backend, options.at[i])}});
  }

  const std::uint64_t resident = slotted ? resident_bytes() : resident_bytes() - bounds.bytes();
  const std::string backend(run->backend().name());
  const std::string isa(run->backend().isa());
  const std::string device(run->backend().device());
  const std::size_t threads = run->backend().threads();
  waiting.now_for("reading the disk");
  if (const auto disk = disk_bandwidth(options.model)) disk_runs.push_back(*disk);
  if (slotted) {
    run.reset();
    bounds.measure();
  }
  const double memory = bounds.memory();
  const double disk = disk_runs.empty() ? 0 : median(disk_runs);  // 0: not known
  const std::uint64_t touched = bytes_of_token(*model, *kind, options, plan.backend, options.prompt);
  const auto bytes_per_token = static_cast<double>(touched);
  const auto prefill_multiplies = static_cast<double>(model->sizes().layer_parameters);
  const std::optional<double> peak = bounds.peak();
  // Of one sequence: what it touches is read from memory, what is missing is also written there, from disk.
  const double runs = options.repeat * static_cast<double>(options.batch) * options.generate;
  const double expert_bytes =
      slotted ? static_cast<double>(model->sizes().expert_bytes) / (model->spec().layers * model->spec().moe->experts)
              : 0;
  const double missing = static_cast<double>(decode_experts.misses) * expert_bytes / runs;
  const double disk_seconds = missing == 0 || disk == 0 ? 0 : missing / disk;
  const double bound = 1 / std::max((bytes_per_token + missing) / memory, disk_seconds);
  Json experts = {{"hit_rate", decode_experts.hit_rate()},
                  {"bound_tokens_per_s", bound},
                  {"share_of_bound", median(decode) / options.batch / bound}};
  if (slotted) {
    experts["slots"] = plan.residency.slots;
    experts["eviction"] = options.engine.eviction;
    experts["bytes_missing_per_token"] = missing;
    experts["bytes_read_per_token"] = static_cast<double>(decode_experts.bytes_read) / runs;
    experts["foreseen"] = decode_experts.misses == 0 ? 0.0
                                                     : static_cast<double>(decode_experts.foreseen) /
                                                           static_cast<double>(decode_experts.misses);
    experts["skipped_per_token"] = static_cast<double>(decode_experts.skipped) / runs;
    experts["substituted_per_token"] = static_cast<double>(decode_experts.substituted) / runs;
    experts["waited_s"] = static_cast<double>(decode_experts.wait_ns) * 1e-9;
    experts["prefill_bytes_read"] = prefill_experts.bytes_read / options.repeat;
    experts["prefill_waited_s"] = static_cast<double>(prefill_experts.wait_ns) * 1e-9 / options.repeat;
    // The slower of the disk and of what is computed when nothing is waited for.
    const double tokens = static_cast<double>(options.batch) * options.prompt;
    const double computing = tokens / median(prefill) - experts["prefill_waited_s"].get<double>();
    const double reading = disk == 0 ? 0 : experts["prefill_bytes_read"].get<double>() / disk;
    experts["prefill_bound_tokens_per_s"] = tokens / std::max(computing, reading);
  }
  Json report = {
      {"model", options.model},
      {"backend", backend},
      {"isa", isa},
      {"device", device.empty() ? Json(nullptr) : Json(device)},
      {"threads", threads},
      {"batch", options.batch},
      {"lossy", options.engine.lossy.on()},
      {"prefill",
       {{"tokens", options.prompt},
        {"tokens_per_s", median(prefill)},
        {"runs", prefill},
        {"share_of_peak", peak ? Json(median(prefill) * prefill_multiplies / *peak) : Json(nullptr)}}},
      {"decode",
       {{"tokens", options.generate},
        {"tokens_per_s", median(decode)},
        {"runs", decode},
        {"bytes_per_token", touched},
        {"share_of_bandwidth", median(decode) / options.batch * bytes_per_token / memory}}},
      {"decode_at", at},
      {"bandwidth", {{"memory_gb_s", memory / 1e9}, {"disk_gb_s", disk != 0 ? Json(disk / 1e9) : Json(nullptr)}}},
      {"experts", experts},
      {"route_trace", options.route_trace.empty() ? Json(nullptr) : Json(options.route_trace)},
      {"resident_bytes", resident}};
  if (timeline) {
    SIROCCO_TRY(report["timeline"], report_timeline(*timeline, last, slotted, options, trace));
  }
  return report;
}

void print_text(const nlohmann::ordered_json& report) {
  const double decode = report["decode"]["tokens_per_s"];
  const double bound = report["experts"]["bound_tokens_per_s"];
  if (const auto& device = report["device"]; device.is_string())
    fmt::print("device   {}\n", printable(device.get<std::string>()));
  fmt::print("prompts  {:.1f} tokens/s ({} tokens, batch {})\n", report["prefill"]["tokens_per_s"].get<double>(),
             report["prefill"]["tokens"].get<int>(), report["batch"].get<int>());
  if (const auto& share = report["prefill"]["share_of_peak"]; share.is_number())
    fmt::print("         {:.0f} % of the processor's integer multiplications\n", 100 * share.get<double>());
  fmt::print("answers  {:.1f} tokens/s, {} read for each token\n", decode,
             format_bytes(report["decode"]["bytes_per_token"].get<std::uint64_t>()));
  for (const auto& at : report["decode_at"])
    fmt::print("         {:.1f} tokens/s at position {}, {} read for each token\n", at["tokens_per_s"].get<double>(),
               at["position"].get<int>(), format_bytes(at["bytes_per_token"].get<std::uint64_t>()));
  fmt::print("bound    {:.1f} tokens/s of one sequence at {:.1f} GB/s from memory; {:.0f} % of it reached\n", bound,
             report["bandwidth"]["memory_gb_s"].get<double>(), 100 * report["experts"]["share_of_bound"].get<double>());
  if (const auto& experts = report["experts"]; experts.contains("slots"))
    fmt::print("experts  {} in memory, {:.1f} % of those wanted were there, {} read for each token\n",
               experts["slots"].get<std::size_t>(), 100 * experts["hit_rate"].get<double>(),
               format_bytes(static_cast<std::uint64_t>(experts["bytes_read_per_token"].get<double>())));
  if (const auto& file = report["route_trace"]; file.is_string())
    fmt::print("routing  from {}, not the model's own\n", printable(file.get<std::string>()));
  if (report.contains("timeline")) fmt::print("{}", timeline_text(report["timeline"]));
  if (report["lossy"].get<bool>())
    fmt::print("lossy    {:.1f} skipped, {:.1f} replaced for each token of the answer\n",
               report["experts"].value("skipped_per_token", 0.0),
               report["experts"].value("substituted_per_token", 0.0));
  fmt::print("resident {}\n", format_bytes(report["resident_bytes"].get<std::uint64_t>()));
}

}  // namespace

void add_bench_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("bench", "Measure tokens/s on a model file, without a daemon");
  const auto options = std::make_shared<BenchOptions>();
  const CLI::Validator tokens = whole_number(1, 1U << 20);
  command->add_option("--model", options->model, "GGUF file")->required();
  command->add_option("--prompt", options->prompt, "Tokens of the prompt")->check(tokens)->capture_default_str();
  command->add_option("--generate", options->generate, "Tokens of the answer")->check(tokens)->capture_default_str();
  command->add_option("--batch", options->batch, "Sequences at once")
      ->check(whole_number(1, 64))
      ->capture_default_str();
  command->add_option("--rows", options->rows, "Most tokens of a prompt in one step")
      ->check(whole_number(1, 4096))
      ->capture_default_str();
  command->add_option("--at", options->at, "Measure answers at these positions of the prompt, too")->delimiter(',');
  add_kv_option(*command, options->engine.kv_type);
  command->add_option("--memory", options->memory, "Memory budget, as 6GiB; what is free if not given")
      ->check(byte_size());
  add_device_option(*command, options->device_memory);
  command->add_option("--eviction", options->engine.eviction, "Which expert leaves, where not all fit")
      ->check(one_of(std::vector<std::string>(policy_names().begin(), policy_names().end())))
      ->capture_default_str();
  CLI::Option* const foresight = command->add_flag(
      "--foresight", options->engine.foresight,
      "Read what the next layer of an answer probably wants while the disk is idle, where not all fit");
  add_lossy_options(*command, options->engine.lossy);
  add_backend_options(*command, options->engine.backend, options->engine.isa, options->engine.threads);
  command->add_flag("--pin-threads", options->engine.pin_threads, "Each thread on a CPU of its own");
  command->add_option("--repeat", options->repeat, "Runs that count; one goes before them")
      ->check(whole_number(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--trace", options->trace,
                   "Write a timeline of the last run to this file, for chrome://tracing or Perfetto: what the engine "
                   "thread does, its waits, and the reads")
      ->check(not_empty());
  command
      ->add_option(
          "--route-trace", options->route_trace,
          "Take the experts from this CSV file (turn,phase,step,layer,expert) instead of the model's routers, "
          "which are random in made-up models: a prompt's from its beginning, answers' from there on, each run "
          "going on where the last one stopped, and again from the beginning at its end")
      ->check(not_empty())
      ->excludes(foresight);
  command->add_flag("--json", options->json, "Print one JSON document");
  command->callback([options, &context] {
    const Result<nlohmann::ordered_json> report = bench(*options);
    if (!report) {
      context.exit_code = report_failure(report.error());
    } else if (options->json) {
      print_json(*report);
    } else {
      print_text(*report);
    }
  });
}

}  // namespace sirocco
