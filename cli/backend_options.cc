#include "cli/backend_options.h"

#include <fmt/format.h>

#include <vector>

#include "cli/option_values.h"
#include "engine/backend/backend.h"
#include "engine/base/thread_pool.h"

namespace sirocco {

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

}  // namespace sirocco
