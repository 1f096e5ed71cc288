// Any bytes as a configuration file: either a configuration whose values are possible, or errors with their places.
#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco::daemon;
  static constexpr std::array<std::string_view, 2> kBackends = {"ref", "cpu"};
  static constexpr std::array<std::string_view, 1> kIsas = {"avx2"};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // What follows a form feed, which no YAML of ours has, is a second file that is laid over the first.
  const std::size_t end = text.find('\f');
  std::vector<ConfigText> files = {{.name = "config", .text = std::string(text.substr(0, end))}};
  if (end != std::string_view::npos) files.push_back({.name = "config.d", .text = std::string(text.substr(end + 1))});
  const sirocco::Result<Config> config = parse_config(files, {.backends = kBackends, .isas = kIsas});
  if (!config) {
    if (!config.error().message().starts_with("config")) std::abort();
    return 0;
  }
  const std::uint32_t rows = config->engine.max_rows_per_step;
  if ((rows != 0 && config->engine.max_running > rows) || config->server.socket.empty() ||
      config->server.socket.size() > 107 || config->server.mode > 0777) {
    std::abort();
  }
  return 0;
}
