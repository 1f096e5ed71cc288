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

// $XDG_STATE_HOME/sirocco/history, by default ~/.local/state/sirocco/history; empty where there is no home.
std::filesystem::path history_path();

// Reads standard input. The history is loaded here and saved, for its owner's eyes only, by the destructor.
std::unique_ptr<LineReader> make_line_reader(const std::string& prompt, const std::filesystem::path& history);

}  // namespace sirocco
