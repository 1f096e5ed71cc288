#include "cli/status_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/bytes.h"

namespace sirocco {
namespace {

// Names come out of model files: an escape sequence in one must not reach the terminal.
std::string plain(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text;
}

std::string duration(std::uint64_t milliseconds) {
  const std::uint64_t seconds = milliseconds / 1000;
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
  return fmt::format("{} d {} h", seconds / 86400, seconds % 86400 / 3600);
}

// 134515008 -> "135 M"
std::string count(std::uint64_t number) {
  const auto value = static_cast<double>(number);
  if (value >= 1e9) return fmt::format("{:.3g} G", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.3g} M", value / 1e6);
  return fmt::format("{}", number);
}

std::string model_text(const wire::ModelCard& model) {
  std::string text = fmt::format("model      {}\n", plain(model.name));
  text += fmt::format("           {}, {} parameters, {}, {}\n", plain(model.architecture), count(model.parameters),
                      plain(model.quantisation), format_bytes(model.file_bytes));
  if (model.experts > 0)
    text += fmt::format("           {} experts, {} used for each token\n", model.experts, model.experts_used);
  text +=
      fmt::format("           context {} tokens, chat format {}, tokenizer {}\n", model.context,
                  model.chat_format.empty() ? "none (--raw only)" : plain(model.chat_format), plain(model.tokenizer));
  return text;
}

// In per cent; 0 of nothing.
double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string experts_text(const wire::ExpertReport& experts) {
  const std::uint64_t wanted = experts.hits + experts.misses;
  return fmt::format(
      "experts    {} of {} in memory{}, {:.1f} % of those wanted were there\n"
      "           {} read from disk ({}){}, {:.1f} s waited{}\n{}",
      experts.slots, experts.experts,
      experts.slots < experts.planned_slots ? fmt::format(" ({} planned)", experts.planned_slots) : "",
      share(experts.hits, wanted), format_bytes(experts.bytes_read), plain(experts.reads),
      experts.reading_ms == 0 ? ""
                              : fmt::format(" at {:.2f} GB/s", static_cast<double>(experts.bytes_read) / 1e6 /
                                                                   static_cast<double>(experts.reading_ms)),
      static_cast<double>(experts.waited_ms) / 1000,
      experts.failures == 0 ? "" : fmt::format(", {} reads failed", experts.failures),
      experts.skipped + experts.substituted == 0
          ? ""
          : fmt::format("           {} skipped, {} replaced: answers are not exact\n", experts.skipped,
                        experts.substituted));
}

std::string cache_text(const wire::CacheReport& cache) {
  return fmt::format(
      "KV cache   {} of {} tokens free, {} of texts that prompts may begin with; {} sessions\n"
      "           {} tokens of prompts were there, {} left for others\n{}",
      std::uint64_t{cache.available} * cache.block_tokens, std::uint64_t{cache.blocks} * cache.block_tokens,
      std::uint64_t{cache.cached} * cache.block_tokens, cache.sessions, cache.hit_tokens,
      cache.evicted_blocks * cache.block_tokens,
      cache.moved_out == 0 ? ""
                           : fmt::format("           moved out for realtime requests: {} times, {} now\n",
                                         cache.moved_out, format_bytes(cache.moved_out_bytes)));
}

std::string layers_text(const wire::ExpertReport& experts) {
  std::string text = "\nexperts by layer\n  layer  in memory  found there  evicted       read  waited\n";
  for (std::size_t i = 0; i < experts.layers.size(); ++i) {
    const wire::ExpertLayer& layer = experts.layers[i];
    text += fmt::format("  {:>5}  {:>9}  {:>9.1f} %  {:>7}  {:>9}  {:>5.1f}s\n", i, layer.slots,
                        share(layer.hits, layer.hits + layer.misses), layer.evictions, format_bytes(layer.bytes_read),
                        static_cast<double>(layer.waited_ms) / 1000);
  }
  return text;
}

std::string memory_text(const std::vector<wire::MemoryItem>& memory) {
  std::size_t width = 0;
  for (const wire::MemoryItem& item : memory) width = std::max(width, item.name.size());
  std::string text = "\nmemory plan\n";
  for (const wire::MemoryItem& item : memory)
    text += fmt::format("  {:<{}}  {:>9}  {}\n", plain(item.name), width, format_bytes(item.bytes), plain(item.note));
  return text;
}

std::string requests_text(const wire::StatusReport& report) {
  std::string text =
      fmt::format("\nrequests   {} running, {} queued, {} done, {} failed; {} connections\n", report.requests_running,
                  report.requests_queued, report.requests_done, report.requests_failed, report.connections);
  if (report.active.empty()) return text;
  text += fmt::format("  {:>8}  {:>6}  {:>8}  {:<11}  {:<8}  {:>7}  {:>9}  {:>8}  {:>8}  {:>8}\n", "request", "uid",
                      "pid", "class", "state", "prompt", "generated", "age", "queued", "tokens/s");
  for (const wire::ActiveRequest& request : report.active) {
    const auto seconds = static_cast<double>(request.age_ms - std::min(request.queued_ms, request.age_ms)) / 1000;
    text += fmt::format("  {:>8}  {:>6}  {:>8}  {:<11}  {:<8}  {:>7}  {:>9}  {:>6.1f} s  {:>6.1f} s  {:>8.1f}\n",
                        request.id, request.uid, request.pid, wire::priority_name(request.priority),
                        wire::request_state_name(request.state), request.prompt_tokens, request.generated,
                        static_cast<double>(request.age_ms) / 1000, static_cast<double>(request.queued_ms) / 1000,
                        seconds == 0 ? 0.0 : request.generated / seconds);
  }
  return text;
}

// Nothing where nothing is to be said.
std::string power_text(const wire::PowerReport& power) {
  std::string text;
  if (power.duty < 1) text += fmt::format("duty       steps take at most {:.0f} % of the time\n", 100 * power.duty);
  if (power.zone.empty()) return text;
  text += fmt::format("heat       {:.0f} °C ({}){}\n", power.celsius, plain(power.zone),
                      power.limit_celsius > 0 ? fmt::format(", limit {:.0f} °C", power.limit_celsius) : "");
  return text;
}

std::string device_text(const wire::DeviceReport& device) {
  std::string text = fmt::format("device     {} ({}), driver {}\n", plain(device.name), plain(device.architecture),
                                 device.driver.empty() ? "not known" : plain(device.driver));
  text += fmt::format("           {} of {}{} used, {} by this daemon\n", format_bytes(device.used_bytes),
                      format_bytes(device.memory_bytes), device.integrated ? " (the machine's)" : "",
                      format_bytes(device.arena_bytes));
  if (device.planned_slots != 0)
    text += fmt::format("           {} of {} experts in it{}, {:.1f} % of those wanted were there\n", device.slots,
                        device.experts,
                        device.slots < device.planned_slots ? fmt::format(" ({} planned)", device.planned_slots) : "",
                        share(device.hits, device.hits + device.misses));
  if (device.clock_mhz != 0)
    text += fmt::format("           {} of {} MHz{}\n", device.clock_mhz, device.max_clock_mhz,
                        device.throttled.empty() ? "" : fmt::format(", held down by {}", plain(device.throttled)));
  if (device.celsius != 0) text += fmt::format("           {:.0f} °C\n", device.celsius);
  if (!device.unknown.empty()) text += fmt::format("           not known: {}\n", plain(device.unknown));
  return text;
}

}  // namespace

std::string status_text(const wire::StatusReport& report, bool layers) {
  std::string text = fmt::format("siroccod {}: {}, up {}\n", plain(report.daemon_version),
                                 wire::state_name(report.state), duration(report.uptime_ms));
  for (const std::string& reason : report.reasons) text += fmt::format("  {}\n", plain(reason));
  text += '\n';
  text += report.model ? model_text(*report.model) : "model      none\n";
  text += fmt::format("backend    {} ({}), {} threads\n", plain(report.backend), plain(report.isa), report.threads);
  text += fmt::format("speed      prompts {:.1f} tokens/s, answers {:.1f} tokens/s\n", report.prefill_tokens_per_s,
                      report.decode_tokens_per_s);
  text += fmt::format("tokens     {} read, {} generated\n", report.tokens_prefilled, report.tokens_generated);
  if (report.cache) text += cache_text(*report.cache);
  if (report.device) text += device_text(*report.device);
  if (report.experts) text += experts_text(*report.experts);
  if (report.power) text += power_text(*report.power);
  if (report.memory_released) text += "at rest    the memory of experts is given back until the next request\n";
  if (!report.memory.empty()) text += memory_text(report.memory);
  if (layers && report.experts) text += layers_text(*report.experts);
  return text + requests_text(report);
}

}  // namespace sirocco
