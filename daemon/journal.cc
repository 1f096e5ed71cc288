#define SD_JOURNAL_SUPPRESS_LOCATION  // the place in our source tells an administrator nothing
#include "daemon/journal.h"

#include <fmt/format.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#include <cstdio>
#include <memory>

namespace sirocco::daemon {
namespace {

int priority_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return LOG_DEBUG;
    case spdlog::level::warn:
      return LOG_WARNING;
    case spdlog::level::err:
      return LOG_ERR;
    case spdlog::level::critical:
      return LOG_CRIT;
    default:
      return LOG_INFO;
  }
}

// sd_journal_sendv may be called from any thread.
class JournalSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    const std::vector<std::string> fields = journal_fields(message.level, text, event_being_logged());
    std::vector<iovec> vectors;
    for (const std::string& field : fields)
      vectors.push_back({.iov_base = const_cast<char*>(field.data()), .iov_len = field.size()});
    if (sd_journal_sendv(vectors.data(), static_cast<int>(vectors.size())) == 0) return;
    // Its socket is not there (a sandbox, a restart of journald), but standard error is its stream: with the level
    // before the line, as that takes it.
    fmt::print(stderr, "<{}>{}\n", priority_of(message.level), text);
  }
  void flush_() override {}
};

}  // namespace

bool is_journal(int descriptor, const char* stream) {
  if (stream == nullptr) return false;
  unsigned long long device = 0;
  unsigned long long inode = 0;
  struct stat found = {};
  return std::sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(descriptor, &found) == 0 &&
         found.st_dev == device && found.st_ino == inode;
}

std::vector<std::string> journal_fields(spdlog::level::level_enum level, std::string_view message,
                                        const LoggedEvent* event) {
  std::vector<std::string> fields = {fmt::format("MESSAGE={}", message),
                                     fmt::format("PRIORITY={}", priority_of(level))};
  if (event == nullptr) return fields;
  fields.push_back(fmt::format("MESSAGE_ID={}", event->event.message_id));
  for (const LogField& field : event->fields) fields.push_back(fmt::format("{}={}", field.name, field.value));
  return fields;
}

spdlog::sink_ptr journal_sink() {
  return std::make_shared<JournalSink>();
}

}  // namespace sirocco::daemon
