// Where log lines go: standard error; the journal's own socket where that is the journal (journal.h); or a file that
// SIGHUP opens again for logrotate. Any thread logs through spdlog's default logger, which is set once and never
// exchanged: what changes is the file behind it, under its own lock.
#pragma once

#include <memory>

#include "daemon/config.h"
#include "engine/base/result.h"

namespace sirocco::daemon {

class Log {
 public:
  // Becomes the program's log, before there are threads that use it. Error: the file cannot be opened.
  static Result<Log> open(const LogConfig& config);

  // Neither the journal nor a file.
  bool is_standard_error() const { return !file_ && !journal_; }

  // From any thread.
  static void set_level(LogLevel level);

  // Opens the file again by its name; on failure the old one stays in use and gets the error. From any thread.
  void reopen();

 private:
  class File;
  std::shared_ptr<File> file_;  // shared with the logger; null: none
  bool journal_ = false;
};

}  // namespace sirocco::daemon
