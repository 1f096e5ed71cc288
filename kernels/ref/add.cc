#include "kernels/ref/add.h"

#include <cassert>

namespace sirocco::ref {

void add(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size());

  for (std::size_t i = 0; i < y.size(); ++i) y[i] += x[i];
}

void add_scaled(std::span<const float> x, float weight, std::span<float> y) {
  assert(x.size() == y.size());

  for (std::size_t i = 0; i < y.size(); ++i) y[i] += weight * x[i];
}

}  // namespace sirocco::ref
