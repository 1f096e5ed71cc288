#include "ipc/client/status_json.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace sirocco {
namespace {

nlohmann::ordered_json experts_json(const std::optional<wire::ExpertReport>& experts) {
  if (!experts) return nullptr;
  auto layers = nlohmann::ordered_json::array();
  for (const wire::ExpertLayer& layer : experts->layers)
    layers.push_back({{"slots", layer.slots},
                      {"hits", layer.hits},
                      {"misses", layer.misses},
                      {"evictions", layer.evictions},
                      {"bytes_read", layer.bytes_read},
                      {"waited_ms", layer.waited_ms}});
  return {{"slots", experts->slots},
          {"planned_slots", experts->planned_slots},
          {"experts", experts->experts},
          {"hits", experts->hits},
          {"misses", experts->misses},
          {"evictions", experts->evictions},
          {"bytes_read", experts->bytes_read},
          {"failures", experts->failures},
          {"waited_ms", experts->waited_ms},
          {"reading_ms", experts->reading_ms},
          {"reads", experts->reads},
          {"skipped", experts->skipped},
          {"substituted", experts->substituted},
          {"layers", std::move(layers)}};
}

nlohmann::ordered_json cache_json(const std::optional<wire::CacheReport>& cache) {
  if (!cache) return nullptr;
  return {{"blocks", cache->blocks},
          {"block_tokens", cache->block_tokens},
          {"available", cache->available},
          {"cached", cache->cached},
          {"hit_tokens", cache->hit_tokens},
          {"evicted_blocks", cache->evicted_blocks},
          {"sessions", cache->sessions},
          {"moved_out", cache->moved_out},
          {"moved_out_bytes", cache->moved_out_bytes}};
}

nlohmann::ordered_json power_json(const std::optional<wire::PowerReport>& power) {
  if (!power) return nullptr;
  return {{"duty", power->duty},
          {"zone", power->zone},
          {"celsius", power->celsius},
          {"limit_celsius", power->limit_celsius}};
}

nlohmann::ordered_json device_json(const std::optional<wire::DeviceReport>& device) {
  if (!device) return nullptr;
  return {{"name", device->name},
          {"driver", device->driver},
          {"architecture", device->architecture},
          {"integrated", device->integrated},
          {"memory_bytes", device->memory_bytes},
          {"used_bytes", device->used_bytes},
          {"arena_bytes", device->arena_bytes},
          {"slots", device->slots},
          {"planned_slots", device->planned_slots},
          {"experts", device->experts},
          {"hits", device->hits},
          {"misses", device->misses},
          {"clock_mhz", device->clock_mhz},
          {"max_clock_mhz", device->max_clock_mhz},
          {"celsius", device->celsius},
          {"throttled", device->throttled},
          {"unknown", device->unknown}};
}

}  // namespace

nlohmann::ordered_json status_json(const wire::StatusReport& report) {
  using Json = nlohmann::ordered_json;
  Json model = nullptr;
  if (report.model) {
    const wire::ModelCard& card = *report.model;
    model = {{"name", card.name},
             {"architecture", card.architecture},
             {"parameters", card.parameters},
             {"context", card.context},
             {"chat_format", card.chat_format},
             {"tokenizer", card.tokenizer},
             {"experts", card.experts},
             {"experts_used", card.experts_used},
             {"quantisation", card.quantisation},
             {"file_bytes", card.file_bytes}};
  }
  Json memory = Json::array();
  for (const wire::MemoryItem& item : report.memory)
    memory.push_back({{"name", item.name}, {"bytes", item.bytes}, {"note", item.note}});
  Json active = Json::array();
  for (const wire::ActiveRequest& request : report.active)
    active.push_back({{"id", request.id},
                      {"uid", request.uid},
                      {"pid", request.pid},
                      {"state", wire::request_state_name(request.state)},
                      {"prompt_tokens", request.prompt_tokens},
                      {"generated", request.generated},
                      {"priority", wire::priority_name(request.priority)},
                      {"age_ms", request.age_ms},
                      {"queued_ms", request.queued_ms}});
  return {{"daemon_version", report.daemon_version},
          {"state", wire::state_name(report.state)},
          {"reasons", report.reasons},
          {"model", std::move(model)},
          {"memory", std::move(memory)},
          {"requests_running", report.requests_running},
          {"requests_queued", report.requests_queued},
          {"requests_done", report.requests_done},
          {"requests_failed", report.requests_failed},
          {"tokens_prefilled", report.tokens_prefilled},
          {"tokens_generated", report.tokens_generated},
          {"prefill_tokens_per_s", report.prefill_tokens_per_s},
          {"decode_tokens_per_s", report.decode_tokens_per_s},
          {"uptime_ms", report.uptime_ms},
          {"backend", report.backend},
          {"isa", report.isa},
          {"threads", report.threads},
          {"connections", report.connections},
          {"active", std::move(active)},
          {"experts", experts_json(report.experts)},
          {"memory_released", report.memory_released},
          {"cache", cache_json(report.cache)},
          {"power", power_json(report.power)},
          {"device", device_json(report.device)}};
}

}  // namespace sirocco
