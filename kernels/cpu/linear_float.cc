// F32, F16 and BF16 weights against f32 activations.
//
// Of every output: partial sum j takes, with fma, the products of k = j, j + 16, j + 32 … in that order; at the end sum
// j takes sum j + 8, then j + 4, j + 2, j + 1. One row or many, every instruction set: the same bits.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/linear_types.h"
#include "kernels/cpu/simd.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct F32 {
  static constexpr std::size_t kBytes = 4;
  SIROCCO_INLINE static Floats16 load(const std::byte* p) { return load_floats(reinterpret_cast<const float*>(p)); }
};
struct F16 {
  static constexpr std::size_t kBytes = 2;
  SIROCCO_INLINE static Floats16 load(const std::byte* p) { return load_f16(p); }
};
struct Bf16 {
  static constexpr std::size_t kBytes = 2;
  SIROCCO_INLINE static Floats16 load(const std::byte* p) { return load_bf16(p); }
};

template <class Type>
struct LinearFloat {
  static constexpr std::size_t kOutputs = 4;  // at once, so that a row of activations is read once for four outputs

  // The last inputs, where they are fewer than 16, as 16 with zeros behind.
  SIROCCO_INLINE static Floats16 load_weights(const std::byte* p, std::size_t count) {
    if (count == 16) return Type::load(p);
    std::byte padded[16 * Type::kBytes] = {};
    std::memcpy(padded, p, count * Type::kBytes);
    return Type::load(padded);
  }
  SIROCCO_INLINE static Floats16 load_activations(const float* p, std::size_t count) {
    if (count == 16) return load_floats(p);
    float padded[16] = {};
    std::memcpy(padded, p, count * sizeof(float));
    return load_floats(padded);
  }

  template <std::size_t Rows>
  SIROCCO_INLINE static void accumulate(const std::byte* const* w, const float* const* x, std::size_t k,
                                        std::size_t count, Floats16 (*sums)[Rows]) {
    Floats16 a[Rows];
    for (std::size_t row = 0; row < Rows; ++row) a[row] = load_activations(x[row] + k, count);
    for (std::size_t i = 0; i < kOutputs; ++i) {
      const Floats16 weights = load_weights(w[i] + k * Type::kBytes, count);
      for (std::size_t row = 0; row < Rows; ++row) sums[i][row] = fma(weights, a[row], sums[i][row]);
    }
  }

  template <std::size_t Rows>
  static void rows_of(const Matrix& m, const std::byte* const* activations, std::size_t first, std::size_t last,
                      float* y, std::size_t stride) {
    const float* x[Rows];
    for (std::size_t row = 0; row < Rows; ++row) x[row] = reinterpret_cast<const float*>(activations[row]);
    for (std::size_t output = first; output < last; output += kOutputs) {
      const std::size_t outputs = std::min(kOutputs, last - output);
      const std::byte* w[kOutputs];
      for (std::size_t i = 0; i < kOutputs; ++i)
        w[i] = m.data + (output + std::min(i, outputs - 1)) * m.inputs * Type::kBytes;
      Floats16 sums[kOutputs][Rows];
      for (auto& of_output : sums)
        for (Floats16& sum : of_output) sum = zero_floats();
      std::size_t k = 0;
      for (; k + 16 <= m.inputs; k += 16) {
        for (const std::byte* row : w) prefetch(row + k * Type::kBytes + 1024);
        accumulate<Rows>(w, x, k, 16, sums);
      }
      if (k < m.inputs) accumulate<Rows>(w, x, k, m.inputs - k, sums);
      for (std::size_t i = 0; i < outputs; ++i)
        for (std::size_t row = 0; row < Rows; ++row) y[row * stride + output + i] = sum_lanes(sums[i][row]);
    }
  }

  static void rows(const Matrix& w, const std::byte* const* x, std::size_t count, std::size_t first, std::size_t last,
                   float* y, std::size_t stride, float*) {
    switch (count) {
      case 1:
        return rows_of<1>(w, x, first, last, y, stride);
      case 2:
        return rows_of<2>(w, x, first, last, y, stride);
      case 3:
        return rows_of<3>(w, x, first, last, y, stride);
      default:
        return rows_of<4>(w, x, first, last, y, stride);
    }
  }

  static constexpr LinearFunctions kFunctions = {
      .max_rows = kMaxRowGroup, .rows = rows, .pack = nullptr, .tile_bytes = nullptr, .panel = nullptr};
};

}  // namespace

extern const LinearFunctions linear_f32 = LinearFloat<F32>::kFunctions;
extern const LinearFunctions linear_f16 = LinearFloat<F16>::kFunctions;
extern const LinearFunctions linear_bf16 = LinearFloat<Bf16>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA
