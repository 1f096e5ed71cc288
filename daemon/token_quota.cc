#include "daemon/token_quota.h"

#include <algorithm>
#include <cmath>

namespace sirocco::daemon {

TokenQuota::Bucket& TokenQuota::filled(uid_t user, std::uint32_t per_minute, Time now) {
  const double most = per_minute;
  Bucket& bucket = buckets_.try_emplace(user, Bucket{.tokens = most, .filled = now}).first->second;
  const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
  bucket.tokens = std::min(most, bucket.tokens + std::max(seconds, 0.0) * most / 60);
  bucket.filled = std::max(now, bucket.filled);
  return bucket;
}

std::uint32_t TokenQuota::wait_ms(uid_t user, std::uint32_t per_minute, Time now) {
  const double tokens = filled(user, per_minute, now).tokens;
  if (tokens > 0) return 0;
  // Until there is one whole token.
  return static_cast<std::uint32_t>(std::min(std::ceil((1 - tokens) * 60'000 / per_minute), 4e9));
}

void TokenQuota::take(uid_t user, std::uint32_t per_minute, std::uint64_t tokens, Time now) {
  filled(user, per_minute, now).tokens -= static_cast<double>(tokens);
}

}  // namespace sirocco::daemon
