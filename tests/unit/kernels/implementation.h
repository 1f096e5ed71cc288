// The op tests run over every implementation of the kernels: kernels/ref, kernels/cpu of each instruction set that this
// machine runs, and the definition of its vectors in plain C++. An implementation is judged against a naive computation
// in double precision on what it is given, within its own tolerance; what the design promises with `==` (one row as
// many, any split, every instruction set) is asked of each with `==`.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/tensor_type.h"

namespace sirocco::test {

struct Implementation {
  const Kernels* kernels;
  double sum_tolerance;      // of a sum of products, in units of the sum of their magnitudes
  double element_tolerance;  // of an element that is no long sum, relative
};

std::span<const Implementation> implementations();

inline void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.kernels->backend << " " << implementation.kernels->isa;
}
// As a part of a test's name.
std::string name_of(const Implementation& implementation);

// Memory aligned to 64 bytes, filled with what no result may depend on.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t count) : data_(static_cast<T*>(std::aligned_alloc(64, bytes(count))), &std::free) {
    for (std::size_t i = 0; i < bytes(count); ++i) reinterpret_cast<unsigned char*>(data_.get())[i] = 0xA5;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  static std::size_t bytes(std::size_t count) { return (count * sizeof(T) + 63) / 64 * 64; }
  std::unique_ptr<T, decltype(&std::free)> data_;
};

// n floats about normally distributed; the same for the same seed.
std::vector<float> random_floats(std::size_t n, unsigned seed);

// row_bytes(type, n) bytes of weights: every quantised value is possible, the scales are those of a model.
std::vector<std::byte> random_weights(TensorType type, std::size_t n, unsigned seed);

// The types that kernels compute on.
std::vector<TensorType> computable_types();

}  // namespace sirocco::test
