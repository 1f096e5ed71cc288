#include "kernels/ref/softmax.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace sirocco::ref {

void softmax(std::span<float> x) {
  assert(!x.empty());

  const float largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (float& value : x) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (float& value : x) value = static_cast<float>(value / sum);
}

}  // namespace sirocco::ref
