// sirocco logits: what the model says comes after given tokens. The yardstick of tests.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "cli/backend_options.h"
#include "cli/file_commands.h"
#include "cli/finite_logits.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/waiting.h"
#include "engine/evaluate.h"

namespace sirocco {
namespace {

struct LogitsOptions {
  std::string model;
  std::string tokens;
  bool all = false;
  bool json = false;
  EvaluateOptions evaluate;
};

// Written row by row: all logits of a long text would not fit in memory as a JSON document.
void print_row(bool first, std::uint32_t position, std::span<const float> logits) {
  fmt::memory_buffer out;
  fmt::format_to(std::back_inserter(out), "{}{{\"position\": {}, \"logits\": [", first ? "" : ", ", position);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (i > 0) out.append(std::string_view(", "));
    fmt::format_to(std::back_inserter(out), "{}", logits[i]);  // the shortest digits that read back as the same float
  }
  out.append(std::string_view("]}"));
  fmt::print("{}", std::string_view(out.data(), out.size()));
}

Result<void> logits(LogitsOptions& options) try {
  SIROCCO_TRY(const auto model, Model::open(options.model));
  SIROCCO_TRY(const std::vector<TokenId> tokens, parse_token_ids(options.tokens));
  options.evaluate.context = static_cast<std::uint32_t>(tokens.size());
  SIROCCO_TRY(Evaluation evaluation, Evaluation::create(model, options.evaluate));

  // Nothing is printed before the first row: an error on the way there leaves standard output empty.
  bool first = true;
  Result<void> finite;  // after the first row that is not, no more are printed
  Waiting waiting(fmt::format("computing the logits of {} tokens", tokens.size()));
  SIROCCO_CHECK(evaluation.extend(tokens, options.all, [&](std::uint32_t position, std::span<const float> row) {
    waiting.done();
    if (finite) finite = check_finite(row, position, options.model);
    if (!finite) return;
    if (first && options.json) fmt::print("{{\"vocab\": {}, \"rows\": [", row.size());
    if (options.json) {
      print_row(first, position, row);
    } else {
      const auto best = std::max_element(row.begin(), row.end());
      fmt::print("position {}: token {} is the likeliest, logit {}\n", position, best - row.begin(), *best);
    }
    first = false;
  }));
  SIROCCO_CHECK(finite);
  const std::uint64_t lossy = evaluation.counters().skipped + evaluation.counters().substituted;
  if (options.json) fmt::print("], \"lossy_experts\": {}}}\n", lossy);
  if (!options.json && lossy != 0) fmt::print("{} experts were skipped or replaced: not exact\n", lossy);
  return {};
} catch (const std::bad_alloc&) {
  return fail(ErrorCode::out_of_memory, "{}: not enough memory to compute so many tokens with this model",
              options.model);
}

}  // namespace

void add_logits_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("logits", "Compute the logits after given tokens, without a daemon");
  const auto options = std::make_shared<LogitsOptions>();
  command->add_option("--model", options->model, "GGUF file")->required();
  command->add_option("--tokens", options->tokens, "Ids, separated by commas; no BOS is added")
      ->check(token_ids())
      ->required();
  command->add_flag("--all", options->all, "The logits of every position, not of the last alone");
  add_backend_options(*command, options->evaluate.backend, options->evaluate.isa, options->evaluate.threads);
  options->evaluate.kv_type = TensorType::f32;
  add_kv_option(*command, options->evaluate.kv_type);
  command->add_option("--rows", options->evaluate.rows_per_step, "Most tokens in one step")
      ->check(whole_number(1, 4096))
      ->capture_default_str();
  command->add_option("--slots", options->evaluate.slots, "Experts in memory, the others are read from disk; 0: all")
      ->check(whole_number(0, 1U << 24))
      ->capture_default_str();
  add_lossy_options(*command, options->evaluate.lossy);
  command->add_flag("--json", options->json,
                    R"(Print {"vocab": V, "rows": [{"position": P, "logits": [...]}], "lossy_experts": N})");
  command->callback([options, &context] {
    if (const Result<void> done = logits(*options); !done) context.exit_code = report_failure(done.error());
  });
}

}  // namespace sirocco
