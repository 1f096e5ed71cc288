// Transfers by io_uring: the kernel reads while the engine thread computes; nothing of ours runs meanwhile.
#include <liburing.h>

#include <vector>

#include "engine/experts/transfer_pieces.h"

namespace sirocco {
namespace {

constexpr unsigned kUnderWay = 256;  // pieces at the same time, however small

class UringQueue final : public TransferQueue {
 public:
  UringQueue() : under_way_(kUnderWay) {
    for (unsigned slot = 0; slot < kUnderWay; ++slot) free_.push_back(slot);
  }
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;
  ~UringQueue() override {
    if (!started_) return;
    pieces_.drop_waiting();
    while (free_.size() < kUnderWay) reap(true);
    io_uring_queue_exit(&ring_);
  }

  Result<void> start() {
    if (const int result = io_uring_queue_init(kUnderWay, &ring_, 0); result < 0)
      return fail(ErrorCode::unsupported, "io_uring cannot be used here: {}", errno_message(-result));
    started_ = true;
    return {};
  }

  std::string_view kind() const override { return "io_uring"; }

  void set_shape(const ReadShape& shape) override {
    TransferQueue::set_shape(shape);
    pieces_.set_shape(shape);
  }

  void submit(std::span<const Transfer> transfers) override {
    for (const Transfer& transfer : transfers) pieces_.add(transfer);
    begin_pieces();
  }

  void collect(std::vector<Arrival>& arrivals, bool wait) override {
    const std::size_t before = arrivals.size();
    do {
      reap(wait && pieces_.transfers() != 0);
      arrivals.insert(arrivals.end(), arrived_.begin(), arrived_.end());
      arrived_.clear();
    } while (wait && arrivals.size() == before && pieces_.transfers() != 0);
  }

 private:
  void begin_pieces() {
    bool any = false;
    while (pieces_.may_begin() && !free_.empty()) {
      io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
      if (entry == nullptr) break;
      const unsigned slot = free_.back();
      free_.pop_back();
      const Piece& piece = under_way_[slot] = pieces_.begin();
      io_uring_prep_read(entry, piece.descriptor, piece.to, static_cast<unsigned>(piece.bytes), piece.offset);
      io_uring_sqe_set_data64(entry, slot);
      any = true;
    }
    // What could not be taken now (EAGAIN, EBUSY) stays in the ring and goes with the next call.
    if (any) io_uring_submit(&ring_);
  }

  void reap(bool wait) {
    io_uring_cqe* entry = nullptr;
    if (wait) {
      io_uring_submit_and_wait(&ring_, 1);
    } else {
      io_uring_submit(&ring_);
    }
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
      const auto slot = static_cast<unsigned>(io_uring_cqe_get_data64(entry));
      const std::int64_t result = entry->res;
      io_uring_cqe_seen(&ring_, entry);
      free_.push_back(slot);
      pieces_.ended(under_way_[slot], result, arrived_);
    }
    begin_pieces();
  }

  io_uring ring_ = {};
  bool started_ = false;
  std::vector<Piece> under_way_;  // by slot
  std::vector<unsigned> free_;
  Pieces pieces_;
  std::vector<Arrival> arrived_;
};

}  // namespace

Result<std::unique_ptr<TransferQueue>> make_uring_queue() {
  auto queue = std::make_unique<UringQueue>();
  SIROCCO_CHECK(queue->start());
  return queue;
}

}  // namespace sirocco
