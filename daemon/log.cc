#include "daemon/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

namespace sirocco::daemon {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return spdlog::level::trace;
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

Result<void> open_log(const LogConfig& config) {
  spdlog::sink_ptr sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  if (!config.file.empty()) {
    try {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(config.file);
    } catch (const spdlog::spdlog_ex& error) {
      return fail(ErrorCode::io, "log.file: {}", error.what());
    }
  }
  const auto logger = std::make_shared<spdlog::logger>("siroccod", std::move(sink));
  logger->set_level(level_of(config.level));
  logger->flush_on(spdlog::level::info);
  // The journal has its own clock.
  const bool journal = config.file.empty() && std::getenv("JOURNAL_STREAM") != nullptr;
  logger->set_pattern(journal ? "%l: %v" : "%Y-%m-%dT%H:%M:%S.%e %l: %v");
  spdlog::set_default_logger(logger);
  return {};
}

void reopen_log(const LogConfig& config) {
  if (const auto opened = open_log(config); !opened) {
    spdlog::error("SIGHUP: {}", opened.error().message());
  } else {
    spdlog::info("SIGHUP: log opened again");
  }
}

}  // namespace sirocco::daemon
