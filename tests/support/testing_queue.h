// A TransferQueue for tests: reads at once, and lets a test say in which order things arrive and which of them fail.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <random>

#include "engine/experts/transfer_queue.h"

namespace sirocco::test {

class TestingQueue final : public TransferQueue {
 public:
  // What both sides see; it outlives the queue.
  struct Control {
    std::function<int(const Transfer&)> error;  // of a transfer; 0: it is read
    std::mt19937* shuffle = nullptr;            // null: in order
    bool all_at_once = true;                    // else one for each collect()
    std::size_t transfers = 0;
  };

  explicit TestingQueue(Control& control) : control_(control) {}

  std::string_view kind() const override { return "testing"; }
  void submit(std::span<const Transfer> transfers) override {
    for (const Transfer& transfer : transfers) {
      waiting_.push_back(transfer);
      ++control_.transfers;
    }
    if (control_.shuffle != nullptr) std::shuffle(waiting_.begin(), waiting_.end(), *control_.shuffle);
  }
  void collect(std::vector<Arrival>& arrivals, bool wait) override {
    if (!wait && !control_.all_at_once) return;  // as late as can be
    while (!waiting_.empty()) {
      const Transfer transfer = waiting_.front();
      waiting_.erase(waiting_.begin());
      int error = control_.error ? control_.error(transfer) : 0;
      if (error == 0) {
        const ssize_t got =
            pread(transfer.descriptor, transfer.to, transfer.bytes, static_cast<off_t>(transfer.offset));
        if (got < 0) error = errno;
        if (got >= 0 && static_cast<std::uint64_t>(got) < transfer.wanted) error = ENODATA;
      }
      arrivals.push_back({.tag = transfer.tag, .error = error});
      if (!control_.all_at_once) return;
    }
  }

 private:
  Control& control_;
  std::vector<Transfer> waiting_;
};

}  // namespace sirocco::test
