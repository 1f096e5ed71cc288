#include "kernels/ref/embedding.h"

#include <cassert>

#include "kernels/ref/dequantize.h"

namespace sirocco::ref {

void embedding(const Matrix& table, std::span<const std::int32_t> tokens, std::span<float> y) {
  assert(y.size() == tokens.size() * table.inputs);

  const std::size_t stride = row_bytes(table.type, table.inputs);
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    const auto token = static_cast<std::size_t>(tokens[row]);  // a negative one becomes larger than any vocabulary
    assert(token < table.outputs);
    dequantize(table.type, table.data + token * stride, y.subspan(row * table.inputs, table.inputs));
  }
}

}  // namespace sirocco::ref
