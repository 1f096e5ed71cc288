// Whose texts a request may find in the prefix cache. How fast an answer comes tells whether somebody has asked the
// same before, so that users do not share unless they trust one another.
#pragma once

#include <cstdint>

namespace sirocco {

enum class CacheShare : std::uint8_t { uid, all, off };

}  // namespace sirocco
