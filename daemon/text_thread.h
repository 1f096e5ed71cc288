// The thread that turns texts into tokens and back, and does what clients ask of sessions, which may read and write
// files: either may take seconds, and neither the I/O thread nor a step may wait for that. Users take turns, the work
// of one is done in order of arrival: who sends many texts keeps himself waiting. What waits is bounded in number and
// in bytes, so that clients cannot pile it up here.
//
// Any thread may call.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "engine/base/bytes.h"
#include "ipc/server/handler.h"

namespace sirocco::daemon {

class TextThread {
 public:
  static constexpr std::size_t kMaxBytes = 64 * MiB;  // of the texts that wait: sixteen of the longest

  // held: called on the text thread when hold() has taken effect there; it must not wait.
  explicit TextThread(std::function<void()> held);
  ~TextThread();  // stop()
  TextThread(const TextThread&) = delete;
  TextThread& operator=(const TextThread&) = delete;

  // False if too much waits already: of all, or of this user, who may have `most` waiting. `bytes` is what `work`
  // holds. Never waits.
  struct User {
    uid_t uid = 0;
    std::size_t most = 64;
  };
  [[nodiscard]] bool post(const RequestKey& key, const User& user, std::size_t bytes, std::function<void()> work);

  // Forgets work that has not begun: of a request, or all of a connection.
  void drop(const RequestKey& key);
  void drop(ConnectionId connection);

  // Work that may wait; at first 64.
  void set_max_waiting(std::size_t most);

  // Begins no work until resume(). What is under way goes on: held() says whether that has ended.
  void hold();
  void resume();
  bool held() const;

  // Forgets what waits, and waits for what is under way. Nothing is taken after that.
  void stop();

 private:
  struct Work {
    RequestKey key;
    std::size_t bytes = 0;
    std::function<void()> work;
  };
  void run();
  Work next();
  template <class Predicate>
  void drop_if(Predicate predicate);

  const std::function<void()> on_held_;
  mutable std::mutex mutex_;
  std::size_t max_waiting_ = 64;
  std::condition_variable wake_;
  std::map<uid_t, std::deque<Work>> waiting_;  // of each user, none empty
  std::size_t waiting_works_ = 0;
  uid_t last_user_ = 0;  // whose work was done last
  std::size_t waiting_bytes_ = 0;
  bool holding_ = false;
  bool working_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses what is above
};

}  // namespace sirocco::daemon
