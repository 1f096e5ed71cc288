#include "daemon/text_thread.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace sirocco::daemon {

TextThread::TextThread(std::function<void()> held)
    : on_held_(std::move(held)), thread_([this] {
        pthread_setname_np(pthread_self(), "text");
        run();
      }) {}

TextThread::~TextThread() {
  stop();
}

bool TextThread::post(const RequestKey& key, const User& user, std::size_t bytes, std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  const auto of_user = waiting_.find(user.uid);
  if (stopping_ || waiting_works_ >= max_waiting_ || bytes > kMaxBytes - waiting_bytes_ ||
      (of_user != waiting_.end() && of_user->second.size() >= user.most))
    return false;
  ++waiting_works_;
  waiting_bytes_ += bytes;
  waiting_[user.uid].push_back({.key = key, .bytes = bytes, .work = std::move(work)});
  wake_.notify_one();
  return true;
}

void TextThread::drop(const RequestKey& key) {
  drop_if([&](const Work& work) { return work.key == key; });
}

void TextThread::drop(ConnectionId connection) {
  drop_if([&](const Work& work) { return work.key.connection == connection; });
}

template <class Predicate>
void TextThread::drop_if(Predicate predicate) {
  const std::lock_guard lock(mutex_);
  for (auto user = waiting_.begin(); user != waiting_.end();) {
    std::erase_if(user->second, [&](const Work& work) {
      if (!predicate(work)) return false;
      --waiting_works_;
      waiting_bytes_ -= work.bytes;
      return true;
    });
    user = user->second.empty() ? waiting_.erase(user) : std::next(user);
  }
}

// Of the user who comes after the last one. With the lock held.
TextThread::Work TextThread::next() {
  auto user = waiting_.upper_bound(last_user_);
  if (user == waiting_.end()) user = waiting_.begin();
  last_user_ = user->first;
  Work work = std::move(user->second.front());
  user->second.pop_front();
  if (user->second.empty()) waiting_.erase(user);
  --waiting_works_;
  waiting_bytes_ -= work.bytes;
  return work;
}

void TextThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || (!waiting_.empty() && !holding_); });
    if (stopping_) return;
    working_ = true;
    const Work work = next();
    lock.unlock();
    work.work();
    lock.lock();
    working_ = false;
    if (!holding_) continue;
    lock.unlock();
    on_held_();
    lock.lock();
  }
}

void TextThread::set_max_waiting(std::size_t most) {
  const std::lock_guard lock(mutex_);
  max_waiting_ = most;
}

void TextThread::hold() {
  const std::lock_guard lock(mutex_);
  holding_ = true;
}

void TextThread::resume() {
  const std::lock_guard lock(mutex_);
  holding_ = false;
  wake_.notify_one();
}

bool TextThread::held() const {
  const std::lock_guard lock(mutex_);
  return holding_ && !working_;
}

void TextThread::stop() {
  drop_if([](const Work&) { return true; });
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace sirocco::daemon
