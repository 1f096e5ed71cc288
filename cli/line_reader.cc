#include "cli/line_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <system_error>
#include <utility>

namespace sirocco {
namespace {

constexpr int kHistoryLines = 1000;

class PipedLines final : public LineReader {
 public:
  Line read() override {
    char* buffer = nullptr;
    std::size_t capacity = 0;
    const ssize_t length = getline(&buffer, &capacity, stdin);
    Line line;
    if (length >= 0) line = {.kind = Line::Kind::text, .text = std::string(buffer, static_cast<std::size_t>(length))};
    free(buffer);  // getline's, by malloc
    if (!line.text.empty() && line.text.back() == '\n') line.text.pop_back();
    return line;
  }
};

// Keeps SIGINT waiting while it lives.
class InterruptHeld {
 public:
  InterruptHeld() {
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before_);
  }
  ~InterruptHeld() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  InterruptHeld(const InterruptHeld&) = delete;
  InterruptHeld& operator=(const InterruptHeld&) = delete;

 private:
  sigset_t before_ = {};
};

class TerminalLines final : public LineReader {
 public:
  TerminalLines(std::string prompt, std::filesystem::path path)
      : prompt_(std::move(prompt)), path_(std::move(path)), history_(history_init()) {
    // libedit reads characters of the locale; a terminal of today is UTF-8 even where LANG says nothing.
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
    edit_ = el_init("sirocco", stdin, stdout, stderr);
    // Signals stay with the caller: libedit would pass them on to the whole process group.
    el_set(edit_, EL_SIGNAL, 0);
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_GETCFN, &TerminalLines::read_character);
    el_set(edit_, EL_PROMPT, &TerminalLines::prompt);
    el_set(edit_, EL_EDITOR, "emacs");
    HistEvent event;
    history(history_, &event, H_SETSIZE, kHistoryLines);
    history(history_, &event, H_SETUNIQUE, 1);
    if (!path_.empty()) history(history_, &event, H_LOAD, path_.c_str());
    el_set(edit_, EL_HIST, ::history, history_);
    el_source(edit_, nullptr);  // ~/.editrc
  }

  ~TerminalLines() override {
    save();
    history_end(history_);
    el_end(edit_);
  }

  TerminalLines(const TerminalLines&) = delete;
  TerminalLines& operator=(const TerminalLines&) = delete;

  Line read() override {
    // Before the prompt shows: what is typed at it, Ctrl-D above all, is for the editor and not for the terminal's own.
    el_set(edit_, EL_PREP_TERM, 1);
    el_resize(edit_);  // the window may have another size by now
    const InterruptHeld held;
    int count = 0;
    errno = 0;
    const char* const typed = el_gets(edit_, &count);
    if (typed == nullptr) {
      const bool interrupted = count < 0 && errno == EINTR;
      el_reset(edit_);
      std::fputc('\n', stdout);
      return {.kind = interrupted ? Line::Kind::interrupted : Line::Kind::end, .text = {}};
    }
    Line line = {.kind = Line::Kind::text, .text = typed};
    if (!line.text.empty() && line.text.back() == '\n') line.text.pop_back();
    HistEvent event;
    if (line.text.find_first_not_of(" \t") != std::string::npos) history(history_, &event, H_ENTER, line.text.c_str());
    return line;
  }

 private:
  static char* prompt(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return static_cast<TerminalLines*>(self)->prompt_.data();
  }

  // A character of the locale from standard input: 1, 0 at its end, -1 with errno EINTR after Ctrl-C. The signal is let
  // in only while this waits: wherever libedit was when it came, it ends the next wait and cannot be lost.
  static int read_character(EditLine*, wchar_t* character) {
    sigset_t while_waiting;
    sigprocmask(SIG_SETMASK, nullptr, &while_waiting);
    sigdelset(&while_waiting, SIGINT);
    std::mbstate_t state = {};
    for (;;) {
      pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      if (ppoll(&input, 1, nullptr, &while_waiting) < 0) return -1;
      char byte = 0;
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count <= 0) return static_cast<int>(count);
      const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
      if (length <= 1) return 1;
      if (length == static_cast<std::size_t>(-1)) state = {};  // no character of the locale: passed over
    }
  }

  void save() {
    if (path_.empty()) return;
    const mode_t before = umask(0077);
    std::error_code error;
    std::filesystem::create_directories(path_.parent_path(), error);
    HistEvent event;
    const bool saved = !error && history(history_, &event, H_SAVE, path_.c_str()) >= 0;
    umask(before);
    if (!saved) fmt::print(stderr, "sirocco: the history could not be saved in {}\n", path_.string());
  }

  std::string prompt_;
  std::filesystem::path path_;
  History* history_;
  EditLine* edit_ = nullptr;
};

}  // namespace

std::filesystem::path history_path() {
  // A relative XDG_STATE_HOME is invalid and to be ignored (XDG Base Directory Specification).
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return std::filesystem::path(state) / "sirocco" / "history";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::filesystem::path(home) / ".local" / "state" / "sirocco" / "history";
  return {};
}

std::unique_ptr<LineReader> make_line_reader(const std::string& prompt, const std::filesystem::path& history) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) return std::make_unique<PipedLines>();
  return std::make_unique<TerminalLines>(prompt, history);
}

}  // namespace sirocco
