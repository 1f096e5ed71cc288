// Any bytes as a configuration file: either a configuration whose values are possible, or errors with their places.
#include <array>
#include <cstdlib>
#include <string_view>

#include "daemon/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco::daemon;
  static constexpr std::array<std::string_view, 2> kBackends = {"ref", "cpu"};
  static constexpr std::array<std::string_view, 1> kIsas = {"avx2"};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const sirocco::Result<Config> config = parse_config(text, "config", {.backends = kBackends, .isas = kIsas});
  if (!config) {
    if (!config.error().message().starts_with("config:")) std::abort();
    return 0;
  }
  const std::uint32_t rows = config->engine.max_rows_per_step;
  if ((rows != 0 && config->engine.max_running > rows) || config->server.socket.empty() ||
      config->server.socket.size() > 107 || config->server.mode > 0777) {
    std::abort();
  }
  return 0;
}
