// Lines that a person types: on a terminal with editing and a history that outlives the program (libedit), otherwise as
// they are. One at a time, from the main thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace sirocco {

struct Line {
  enum class Kind {
    text,
    interrupted,  // Ctrl-C: what was typed is gone
    end,          // Ctrl-D, or the end of the input
  };
  Kind kind = Kind::end;
  std::string text;  // without the newline
};

class LineReader {
 public:
  virtual ~LineReader() = default;
  virtual Line read() = 0;
};

// Reads standard input. On a terminal, `history` (empty: none) is loaded, and each line appended as it is entered; a
// SIGTERM or SIGHUP that comes at the prompt ends the program with the terminal as it was.
std::unique_ptr<LineReader> make_line_reader(const std::string& prompt, const std::filesystem::path& history);

}  // namespace sirocco
