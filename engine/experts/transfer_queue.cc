#include "engine/experts/transfer_queue.h"

namespace sirocco {

Result<std::unique_ptr<TransferQueue>> make_transfer_queue() {
  if (auto uring = make_uring_queue()) return uring;
  return make_thread_queue();
}

}  // namespace sirocco
