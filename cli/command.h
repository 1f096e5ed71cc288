// What the commands of the `sirocco` program share.
#pragma once

namespace sirocco {

struct CommandContext {
  int exit_code = 0;  // 0 done, 1 failed, 2 wrong usage
};

}  // namespace sirocco
