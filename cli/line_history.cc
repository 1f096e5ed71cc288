#include "cli/line_history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <system_error>

namespace sirocco {
namespace {

// Files and folders made meanwhile are the owner's alone.
class PrivateFiles {
 public:
  PrivateFiles() = default;
  ~PrivateFiles() { umask(before_); }
  PrivateFiles(const PrivateFiles&) = delete;
  PrivateFiles& operator=(const PrivateFiles&) = delete;

 private:
  mode_t before_ = umask(0077);
};

// Replaced as a whole: another chat reads either the old or the new one.
void rewrite(const std::filesystem::path& path, const std::vector<std::string>& lines) {
  const PrivateFiles files;
  const std::filesystem::path next = path.string() + ".new";
  std::ofstream stream(next, std::ios::binary | std::ios::trunc);
  for (const std::string& line : lines) stream << line << '\n';
  stream.close();
  std::error_code ignored;  // a history that grows is no reason to stop
  if (stream) std::filesystem::rename(next, path, ignored);
}

}  // namespace

std::filesystem::path history_path() {
  // A relative XDG_STATE_HOME is invalid and to be ignored (XDG Base Directory Specification).
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return std::filesystem::path(state) / "sirocco" / "history";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::filesystem::path(home) / ".local" / "state" / "sirocco" / "history";
  return {};
}

std::vector<std::string> load_history(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream stream(path, std::ios::binary);
  for (std::string line; std::getline(stream, line);) lines.push_back(std::move(line));
  if (lines.size() <= kHistoryLines) return lines;
  const bool grown = lines.size() > 2 * kHistoryLines;
  lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kHistoryLines));
  if (grown) rewrite(path, lines);
  return lines;
}

bool append_history(const std::filesystem::path& path, std::string_view line) {
  const PrivateFiles files;
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return false;
  const std::string whole = std::string(line) + '\n';  // in one write, which appends as a whole
  const bool written = ::write(descriptor, whole.data(), whole.size()) == static_cast<ssize_t>(whole.size());
  return ::close(descriptor) == 0 && written;
}

}  // namespace sirocco
