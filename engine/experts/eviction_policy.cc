#include "engine/experts/eviction_policy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

namespace sirocco {
namespace {

// Layers until `layer` is computed again: 1 for the next one, `layers` for the present.
std::uint32_t distance(const ExpertUse& use, const EvictionMoment& moment) {
  const std::uint32_t layers = moment.layers;
  return (use.expert.layer + layers - moment.layer - 1) % layers + 1;
}

// Tokens from the last use to the next time the expert can be used.
std::uint64_t age(const ExpertUse& use, const EvictionMoment& moment) {
  const std::uint64_t turn = use.expert.layer <= moment.layer ? moment.token + 1 : moment.token;
  return turn > use.last ? turn - use.last : 0;
}

// What is left of 1 after so many tokens.
class Decay {
 public:
  explicit Decay(double half_life) {
    for (std::size_t tokens = 0; tokens < left_.size(); ++tokens)
      left_.at(tokens) = std::exp2(-static_cast<double>(tokens) / half_life);
  }
  double after(std::uint64_t tokens) const { return tokens < left_.size() ? left_[tokens] : 0; }

 private:
  std::array<double, 512> left_ = {};
};
const Decay kRecent(kRecentTokens);
const Decay kLasting(kLastingTokens);

// The index with the smallest key.
template <class Key>
std::size_t least(std::span<const ExpertUse> uses, Key key) {
  std::size_t best = 0;
  auto best_key = key(uses[0]);
  for (std::size_t i = 1; i < uses.size(); ++i) {
    const auto here = key(uses[i]);
    if (here < best_key) {
      best = i;
      best_key = here;
    }
  }
  return best;
}

class Lru final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "lru"; }
  std::size_t choose(std::span<const ExpertUse> uses, const EvictionMoment&) const override {
    // Of one token, the earlier layer was used earlier.
    return least(uses, [](const ExpertUse& use) { return std::tuple(use.last, use.expert.layer); });
  }
};

class LayerLru final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "layer-lru"; }
  std::size_t choose(std::span<const ExpertUse> uses, const EvictionMoment& moment) const override {
    const bool own = moment.in_layer[moment.layer] >= moment.slots / moment.layers;
    return least(uses, [&](const ExpertUse& use) {
      return std::tuple(own && use.expert.layer != moment.layer, use.last, -static_cast<int>(distance(use, moment)));
    });
  }
};

class ClassLru final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "class-lru"; }
  std::size_t choose(std::span<const ExpertUse> uses, const EvictionMoment& moment) const override {
    return least(uses, [&](const ExpertUse& use) {
      const bool few = moment.in_layer[use.expert.layer] <= moment.used;
      return std::tuple(few, use.last, -static_cast<int>(distance(use, moment)));
    });
  }
};

class Lfru final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "lfru"; }
  std::size_t choose(std::span<const ExpertUse> uses, const EvictionMoment& moment) const override {
    return least(uses, [&](const ExpertUse& use) {
      const std::uint64_t tokens = age(use, moment);
      const double worth = use.recent * kRecent.after(tokens) + kLastingWeight * use.lasting * kLasting.after(tokens);
      return std::tuple(worth, -static_cast<int>(distance(use, moment)));
    });
  }

 private:
  static constexpr double kLastingWeight = 0.3;
};

class Belady final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "belady"; }
  std::size_t choose(std::span<const ExpertUse> uses, const EvictionMoment& moment) const override {
    return least(uses, [&](const ExpertUse& use) {
      return std::tuple(-static_cast<double>(use.next), -static_cast<int>(distance(use, moment)));
    });
  }
};

constexpr std::array<std::string_view, 4> kNames = {"lfru", "lru", "layer-lru", "class-lru"};

}  // namespace

void count_use(ExpertUse& use, std::uint64_t token, double share) {
  const std::uint64_t tokens = token > use.last ? token - use.last : 0;
  use.recent = use.recent * kRecent.after(tokens) + share;
  use.lasting = use.lasting * kLasting.after(tokens) + share;
  use.last = token;
}

Result<std::unique_ptr<EvictionPolicy>> make_policy(std::string_view name) {
  if (name == "lfru") return std::make_unique<Lfru>();
  if (name == "lru") return std::make_unique<Lru>();
  if (name == "layer-lru") return std::make_unique<LayerLru>();
  if (name == "class-lru") return std::make_unique<ClassLru>();
  if (name == "belady") return std::make_unique<Belady>();
  return fail(ErrorCode::invalid_argument, "\"{}\" is no eviction policy; there are: {}", name,
              fmt::join(kNames, ", "));
}

std::span<const std::string_view> policy_names() {
  return kNames;
}

}  // namespace sirocco
