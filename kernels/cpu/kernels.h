// The kernels of one instruction set, as a table. Every function is pure arithmetic on the caller's memory: no
// allocation, no threads; safe from any worker on disjoint outputs. All instruction sets give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/linear_functions.h"

namespace sirocco::cpu {

struct Kernels {
  std::string_view isa;   // "avx2", as --isa names it
  std::size_t tile_rows;  // rows of activations that LinearFunctions::pack takes at once

  // Null functions for a type that no kernel computes.
  const LinearFunctions& (*linear)(TensorType weights);

  // One row: x [inputs] f32 to row [activation_bytes(format, inputs)], aligned to 64 bytes. q = x * 127 / max |x| of
  // the block, to nearest even. Not for f32, which stays what it is.
  void (*quantise)(ActivationFormat format, const float* x, std::size_t inputs, std::byte* row);

  // The machine's bounds, for benchmarks (roofline.h).
  std::uint64_t (*read_memory)(const std::byte* p, std::size_t bytes);
  std::uint64_t (*integer_peak)(std::size_t rounds);
};

// Those that this build has and this machine can run, best first. Empty where even the first wants more than the
// machine has: kernels/ref is left.
std::span<const Kernels* const> kernels();

// By the name that Kernels::isa has. Null: unknown here.
const Kernels* find_kernels(std::string_view isa);

}  // namespace sirocco::cpu
