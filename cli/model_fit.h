// Will a model run here, and how fast? The memory plan, and what this machine's memory and disk allow.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "engine/engine.h"

namespace sirocco {

struct FitReport {
  std::shared_ptr<const Model> model;
  EnginePlan plan;
  bool in_device = false;      // all of it, or all but some experts, in a GPU's memory
  double memory = 0;           // bytes per second, of the device's if it is there
  double host_memory = 0;      // where the host computes the experts that the device has not
  std::optional<double> disk;  // likewise; nothing where the file system knows no O_DIRECT

  // If `hit_rate` of the experts wanted are in memory, or in the device's slots: tokens/s of one sequence that memory
  // and disk allow.
  double tokens_per_s(double hit_rate) const;
  double share() const;  // of the experts, likewise: the hit rate if each is as likely as any other
};

// The hit rate to expect of a model that favours some experts, as most do, with that share of them in memory.
double favoured_hit_rate(double share);

// Measures for about a second. Error: a file that is no model, a budget that is too small.
Result<FitReport> fit_model(const std::string& path, const EngineOptions& options);
std::string fit_text(const FitReport& report);
nlohmann::ordered_json fit_json(const FitReport& report);

}  // namespace sirocco
