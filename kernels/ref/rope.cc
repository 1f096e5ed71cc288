#include "kernels/ref/rope.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace sirocco::ref {
namespace {

// How far each pair is interpolated: 0 below pair `low`, 1 above pair `high`, in between in proportion.
struct YarnRamp {
  double low;
  double high;

  double operator()(std::size_t pair) const {
    return std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  }
};

YarnRamp yarn_ramp(const RopeParameters& parameters) {
  const double rotated = parameters.rotated;
  // The (fractional) pair that turns `rotations` times over the original context.
  const auto pair_that_turns = [&](double rotations) {
    return rotated * std::log(parameters.original_context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(double{parameters.base}));
  };
  const double low = std::max(std::floor(pair_that_turns(parameters.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_that_turns(parameters.beta_slow)), rotated - 1);
  return {low, low == high ? high + 0.001 : high};  // 0.001: a step instead of 0 / 0, as transformers has it
}

}  // namespace

void rope_frequencies(const RopeParameters& parameters, std::span<const float> factors, std::span<float> frequencies) {
  const std::size_t pairs = parameters.rotated / 2;
  assert(parameters.rotated % 2 == 0 && frequencies.size() == pairs && (factors.empty() || factors.size() == pairs));

  for (std::size_t i = 0; i < pairs; ++i) {
    const double exponent = 2 * static_cast<double>(i) / parameters.rotated;
    double frequency = std::pow(double{parameters.base}, -exponent);
    if (parameters.scaling == RopeScaling::linear) frequency /= parameters.factor;
    if (parameters.scaling == RopeScaling::yarn) {
      const double interpolated = yarn_ramp(parameters)(i);
      frequency *= (1 - interpolated) + interpolated / parameters.factor;
    }
    if (!factors.empty()) frequency /= factors[i];
    frequencies[i] = static_cast<float>(frequency);
  }
}

void rope_angles(std::uint32_t position, std::span<const float> frequencies, float attention_factor,
                 std::span<float> cosines, std::span<float> sines) {
  assert(cosines.size() == frequencies.size() && sines.size() == frequencies.size());

  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float angle = static_cast<float>(position) * frequencies[i];  // rounded to f32, as transformers does
    cosines[i] = std::cos(angle) * attention_factor;
    sines[i] = std::sin(angle) * attention_factor;
  }
}

void rope(std::span<float> x, std::size_t head_dim, std::span<const float> cosines, std::span<const float> sines,
          RopeStyle style) {
  const std::size_t pairs = cosines.size();
  assert(2 * pairs <= head_dim && x.size() % head_dim == 0 && sines.size() == pairs);

  // A pair's first element and the distance to its second.
  const std::size_t step = style == RopeStyle::normal ? 2 : 1;
  const std::size_t distance = style == RopeStyle::normal ? 1 : pairs;
  for (std::size_t head = 0; head < x.size(); head += head_dim) {
    for (std::size_t i = 0; i < pairs; ++i) {
      float* first = x.data() + head + i * step;
      float* second = first + distance;
      const float a = *first;
      const float b = *second;
      *first = a * cosines[i] - b * sines[i];
      *second = a * sines[i] + b * cosines[i];
    }
  }
}

}  // namespace sirocco::ref
