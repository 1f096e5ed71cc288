// Gated activation (Shazeer 2020): y = silu(gate) * up.
#pragma once

#include <span>

namespace sirocco::ref {

// y[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; y may be gate or up.
void swiglu(std::span<const float> gate, std::span<const float> up, std::span<float> y);

}  // namespace sirocco::ref
