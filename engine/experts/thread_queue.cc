// Transfers by threads that call pread.
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "engine/experts/transfer_pieces.h"

namespace sirocco {
namespace {

constexpr std::size_t kThreads = 32;  // pieces under way at the same time

class ThreadQueue final : public TransferQueue {
 public:
  ThreadQueue() = default;
  ThreadQueue(const ThreadQueue&) = delete;
  ThreadQueue& operator=(const ThreadQueue&) = delete;
  ~ThreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<void> start() {
    try {
      for (std::size_t i = 0; i < kThreads; ++i) {
        threads_.emplace_back([this] {
          pthread_setname_np(pthread_self(), "reader");
          read_pieces();
        });
      }
    } catch (const std::system_error& error) {
      return fail(ErrorCode::io, "threads that read experts could not be started: {}", error.code().message());
    }
    return {};
  }

  std::string_view kind() const override { return "threads"; }

  void set_shape(const ReadShape& shape) override {
    TransferQueue::set_shape(shape);
    const std::lock_guard lock(mutex_);
    pieces_.set_shape(shape);
  }

  void submit(std::span<const Transfer> transfers) override {
    const std::lock_guard lock(mutex_);
    for (const Transfer& transfer : transfers) pieces_.add(transfer);
    work_.notify_one();
  }

  void collect(std::vector<Arrival>& arrivals, bool wait) override {
    std::unique_lock lock(mutex_);
    if (wait) done_.wait(lock, [this] { return !arrived_.empty() || pieces_.transfers() == 0; });
    arrivals.insert(arrivals.end(), arrived_.begin(), arrived_.end());
    arrived_.clear();
  }

 private:
  void read_pieces() {
    std::unique_lock lock(mutex_);
    while (true) {
      // What was submitted is read even when stopping.
      work_.wait(lock, [this] { return pieces_.may_begin() || (stopping_ && !pieces_.waiting()); });
      if (!pieces_.waiting()) return;
      const Piece piece = pieces_.begin();
      if (pieces_.may_begin()) work_.notify_one();
      lock.unlock();
      const ssize_t got = pread(piece.descriptor, piece.to, piece.bytes, static_cast<off_t>(piece.offset));
      const std::int64_t result = got < 0 ? -errno : got;
      lock.lock();
      pieces_.ended(piece, result, arrived_);
      if (!arrived_.empty()) done_.notify_one();
      if (stopping_) work_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  Pieces pieces_;
  std::vector<Arrival> arrived_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<TransferQueue>> make_thread_queue() {
  auto queue = std::make_unique<ThreadQueue>();
  SIROCCO_CHECK(queue->start());
  return queue;
}

}  // namespace sirocco
