// The small numbers that name things, so that a layer is not passed where a token is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace sirocco {

using TokenId = std::int32_t;
using BlockId = std::uint32_t;    // of the KV cache
using RequestId = std::uint64_t;  // unique for the life of an Engine

// One expert of one layer: its gate, up and down projections together.
struct ExpertId {
  std::uint32_t layer = 0;
  std::uint32_t index = 0;

  auto operator<=>(const ExpertId&) const = default;  // NOLINT(modernize-use-nullptr): compares with a literal 0
};

}  // namespace sirocco

template <>
struct std::hash<sirocco::ExpertId> {
  std::size_t operator()(const sirocco::ExpertId& id) const noexcept {
    return std::hash<std::uint64_t>{}(std::uint64_t{id.layer} << 32 | id.index);
  }
};
