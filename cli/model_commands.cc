#include "cli/model_commands.h"

#include <algorithm>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/backend_options.h"
#include "cli/model_fit.h"
#include "cli/model_inspect.h"
#include "cli/model_synth.h"
#include "cli/model_upcycle.h"
#include "cli/model_verify.h"
#include "cli/option_values.h"
#include "cli/output.h"

namespace sirocco {
namespace {

// Flags that contradict each other; returns the exit code.
int wrong_usage(std::string_view message) {
  report_failure(message);
  return 2;
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) fmt::print(stderr, "sirocco: {}\n", note);
}

// Where a command may write. A full disk shall be an error message, not SIGXFSZ's end of the program.
Result<void> prepare_output(const std::filesystem::path& output, bool force) {
  std::signal(SIGXFSZ, SIG_IGN);
  std::error_code ignored;
  const auto status = std::filesystem::symlink_status(output, ignored);
  if (!std::filesystem::exists(status)) return {};
  if (std::filesystem::is_directory(status)) {
    return fail(ErrorCode::io, "{}: is a directory; name a file in it", output.string());
  }
  // Renaming onto a link, a pipe or a device would put a file in its place.
  if (!std::filesystem::is_regular_file(status)) {
    return fail(ErrorCode::io, "{}: is no regular file and is not replaced; choose another name", output.string());
  }
  if (!force) return fail(ErrorCode::io, "{}: exists already; --force replaces it", output.string());
  return {};
}

int run_inspect(const std::string& path, bool json) {
  const auto file = GgufFile::open(path);
  if (!file) return report_failure(file.error());
  if (json)
    print_json(inspect_json(*file));
  else
    fmt::print("{}", inspect_text(*file));
  return 0;
}

struct VerifyFlags {
  std::string path;
  std::string sha256;  // lower case; empty: not asked for
  bool json = false;
};

// "tensor blk.0.ffn_up_exps.weight: expert 2, row 17, block 3: the scale is infinite or not a number"
std::string bad_text(const GgufFile& file, const BadBlock& bad) {
  const GgufTensor& tensor = *file.find(bad.tensor);
  const std::string expert = tensor.dimensions < 3 ? "" : fmt::format("expert {}, ", bad.row / tensor.shape[1]);
  const bool is_block = tensor_type_info(tensor.type)->block_size > 1;
  return fmt::format("tensor {}: {}row {}, {} {}: the {} is infinite or not a number", bad.tensor, expert,
                     tensor.dimensions < 3 ? bad.row : bad.row % tensor.shape[1], is_block ? "block" : "element",
                     bad.block, is_block ? "scale" : "value");
}

// Empty when everything is right.
std::vector<std::string> verify_problems(const GgufFile& file, const VerifyReport& report, const std::string& sha256) {
  constexpr std::size_t kListed = 10;
  std::vector<std::string> problems;
  if (!report.not_loadable.empty()) problems.push_back("it cannot be loaded: " + report.not_loadable);
  for (std::size_t i = 0; i < std::min(report.bad.size(), kListed); ++i)
    problems.push_back(bad_text(file, report.bad[i]));
  if (report.bad.size() > kListed) problems.push_back(fmt::format("and {} tensors more", report.bad.size() - kListed));
  if (report.sha256 != sha256) {
    problems.push_back(fmt::format("SHA-256 is {}, expected {}; fetch the file again", report.sha256, sha256));
  }
  return problems;
}

std::size_t part_index(const GgufFile& file) {
  const auto parts = file.parts();
  const auto found =
      std::find_if(parts.begin(), parts.end(), [&](const auto& part) { return part.path == file.path(); });
  return static_cast<std::size_t>(found - parts.begin());
}

int run_verify(const VerifyFlags& flags) {
  const auto file = GgufFile::open(flags.path);
  if (!file) return report_failure(file.error());
  const auto verified = verify_model(*file, flags.sha256.empty() ? std::nullopt : std::optional(part_index(**file)));
  if (!verified) return report_failure(verified.error());
  const std::vector<std::string> problems = verify_problems(**file, *verified, flags.sha256);
  if (flags.json) {
    nlohmann::ordered_json json = {
        {"path", flags.path}, {"ok", problems.empty()}, {"tensors", (*file)->tensors().size()}};
    if (!flags.sha256.empty()) json["sha256"] = verified->sha256;
    json["bad"] = nlohmann::ordered_json::array();
    for (const BadBlock& bad : verified->bad) {
      json["bad"].push_back({{"tensor", bad.tensor}, {"row", bad.row}, {"block", bad.block}});
    }
    json["problems"] = problems;
    json["trailing_bytes"] = verified->trailing_bytes;
    print_json(json);
  } else {
    if (problems.empty()) {
      fmt::print("{}: {} tensors, all whole and finite{}\n", flags.path, (*file)->tensors().size(),
                 flags.sha256.empty() ? "" : ", SHA-256 as expected");
    }
    if (verified->trailing_bytes > 0) {
      fmt::print("{}: {} bytes after the last tensor belong to nothing\n", flags.path, verified->trailing_bytes);
    }
  }
  for (const std::string& problem : problems) report_failure(flags.path + ": " + problem);
  return problems.empty() ? 0 : 1;
}

struct UpcycleFlags {
  std::string input;
  std::string output;
  UpcycleOptions options;
  bool force = false;
};

int run_upcycle(const UpcycleFlags& flags) {
  std::error_code ignored;
  if (flags.input == flags.output || std::filesystem::equivalent(flags.input, flags.output, ignored)) {
    return wrong_usage(flags.output + ": is the input too; name another output");
  }
  if (flags.options.used > flags.options.experts) {
    return wrong_usage(fmt::format("--used {} is more than --experts {}", flags.options.used, flags.options.experts));
  }
  const auto input = GgufFile::open(flags.input);
  if (!input) return report_failure(input.error());
  if (const auto ready = prepare_output(flags.output, flags.force); !ready) return report_failure(ready.error());
  print_notes(upcycle_notes(**input, flags.options));
  if (const auto done = upcycle_model(*input, flags.output, flags.options); !done) return report_failure(done.error());
  fmt::print("{}: {}\n", flags.output, format_bytes(std::filesystem::file_size(flags.output)));
  return 0;
}

struct SynthFlags {
  std::string output;
  std::string preset;
  std::string type = "Q4_K";
  std::uint32_t layers = 0;   // 0: all
  std::uint32_t experts = 0;  // 0: the preset's
  std::uint32_t used = 0;     // likewise
  std::uint64_t seed = 1;
  bool force = false;
};

// The preset, cut as the flags say.
Result<ModelPreset> chosen_preset(const SynthFlags& flags) {
  ModelPreset preset = *find_model_preset(flags.preset);
  if (flags.layers > preset.layers) {
    return fail(ErrorCode::invalid_argument, "--layers {}: {} has {}", flags.layers, preset.name, preset.layers);
  }
  if (flags.experts > 0 && preset.experts == 0) {
    return fail(ErrorCode::invalid_argument, "--experts {}: {} is a dense model", flags.experts, preset.name);
  }
  if (flags.layers > 0) preset.layers = flags.layers;
  if (flags.experts > 0) preset.experts = flags.experts;
  preset.experts_used = std::min(preset.experts_used, preset.experts);
  if (flags.used > preset.experts) {
    return fail(ErrorCode::invalid_argument, "--used {}: there are {} experts", flags.used, preset.experts);
  }
  if (flags.used > 0) preset.experts_used = flags.used;
  return preset;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const ModelPreset& preset : model_presets()) names.emplace_back(preset.name);
  return names;
}

