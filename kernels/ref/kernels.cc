#include "kernels/ref/kernels.h"

#include <cassert>
#include <cstring>
#include <limits>

#include "kernels/ref/attention.h"
#include "kernels/ref/linear.h"
#include "kernels/ref/rms_norm.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/swiglu.h"

namespace sirocco::ref {
namespace {

void linear_rows(const Matrix& w, const std::byte* const* x, std::size_t count, std::size_t first, std::size_t last,
                 float* y, std::size_t stride, float* scratch) {
  // Rows of activations are rows of f32 here.
  const auto* rows = reinterpret_cast<const float* const*>(x);
  linear(w, std::span(rows, count), first, last, y, stride, std::span(scratch, w.inputs));
}

constexpr LinearFunctions kLinear = {.max_rows = std::numeric_limits<std::size_t>::max(),
                                     .rows = linear_rows,
                                     .pack = nullptr,
                                     .tile_bytes = nullptr,
                                     .panel = nullptr};

const Kernels kTable = {
    .backend = "ref",
    .isa = "portable",
    .tile_rows = 1,
    .activation_format = [](TensorType) { return ActivationFormat::f32; },
    .activation_bytes = [](ActivationFormat, std::size_t inputs) { return (inputs * sizeof(float) + 63) / 64 * 64; },
    .quantise = [](ActivationFormat, const float* x, std::size_t inputs,
                   std::byte* row) { std::memcpy(row, x, inputs * sizeof(float)); },
    .linear = [](TensorType) -> const LinearFunctions& { return kLinear; },
    .rms_norm =
        [](const float* x, const float* weight, std::size_t width, float epsilon, float* y) {
          rms_norm({x, width}, {weight, width}, epsilon, {y, width});
        },
    .rope =
        [](float* x, std::size_t heads, std::size_t head_dim, const float* cosines, const float* sines,
           std::size_t pairs, RopeStyle style) {
          rope({x, heads * head_dim}, head_dim, {cosines, pairs}, {sines, pairs}, style);
        },
    .swiglu =
        [](const float* gate, const float* up, std::size_t n, float* y) {
          swiglu({gate, n}, {up, n}, {y, n});
        },
    .kv_block_bytes = kv_block_bytes,
    .kv_write =
        [](const KvView& kv, std::uint32_t position, std::size_t kv_heads, std::size_t head_dim, const float* k,
           const float* v) {
          kv_write(kv, position, head_dim, {k, kv_heads * head_dim}, {v, kv_heads * head_dim});
        },
    .attend_piece =
        [](const AttentionShape& shape, const KvView& kv, std::size_t kv_head, const AttentionQuery* queries,
           std::size_t count, std::uint32_t piece, float* parts, float* scratch) {
          const std::size_t part = attention_part_floats(shape.head_dim);
          for (std::size_t i = 0; i < count; ++i)
            attend_piece(shape, kv, kv_head, queries[i], piece, {parts + i * part, part},
                         {scratch, attention_scratch_floats(shape.head_dim)});
        },
    .fold_piece =
        [](const float* part, std::size_t head_dim, float* state) {
          fold_piece({part, attention_part_floats(head_dim)}, {state, attention_part_floats(head_dim)});
        },
    .read_memory = nullptr,
    .integer_peak = nullptr};

}  // namespace

const Kernels& kernels() {
  return kTable;
}

}  // namespace sirocco::ref
