// The daemon's state as Prometheus metrics, from the report that answers Status. Units are in the names.
#pragma once

#include <string>

#include "engine/base/result.h"
#include "ipc/wire/messages.h"

namespace sirocco::daemon {

// In the text format of Prometheus.
std::string metrics_text(const wire::StatusReport& report);

// A file for node_exporter's textfile collector: replaced whole at each write, and removed at the end.
class MetricsFile {
 public:
  explicit MetricsFile(std::string path) : path_(std::move(path)) {}
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;
  ~MetricsFile();

  Result<void> write(const wire::StatusReport& report) const;

 private:
  const std::string path_;
};

}  // namespace sirocco::daemon
