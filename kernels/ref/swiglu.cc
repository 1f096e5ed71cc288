#include "kernels/ref/swiglu.h"

#include <cassert>
#include <cmath>

namespace sirocco::ref {

void swiglu(std::span<const float> gate, std::span<const float> up, std::span<float> y) {
  assert(gate.size() == up.size() && y.size() == gate.size());

  for (std::size_t i = 0; i < y.size(); ++i) y[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
}

}  // namespace sirocco::ref
