// The `sirocco` program: its commands, and how it ends.
#pragma once

namespace sirocco {

// Exit codes: 0 done, 1 failed, 2 wrong usage.
int run_app(int argc, const char* const* argv);

}  // namespace sirocco
