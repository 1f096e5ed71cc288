// How many tokens a user may have computed in a minute: a bucket for each user that has such a quota. It holds one
// minute's worth and fills by the second. A request may begin while there is something in it; its prompt and its answer
// are then taken out as they come, so that a bucket may be overdrawn, and the user's next request waits for that.
//
// Not synchronised: the Service calls it with its table locked.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>

namespace sirocco::daemon {

class TokenQuota {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Milliseconds until the user may begin a request; 0: now.
  std::uint32_t wait_ms(uid_t user, std::uint32_t per_minute, Time now);

  void take(uid_t user, std::uint32_t per_minute, std::uint64_t tokens, Time now);

 private:
  struct Bucket {
    double tokens = 0;
    Time filled;
  };
  Bucket& filled(uid_t user, std::uint32_t per_minute, Time now);

  std::map<uid_t, Bucket> buckets_;
};

}  // namespace sirocco::daemon