std::vector<std::string> computable_types() {
  std::vector<std::string> names;
  for (const TensorTypeInfo& info : tensor_types()) {
    if (info.computable) names.emplace_back(info.name);
  }
  return names;
}

int run_synth(const SynthFlags& flags) {
  const auto preset = chosen_preset(flags);
  if (!preset) return wrong_usage(preset.error().message());
  const auto types = tensor_types();
  const TensorType type =
      std::find_if(types.begin(), types.end(), [&](const auto& t) { return t.name == flags.type; })->type;
  if (const auto ready = prepare_output(flags.output, flags.force); !ready) return report_failure(ready.error());
  print_notes(synth_notes(*preset, type));
  if (const auto done = synth_model(flags.output, *preset, type, flags.seed); !done)
    return report_failure(done.error());
  fmt::print("{}: {}\n", flags.output, format_bytes(std::filesystem::file_size(flags.output)));
  return 0;
}

// A path: required, and never "", which names nothing.
void add_path(CLI::App& command, const std::string& name, std::string& path, const std::string& help) {
  command.add_option(name, path, help)->required()->check([](const std::string& text) {
    return text.empty() ? "the name of a file is missing" : "";
  });
}

// Flags live as long as the command that fills them: its callback holds them.
void add_inspect(CLI::App& model, CommandContext& context) {
  auto* const command = model.add_subcommand("inspect", "Show what a model file holds and whether it can be served");
  const auto path = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  add_path(*command, "FILE", *path, "A GGUF file, or any part of a split one");
  command->add_flag("--json", *json, "One JSON document instead of text");
  command->callback([=, &context] { context.exit_code = run_inspect(*path, *json); });
}

void add_verify(CLI::App& model, CommandContext& context) {
  auto* const command = model.add_subcommand(
      "verify", "Read all of a model file: structure, finite scales, whether it can be loaded, SHA-256");
  const auto flags = std::make_shared<VerifyFlags>();
  add_path(*command, "FILE", flags->path, "A GGUF file, or any part of a split one");
  command->add_option("--sha256", flags->sha256, "The SHA-256 that FILE should have, 64 hexadecimal digits")
      ->transform([](const std::string& text) { return CLI::detail::to_lower(text); })
      ->check([](const std::string& text) {
        const bool is_hex = text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
        return is_hex && text.size() == 64 ? std::string() : text + " is not 64 hexadecimal digits";
      });
  command->add_flag("--json", flags->json, "One JSON document instead of text");
  command->callback([=, &context] { context.exit_code = run_verify(*flags); });
}

