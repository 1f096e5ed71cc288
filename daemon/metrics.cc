#include "daemon/metrics.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <utility>
#include <vector>

namespace sirocco::daemon {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

class Families {
 public:
  void gauge(std::string name, std::string help, double value) { gauge(std::move(name), std::move(help), {}, value); }
  void counter(std::string name, std::string help, std::uint64_t value) {
    counter(std::move(name), std::move(help), {}, static_cast<double>(value));
  }
  void gauge(std::string name, std::string help, ClientMetric::Label label, double value) {
    add(MetricType::Gauge, std::move(name), std::move(help), std::move(label)).gauge.value = value;
  }
  void counter(std::string name, std::string help, ClientMetric::Label label, double value) {
    add(MetricType::Counter, std::move(name), std::move(help), std::move(label)).counter.value = value;
  }
  const std::vector<MetricFamily>& all() const { return families_; }

 private:
  // To the family of the one before, if that has the same name.
  ClientMetric& add(MetricType type, std::string name, std::string help, ClientMetric::Label label) {
    if (families_.empty() || families_.back().name != name)
      families_.push_back({.name = std::move(name), .help = std::move(help), .type = type, .metric = {}});
    ClientMetric& metric = families_.back().metric.emplace_back();
    if (!label.name.empty()) metric.label.push_back(std::move(label));
    return metric;
  }
  std::vector<MetricFamily> families_;
};

void add_experts(Families& families, const wire::ExpertReport& experts) {
  families.gauge("sirocco_expert_slots", "Experts that the memory holds", experts.slots);
  families.gauge("sirocco_expert_slots_planned", "Experts that the memory budget buys room for", experts.planned_slots);
  families.gauge("sirocco_experts", "Experts of the model", experts.experts);
  families.counter("sirocco_expert_hits_total", "Experts that a layer wanted and that were in memory", experts.hits);
  families.counter("sirocco_expert_misses_total", "Experts that a layer wanted and that had to be read",
                   experts.misses);
  families.counter("sirocco_expert_evictions_total", "Experts that left for others", experts.evictions);
  families.counter("sirocco_expert_read_bytes_total", "Read from disk", experts.bytes_read);
  families.counter("sirocco_expert_read_failures_total", "Reads given up", experts.failures);
  families.counter("sirocco_expert_wait_seconds_total", "For which steps waited for reads", {},
                   static_cast<double>(experts.waited_ms) / 1000);
  families.counter("sirocco_expert_reading_seconds_total", "For which reads were under way", {},
                   static_cast<double>(experts.reading_ms) / 1000);
}

void add_cache(Families& families, const wire::CacheReport& cache) {
  families.gauge("sirocco_kv_blocks", "Blocks of the KV cache", cache.blocks);
  families.gauge("sirocco_kv_blocks_available", "Of them, free or dropped when they are needed", cache.available);
  families.gauge("sirocco_kv_blocks_cached", "Of them, with a text that a prompt may begin with", cache.cached);
  families.counter("sirocco_cached_prompt_tokens_total", "Tokens of prompts that had been computed before",
                   cache.hit_tokens);
  families.counter("sirocco_kv_evictions_total", "Blocks with a text that were dropped for others",
                   cache.evicted_blocks);
  families.gauge("sirocco_sessions", "Sessions in memory", cache.sessions);
  families.counter("sirocco_kv_moved_out_total", "Requests whose KV made room for a realtime one", cache.moved_out);
  families.gauge("sirocco_kv_moved_out_bytes", "Of their KV, that lies on disk",
                 static_cast<double>(cache.moved_out_bytes));
}

void add_power(Families& families, const wire::PowerReport& power) {
  families.gauge("sirocco_duty", "Share of the time that steps may take", power.duty);
  if (power.zone.empty()) return;
  families.gauge("sirocco_temperature_celsius", "Of the thermal zone that is closest to its limit",
                 {.name = "zone", .value = power.zone}, power.celsius);
  if (power.limit_celsius > 0)
    families.gauge("sirocco_temperature_limit_celsius", "From which on the duty is power.hot_duty",
                   {.name = "zone", .value = power.zone}, power.limit_celsius);
}

// What is not known is left out.
void add_device(Families& families, const wire::DeviceReport& device) {
  families.gauge("sirocco_device_memory_bytes", "That the GPU has", static_cast<double>(device.memory_bytes));
  families.gauge("sirocco_device_memory_used_bytes", "Of it, by everybody", static_cast<double>(device.used_bytes));
  families.gauge("sirocco_device_arena_bytes", "Of it, by the daemon", static_cast<double>(device.arena_bytes));
  if (device.planned_slots != 0) {
    families.gauge("sirocco_device_expert_slots", "Experts that the GPU's memory holds", device.slots);
    families.gauge("sirocco_device_expert_slots_planned", "Experts that its plan has room for", device.planned_slots);
    families.counter("sirocco_device_expert_hits_total", "Experts that a layer wanted and that were there",
                     device.hits);
    families.counter("sirocco_device_expert_misses_total", "Experts that a layer wanted and that were not there",
                     device.misses);
  }
  if (device.celsius != 0) families.gauge("sirocco_device_temperature_celsius", "Of the GPU", device.celsius);
  if (device.clock_mhz == 0) return;
  families.gauge("sirocco_device_clock_hertz", "Of the GPU's processors", 1e6 * device.clock_mhz);
  families.gauge("sirocco_device_throttled", "1 while the GPU's clock is held down", device.throttled.empty() ? 0 : 1);
}

}  // namespace

