#include "cli/backend_options.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/option_values.h"
#include "engine/backend/backend.h"
#include "engine/base/thread_pool.h"

namespace sirocco {
namespace {

constexpr std::array<std::pair<std::string_view, TensorType>, 3> kKvTypes = {
    {{"f16", TensorType::f16}, {"f32", TensorType::f32}, {"q8_0", TensorType::q8_0}}};

}  // namespace

void add_backend_options(CLI::App& command, std::string& backend, std::string& isa, std::size_t& threads) {
  std::vector<std::string> choices = {"auto"};
  for (const std::string_view name : backend_names()) choices.emplace_back(name);
  command.add_option("--backend", backend, fmt::format("What computes: {}", fmt::join(choices, ", ")))
      ->check(one_of(choices))
      ->capture_default_str();
  std::vector<std::string> isas = {"auto"};
  for (const std::string_view name : isa_names()) isas.emplace_back(name);
  command.add_option("--isa", isa, fmt::format("Instruction set of the cpu backend: {}", fmt::join(isas, ", ")))
      ->check(one_of(isas))
      ->capture_default_str();
  command
      .add_option("--threads", threads,
                  fmt::format("At most {}; 0: one for each CPU that may be used", ThreadPool::kMaxThreads))
      ->check(whole_number(0, ThreadPool::kMaxThreads))
      ->capture_default_str();
}

void add_device_option(CLI::App& command, std::string& bytes) {
  command.add_option("--device-memory", bytes, "Of the GPU's memory, as 20GiB; what is free there if not given")
      ->check(byte_size());
}

void add_kv_option(CLI::App& command, TensorType& type) {
  std::vector<std::string> names;
  std::string preset;
  for (const auto& [name, value] : kKvTypes) {
    names.emplace_back(name);
    if (value == type) preset = name;
  }
  const std::string help = fmt::format("Type of the KV cache: {}", fmt::join(names, ", "));
  command
      .add_option_function<std::string>(
          "--kv",
          [&type](const std::string& given) {
            for (const auto& [name, value] : kKvTypes)
              if (name == given) type = value;
          },
          help)
      ->check(one_of(std::move(names)))
      ->default_str(preset);
}

void add_lossy_options(CLI::App& command, LossyOptions& options) {
  command
      .add_option("--lossy-skip-below", options.skip_below,
                  "Not exact: skip experts that are not in memory if their share of the routing weight is below this")
      ->check(fraction())
      ->capture_default_str();
  command.add_flag("--lossy-substitute", options.substitute,
                   "Not exact: replace experts that are not in memory, but for a token's strongest, by others");
}

}  // namespace sirocco