struct FitFlags {
  std::string path;
  std::string memory;
  std::string device_memory;
  EngineOptions engine;
  bool json = false;
};

int run_fit(FitFlags& flags) {
  if (!flags.memory.empty()) {
    const Result<std::uint64_t> bytes = parse_bytes(flags.memory);
    if (!bytes) return wrong_usage(bytes.error().message());
    flags.engine.memory_budget = *bytes;
  }
  if (!flags.device_memory.empty()) {
    const Result<std::uint64_t> bytes = parse_bytes(flags.device_memory);
    if (!bytes) return wrong_usage(bytes.error().message());
    flags.engine.device_memory = *bytes;
  }
  const Result<FitReport> report = fit_model(flags.path, flags.engine);
  if (!report) return report_failure(report.error());
  if (flags.json) {
    print_json(fit_json(*report));
  } else {
    fmt::print("{}", fit_text(*report));
  }
  return 0;
}

void add_fit(CLI::App& model, CommandContext& context) {
  auto* const command = model.add_subcommand(
      "fit", "Will a model run here, how much of it will be in memory, and how fast can it answer");
  const auto flags = std::make_shared<FitFlags>();
  add_path(*command, "FILE", flags->path, "GGUF file");
  command->add_option("--memory", flags->memory, "Memory budget, as 6GiB; what is free if not given")
      ->check(byte_size());
  command->add_option("--context", flags->engine.context, "Tokens of one conversation; the model's own if not given")
      ->check(whole_number(1, 1U << 20));
  add_device_option(*command, flags->device_memory);
  add_backend_options(*command, flags->engine.backend, flags->engine.isa, flags->engine.threads);
  command->add_flag("--json", flags->json, "One JSON document instead of text");
  command->callback([=, &context] { context.exit_code = run_fit(*flags); });
}

void add_upcycle(CLI::App& model, CommandContext& context) {
  auto* const command = model.add_subcommand(
      "upcycle",
      "Make a Mixtral-architecture model out of a dense llama one, for demos and tests.\n"
      "Each layer's feed-forward part is copied into every expert behind a router of fixed random weights. All "
      "experts\n"
      "compute the same function, so the model answers as the dense one does, no better, and needs more memory.\n"
      "Quantised blocks are copied as they are; every expert has its inner channels in another order.");
  const auto flags = std::make_shared<UpcycleFlags>();
  add_path(*command, "IN", flags->input, "A dense GGUF model of architecture llama");
  add_path(*command, "OUT", flags->output, "The model to write");
  command->add_option("--experts", flags->options.experts, "Experts in each layer")
      ->required()
      ->check(CLI::Range(1, 1024));
  command->add_option("--used", flags->options.used, "Experts that each token is sent to")
      ->required()
      ->check(CLI::Range(1, 1024));
  command
      ->add_option_function<std::string>(
          "--permute", [flags](const std::string& text) { flags->options.permute = text == "yes"; },
          "no: all experts are plain copies (default: yes)")
      ->check(CLI::IsMember({"yes", "no"}));
  command->add_option("--seed", flags->options.seed, "Of the router and the orders")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--force", flags->force, "Replace OUT if it exists");
  command->callback([=, &context] { context.exit_code = run_upcycle(*flags); });
}

void add_synth(CLI::App& model, CommandContext& context) {
  auto* const command = model.add_subcommand(
      "synth", "Make a model of random weights at a real model's dimensions, for benchmarks and tests");
  const auto flags = std::make_shared<SynthFlags>();
  add_path(*command, "OUT", flags->output, "The model to write");
  command->add_option("--preset", flags->preset, "Whose dimensions")->required()->check(CLI::IsMember(preset_names()));
  command->add_option("--layers", flags->layers, "Only so many layers")->check(CLI::Range(1, 1024));
  command
      ->add_option("--type", flags->type,
                   "Of the matrices; norms and routers are F32, with a K-quant embedding and output Q6_K")
      ->capture_default_str()
      ->check(CLI::IsMember(computable_types()));
  command->add_option("--seed", flags->seed, "Of the weights")->capture_default_str()->check(CLI::NonNegativeNumber);
  command->add_option("--experts", flags->experts, "Another number of experts than the preset's")
      ->check(CLI::Range(1, 1024));
  command->add_option("--used", flags->used, "Of them, that each token is sent to; the preset's number if not given")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--force", flags->force, "Replace OUT if it exists");
  command->callback([=, &context] { context.exit_code = run_synth(*flags); });
}

}  // namespace

void add_model_commands(CLI::App& app, CommandContext& context) {
  auto* const model = app.add_subcommand("model", "Look at, check and make model files");
  model->require_subcommand(1);
  add_inspect(*model, context);
  add_verify(*model, context);
  add_fit(*model, context);
  add_upcycle(*model, context);
  add_synth(*model, context);
}

}  // namespace sirocco
