#include "daemon/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>

#include "daemon/journal.h"

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

// spdlog's own file sink cannot change its file while threads write to it.
class Log::File final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit File(std::string path) : path_(std::move(path)) {}

  Result<void> open() {
    Stream opened(std::fopen(path_.c_str(), "ae"));
    if (!opened) return fail(errno_code(errno), "log.file: {}: {}", path_, errno_message(errno));
    const std::lock_guard lock(mutex_);
    stream_ = std::move(opened);
    return {};
  }

 private:
  struct Close {
    void operator()(std::FILE* stream) const { std::fclose(stream); }
  };
  using Stream = std::unique_ptr<std::FILE, Close>;

  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (std::fwrite(line.data(), 1, line.size(), stream_.get()) != line.size())
      throw spdlog::spdlog_ex("log.file: " + path_, errno);  // the logger says so on standard error
  }
  void flush_() override { std::fflush(stream_.get()); }

  const std::string path_;
  Stream stream_;
};

Result<Log> Log::open(const LogConfig& config) {
  Log log;
  spdlog::sink_ptr sink;
  if (config.file.empty() && is_journal(STDERR_FILENO, std::getenv("JOURNAL_STREAM"))) {
    log.journal_ = true;
    sink = journal_sink();
  } else if (config.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    log.file_ = std::make_shared<File>(config.file);
    SIROCCO_CHECK(log.file_->open());
    sink = log.file_;
  }
  const auto logger = std::make_shared<spdlog::logger>("siroccod", std::move(sink));
  logger->set_level(level_of(config.level));
  logger->flush_on(spdlog::level::info);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l: %v");
  spdlog::set_default_logger(logger);
  return log;
}

void Log::set_level(LogLevel level) {
  spdlog::set_level(level_of(level));
}

void Log::reopen() {
  if (!file_) return;
  if (const auto opened = file_->open(); !opened) {
    spdlog::error("SIGHUP: {}; the old file stays in use", opened.error().message());
  } else {
    spdlog::info("SIGHUP: log opened again");
  }
}

}  // namespace sirocco::daemon
