// What log.prompts writes of a request and its answer.
#pragma once

#include <cstddef>
#include <string>

#include "ipc/wire/messages.h"

namespace sirocco::daemon {

inline constexpr std::size_t kMaxLoggedBytes = 4096;  // of a prompt, and of an answer; what follows is cut off

// The prompt as one quoted word: its text, its messages as "role: text" one a line, or its token ids.
std::string logged_prompt(const wire::Prompt& prompt);

}  // namespace sirocco::daemon
