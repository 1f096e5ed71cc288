// A TransferQueue for tests: reads at once, and lets a test say in which order things arrive, which of them fail and
// which are held back.
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
    std::function<int(const Transfer&)> error;       // of a transfer; 0: it is read
    std::function<bool(const Transfer&)> held = {};  // true: the disk has not answered yet
    std::function<void()> silence = {};  // instead of waiting, where nothing arrives: some is no longer held then
    std::mt19937* shuffle = nullptr;     // null: in order
    bool all_at_once = true;             // else one for each collect()
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
    const std::size_t before = arrivals.size();
    while (true) {
      for (std::size_t at = 0; at < waiting_.size();) {
        if (control_.held && control_.held(waiting_[at])) {
          ++at;
          continue;
        }
        arrivals.push_back(read(waiting_[at]));
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(at));
        if (!control_.all_at_once) return;
      }
      if (!wait || waiting_.empty() || arrivals.size() != before) return;
      control_.silence();
    }
  }

 private:
  Arrival read(const Transfer& transfer) const {
    int error = control_.error ? control_.error(transfer) : 0;
    if (error == 0) {
      const ssize_t got = pread(transfer.descriptor, transfer.to, transfer.bytes, static_cast<off_t>(transfer.offset));
      if (got < 0) error = errno;
      if (got >= 0 && static_cast<std::uint64_t>(got) < transfer.wanted) error = ENODATA;
    }
    return {.tag = transfer.tag, .error = error};
  }

  Control& control_;
  std::vector<Transfer> waiting_;
};

}  // namespace sirocco::test
