// Which share of the experts that a prompt's step misses goes through the device, while the host computes the others:
// whatever was the fastest so far, of a few shares that include none and all. A pure function of what it has been told.
// An answer does not depend on it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sirocco::cuda {

class ExpertSplit {
 public:
  static constexpr std::array<double, 5> kShares = {0, 0.25, 0.5, 0.75, 1};

  // Of kShares, for the next step.
  std::size_t choose() const;
  // A step with that share has missed so many experts, at least one, and has taken so long.
  void learn(std::size_t share, std::size_t experts, double seconds);

 private:
  struct Arm {
    double seconds = 0;  // for an expert, as a mean in which recent steps count more
    bool tried = false;
  };

  std::size_t best() const;

  std::array<Arm, kShares.size()> arms_;
  std::uint64_t steps_ = 0;
};

}  // namespace sirocco::cuda