std::string metrics_text(const wire::StatusReport& report) {
  Families families;
  for (const auto state : {wire::State::starting, wire::State::ready, wire::State::degraded, wire::State::draining,
                           wire::State::no_model, wire::State::failed})
    families.gauge("sirocco_state", "1 for the state that the daemon is in",
                   {.name = "state", .value = std::string(wire::state_name(state))}, report.state == state ? 1 : 0);
  families.gauge("sirocco_degraded_reasons", "Things that do not work as well as they should",
                 static_cast<double>(report.reasons.size()));
  families.gauge("sirocco_uptime_seconds", "Since the start", static_cast<double>(report.uptime_ms) / 1000);
  families.gauge("sirocco_connections", "Clients connected", report.connections);
  families.gauge("sirocco_requests_running", "Requests being computed", report.requests_running);
  families.gauge("sirocco_requests_queued", "Requests that wait", report.requests_queued);
  families.counter("sirocco_requests_total", "Requests that have ended", {.name = "ending", .value = "done"},
                   static_cast<double>(report.requests_done));
  families.counter("sirocco_requests_total", "Requests that have ended", {.name = "ending", .value = "error"},
                   static_cast<double>(report.requests_failed));
  families.counter("sirocco_prompt_tokens_total", "Tokens of prompts computed", report.tokens_prefilled);
  families.counter("sirocco_generated_tokens_total", "Tokens of answers", report.tokens_generated);
  families.gauge("sirocco_prompt_tokens_per_second", "Recent speed of prompts", report.prefill_tokens_per_s);
  families.gauge("sirocco_generated_tokens_per_second", "Recent speed of answers", report.decode_tokens_per_s);
  if (!report.memory.empty())
    families.gauge("sirocco_memory_budget_bytes", "What everything may take together",
                   static_cast<double>(report.memory.front().bytes));
  families.gauge("sirocco_memory_released", "1 while the memory of experts is given back because nobody asks",
                 report.memory_released ? 1 : 0);
  if (report.experts) add_experts(families, *report.experts);
  if (report.cache) add_cache(families, *report.cache);
  if (report.power) add_power(families, *report.power);
  if (report.device) add_device(families, *report.device);
  return prometheus::TextSerializer().Serialize(families.all());
}

MetricsFile::~MetricsFile() {
  unlink(path_.c_str());
}

Result<void> MetricsFile::write(const wire::StatusReport& report) const {
  const std::string written = path_ + ".new";
  std::ofstream out(written, std::ios::trunc);
  out << metrics_text(report);
  out.close();
  if (!out || std::rename(written.c_str(), path_.c_str()) != 0)
    return fail(errno_code(errno), "{}: the metrics cannot be written (metrics.file): {}", path_, errno_message(errno));
  return {};
}

}  // namespace sirocco::daemon
