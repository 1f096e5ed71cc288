#include "cli/backend_options.h"

#include <vector>

#include "engine/backend/backend.h"

namespace sirocco {

void add_backend_options(CLI::App& command, std::string& backend, std::string& isa, std::size_t& threads) {
  std::vector<std::string> choices = {"auto"};
  for (const std::string_view name : backend_names()) choices.emplace_back(name);
  command.add_option("--backend", backend, "What computes")->check(CLI::IsMember(choices))->capture_default_str();
  std::vector<std::string> isas;
  for (const std::string_view name : isa_names()) isas.emplace_back(name);
  command.add_option("--isa", isa, "Instruction set of the cpu backend; the best if not given")
      ->check(CLI::IsMember(isas));
  command.add_option("--threads", threads, "0: one for each CPU that may be used")->capture_default_str();
}

}  // namespace sirocco
