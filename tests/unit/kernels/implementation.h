// The op tests run over every implementation of the kernels: today kernels/ref. An implementation is judged against a
// naive computation in double precision on the weights that ref::dequantize gives, within its own tolerance; what the
// design promises with `==` (one row as many, any split) is asked of each with `==`.
#pragma once

#include <cstddef>
#include <ostream>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/ref/attention.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/linear.h"
#include "kernels/ref/rms_norm.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/route.h"
#include "kernels/ref/swiglu.h"
#include "kernels/ref/weighted_sum.h"
#include "kernels/tensor_type.h"

namespace sirocco::test {

struct Implementation {
  std::string_view name;
  decltype(&ref::linear) linear;
  decltype(&ref::embedding) embedding;
  decltype(&ref::rms_norm) rms_norm;
  decltype(&ref::rope) rope;
  decltype(&ref::kv_write) kv_write;
  decltype(&ref::attention) attention;
  decltype(&ref::swiglu) swiglu;
  decltype(&ref::route) route;
  decltype(&ref::weighted_sum) weighted_sum;
  decltype(&ref::add) add;

  double sum_tolerance;      // of a sum of products, in units of the sum of their magnitudes
  double element_tolerance;  // of an element that is no long sum, relative
};

std::span<const Implementation> implementations();

inline void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.name;
}

// n floats about normally distributed; the same for the same seed.
std::vector<float> random_floats(std::size_t n, unsigned seed);

// row_bytes(type, n) bytes of weights: every quantised value is possible, the scales are those of a model.
std::vector<std::byte> random_weights(TensorType type, std::size_t n, unsigned seed);

// The types that kernels compute on.
std::vector<TensorType> computable_types();

}  // namespace sirocco::test
