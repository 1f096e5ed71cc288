// The levels of four-bit formats that are no straight line.
#pragma once

#include <cstdint>

namespace sirocco {

// Of the IQ4 formats, spaced for weights that are about normally distributed (llama.cpp).
alignas(16) inline constexpr std::int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                           1,    13,   25,  38,  53,  69,  89,  113};

// Twice the value of each e2m1 number (sign, two bits of exponent, one of mantissa), so that they are integers: OCP
// Microscaling formats 1.0.
alignas(16) inline constexpr std::int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace sirocco
