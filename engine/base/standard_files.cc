#include "engine/base/standard_files.h"

#include <fcntl.h>
#include <unistd.h>

namespace sirocco {

void open_standard_files() {
  // The lowest free number is given out, so each that is closed is filled in turn. Without /dev/null none is given.
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor)
    if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) return;
}

}  // namespace sirocco
