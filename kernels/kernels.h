// The kernels of one implementation, as a table: kernels/ref, or kernels/cpu for one instruction set. Every function is
// pure arithmetic on the caller's memory: no allocation, no threads; safe from any worker on disjoint outputs. Of one
// table a row's result never depends on how many rows are computed together; the tables of kernels/cpu all give the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/attention_shape.h"
#include "kernels/matrix.h"
#include "kernels/rope_parameters.h"

namespace sirocco {

// How a row of activations is stored for the products with a type of weights.
enum class ActivationFormat : std::uint8_t {
  f32,     // as it is
  q8_32,   // int8 in blocks of 32 with a float scale
  q8_256,  // in blocks of 256
};
inline constexpr std::size_t kActivationFormats = 3;

// The product of rows of activations with a matrix of one type: y[r, n] = sum_k x[r, k] w[n, k].
struct LinearFunctions {
  // Of at most this many rows at once; streams the weights.
  //   x        rows of activations in the format of w's type
  //   y        y[r * stride + n] for n in [first, last) are written
  //   scratch  row_scratch_floats(w.inputs) floats, aligned to 64 bytes
  std::size_t max_rows = 0;
  void (*rows)(const Matrix& w, const std::byte* const* x, std::size_t count, std::size_t first, std::size_t last,
               float* y, std::size_t stride, float* scratch) = nullptr;

  // Of many rows, the same bits: the weights of Kernels::panel_outputs outputs at a time are expanded into scratch and
  // multiplied with every tile. Null where `rows` is all there is.
  //   pack     interleaves up to Kernels::tile_rows rows into a tile of tile_bytes(count, inputs) bytes
  //   tiles    of `count` rows: whole tiles, then one for the rest; one after another
  //   scratch  panel_scratch_bytes(count), aligned to 64 bytes
  void (*pack)(const std::byte* const* x, std::size_t count, std::size_t inputs, std::byte* tile) = nullptr;
  std::size_t (*tile_bytes)(std::size_t count, std::size_t inputs) = nullptr;
  void (*panel)(const Matrix& w, const std::byte* tiles, std::size_t count, std::size_t first, std::size_t last,
                float* y, std::size_t stride, std::byte* scratch) = nullptr;
};

inline constexpr std::size_t kPanel = 16;  // outputs
inline constexpr std::size_t kMaxPanelOutputs = 2 * kPanel;
inline constexpr std::size_t kPanelInputs = 1024;  // expanded at once: 16 KiB of int8
inline constexpr std::size_t kMaxRowGroup = 4;     // the most that LinearFunctions::max_rows is in kernels/cpu

// With slack for reads of 16 blocks.
constexpr std::size_t row_scratch_floats(std::size_t inputs) {
  return (kMaxRowGroup + 1) * (inputs / 32 * kPanel + 48) + inputs;
}
// Expanded weights with their scales, and the sums of all rows.
constexpr std::size_t panel_scratch_bytes(std::size_t count) {
  return 2 * kPanelInputs * kPanel + (count + 16) * kMaxPanelOutputs * sizeof(float);
}

inline constexpr std::size_t kPeakMultiplies = 12 * 64;

struct Kernels {
  std::string_view backend;  // "ref" or "cpu"
  std::string_view isa;      // "avx2", as --isa names it
  std::size_t tile_rows = 1;
  std::size_t panel_outputs = kPanel;  // a multiple of it, at most kMaxPanelOutputs

  ActivationFormat (*activation_format)(TensorType weights) = nullptr;
  // Of one row, a multiple of 64. inputs: a whole number of the format's blocks.
  std::size_t (*activation_bytes)(ActivationFormat format, std::size_t inputs) = nullptr;
  // One row: x [inputs] f32 to row, aligned to 64 bytes. NaN and infinity survive.
  void (*quantise)(ActivationFormat format, const float* x, std::size_t inputs, std::byte* row) = nullptr;
  const LinearFunctions& (*linear)(TensorType weights) = nullptr;

  // y[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i]; one row [width], y may be x. (Zhang & Sennrich 2019)
  void (*rms_norm)(const float* x, const float* weight, std::size_t width, float epsilon, float* y) = nullptr;
  // Rotates the first 2 * pairs elements of each head of one row [heads, head_dim]. (Su et al. 2021)
  //   cosines, sines  [pairs] of the row's position, times the attention factor
  void (*rope)(float* x, std::size_t heads, std::size_t head_dim, const float* cosines, const float* sines,
               std::size_t pairs, RopeStyle style) = nullptr;
  // y[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; y may be gate or up. (Shazeer 2020)
  void (*swiglu)(const float* gate, const float* up, std::size_t n, float* y) = nullptr;

  // Grouped-query attention over a paged cache (Ainslie et al. 2023; Kwon et al. 2023).
  // Bytes of the keys, or the values, of one block of one layer. block_tokens: a multiple of 32.
  std::size_t (*kv_block_bytes)(TensorType type, std::size_t block_tokens, std::size_t kv_heads,
                                std::size_t head_dim) = nullptr;
  // Writes one position: k, v [kv_heads, head_dim] f32.
  void (*kv_write)(const KvView& kv, std::uint32_t position, std::size_t kv_heads, std::size_t head_dim, const float* k,
                   const float* v) = nullptr;
  // Of up to kMaxAttentionQueries queries that read one kv head, the result of one piece of the keys. A query that sees
  // nothing of the piece gets a part that changes nothing.
  //   parts    [count, attention_part_floats(head_dim)]
  //   scratch  attention_scratch_floats(head_dim) floats, aligned to 64 bytes
  void (*attend_piece)(const AttentionShape& shape, const KvView& kv, std::size_t kv_head,
                       const AttentionQuery* queries, std::size_t count, std::uint32_t piece, float* parts,
                       float* scratch) = nullptr;
  // Folds a part into those before it; `state` begins as {-infinity, 0, 0 …}.
  void (*fold_piece)(const float* part, std::size_t head_dim, float* state) = nullptr;

  // The machine's bounds, for benchmarks (kernels/cpu/roofline.h): a round is kPeakMultiplies.
  std::uint64_t (*read_memory)(const std::byte* p, std::size_t bytes) = nullptr;
  std::uint64_t (*integer_peak)(std::size_t rounds) = nullptr;
};

}  // namespace sirocco
