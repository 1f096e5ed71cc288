// The lines that were typed, in a file that several chats share: each appends its own as they are entered, so that none
// is lost, whoever ends how. One line of text each, for their owner's eyes only.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sirocco {

inline constexpr std::size_t kHistoryLines = 1000;

// $XDG_STATE_HOME/sirocco/history, by default ~/.local/state/sirocco/history; empty where there is no home.
std::filesystem::path history_path();

// The latest kHistoryLines, oldest first; none if the file cannot be read. A file that has grown to more than twice
// that is cut.
std::vector<std::string> load_history(const std::filesystem::path& path);

// Makes the folders, too. False if it cannot be written.
bool append_history(const std::filesystem::path& path, std::string_view line);

}  // namespace sirocco
