#include "kernels/cpu/row_ops.h"

#include <cmath>

#include "kernels/cpu/vector_math.h"

namespace sirocco::cpu::SIROCCO_ISA {

void rms_norm(const float* x, const float* weight, std::size_t width, float epsilon, float* y) {
  // Partial sums of i mod 16, added pairwise.
  Floats16 squares = zero_floats();
  for (std::size_t i = 0; i < width; i += 16) {
    const Floats16 part = load_some(x + i, width - i);
    squares = fma(part, part, squares);
  }
  const float mean = sum_lanes(squares) / static_cast<float>(width);
  const Floats16 scale = broadcast(1.0F / std::sqrt(mean + epsilon));
  for (std::size_t i = 0; i < width; i += 16) {
    const Floats16 scaled = multiply(load_some(x + i, width - i), scale);
    store_some(y + i, multiply(scaled, load_some(weight + i, width - i)), width - i);
  }
}

void rope(float* x, std::size_t heads, std::size_t head_dim, const float* cosines, const float* sines,
          std::size_t pairs, RopeStyle style) {
  for (std::size_t head = 0; head < heads; ++head) {
    float* const at = x + head * head_dim;
    if (style == RopeStyle::normal) {
      for (std::size_t i = 0; i < pairs; ++i) {
        const float a = at[2 * i];
        const float b = at[2 * i + 1];
        at[2 * i] = a * cosines[i] - b * sines[i];
        at[2 * i + 1] = a * sines[i] + b * cosines[i];
      }
    } else {
      for (std::size_t i = 0; i < pairs; ++i) {
        const float a = at[i];
        const float b = at[pairs + i];
        at[i] = a * cosines[i] - b * sines[i];
        at[pairs + i] = a * sines[i] + b * cosines[i];
      }
    }
  }
}

void swiglu(const float* gate, const float* up, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; i += 16) {
    const Floats16 g = load_some(gate + i, n - i);
    const Floats16 denominator = add(broadcast(1.0F), exponential(subtract(zero_floats(), g)));
    store_some(y + i, multiply(divide(g, denominator), load_some(up + i, n - i)), n - i);
  }
}

}  // namespace sirocco::cpu::SIROCCO_ISA
