// The kernels for NVIDIA GPUs, as functions that enqueue them on a stream: they allocate nothing and wait for nothing.
// All pointers are to device memory unless a comment says otherwise. Shapes are fixed by the arguments, so that a
// sequence of calls can be captured as a graph; what changes from step to step is read from device memory.
//
// Integer products are those of kernels/cpu, bit for bit: the same activations, the same exact sums, the same rounding
// in the same order, whichever kernel computes one row or many. Everything else keeps to one order of its
// own, whatever the other rows are.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/tiles.h"
#include "kernels/rope_parameters.h"
#include "kernels/token_choice.h"

namespace sirocco::cuda {

struct DeviceMatrix {
  TensorType type = TensorType::f32;
  const std::byte* data = nullptr;  // tiles.h
  std::uint32_t inputs = 0;
  std::uint32_t outputs = 0;
};

// Rows of activations as int8. Inputs are padded to a multiple of 256 with zeros.
struct Activations {
  std::int8_t* q = nullptr;      // [rows, padded]; null: this format is not wanted
  std::int16_t* sums = nullptr;  // [rows, padded / 16] of q
  float* scales = nullptr;       // [rows, padded / 32] (q8_32) or [rows, padded / 256] (q8_256)
};

// The same rows in each format that some matrix wants.
struct Rows {
  const float* f32 = nullptr;  // [rows, inputs]
  Activations q8_32;           // Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4
  Activations q8_256;          // Q2_K to Q6_K, IQ4_XS
};

// x += what came out of the last part of the layer; then normed = rms_norm(x), in every format of `out` that is there.
struct NormArguments {
  std::uint32_t rows = 0;
  std::uint32_t width = 0;
  float* x = nullptr;  // [rows, width], the residual stream: changed in place
  // What is added before, one or none:
  const float* branch = nullptr;          // [rows, width]
  const float* expert_out = nullptr;      // [assignments, width]: sum over i of weights[row, i] *
  const std::uint32_t* place = nullptr;   // [rows, used] expert_out[place[row, i]], in that order,
  const float* expert_weights = nullptr;  // [rows, used] then x += the sum
  std::uint32_t used = 0;
  const float* weight = nullptr;  // [width]; null: nothing is normed, only added
  float epsilon = 0;
  // [rows] row i is of x[rows_of[i]] and of what is added to that, which is not changed; null: of x[i].
  const std::uint32_t* rows_of = nullptr;
  float* f32 = nullptr;  // [rows, width] or null
  Activations q8_32;
  Activations q8_256;
};
cudaError_t norm(const NormArguments& arguments, cudaStream_t stream);

// Rows as they are, in each format of `out`.
cudaError_t quantise(const float* x, std::uint32_t rows, std::uint32_t inputs, const Activations& q8_32,
                     const Activations& q8_256, cudaStream_t stream);

// y[r, n] = sum_k x[r, k] w[n, k] for up to three matrices that meet the same rows.
struct LinearArguments {
  struct Part {
    DeviceMatrix w;
    float* y = nullptr;  // [rows, w.outputs]
  };
  std::uint32_t rows = 0;
  std::uint32_t parts = 0;
  Part part[3];
  Rows x;
};
cudaError_t linear(const LinearArguments& arguments, cudaStream_t stream);

// gate and up of a dense FFN, or of one: y = silu(gate x) * up x.
struct GatedArguments {
  std::uint32_t rows = 0;
  DeviceMatrix gate;
  DeviceMatrix up;
  Rows x;
  float* y = nullptr;      // [rows, gate.outputs]
  float* of_up = nullptr;  // scratch of the same shape, unless gated_at_once()
};
// Whether one kernel multiplies with gate and up: integers of one type. If not, one after the other.
constexpr bool gated_at_once(TensorType gate, TensorType up) {
  return gate == up && gate != TensorType::f32 && gate != TensorType::f16 && gate != TensorType::bf16;
}
cudaError_t gated(const GatedArguments& arguments, cudaStream_t stream);

// --- experts

// One expert's three matrices, as tiles; null where it is not in device memory.
struct DeviceExpert {
  const std::byte* gate = nullptr;
  const std::byte* up = nullptr;
  const std::byte* down = nullptr;
};

// Which rows meet which expert, sorted by expert, made on the device by route(). A tile is up to `tile_rows` rows of
// one expert.
struct ExpertTile {
  std::uint32_t expert;
  std::uint32_t first;  // place of its first assignment
  std::uint32_t count;
};
struct ExpertLists {
  std::uint32_t* chosen = nullptr;  // [rows, used] ascending
  float* weights = nullptr;         // [rows, used]
  std::uint32_t* place = nullptr;   // [rows, used]: where assignment (row, i) stands
  std::uint32_t* row_of = nullptr;  // [rows * used]: of a place, the row
  std::uint32_t* first = nullptr;   // [experts + 1]: places of an expert
  ExpertTile* tiles = nullptr;      // [max_tiles]
  std::uint32_t* tile_count = nullptr;
};
// The most tiles that there can be.
constexpr std::uint32_t max_expert_tiles(std::uint32_t rows, std::uint32_t used, std::uint32_t experts,
                                         std::uint32_t tile_rows) {
  const std::uint32_t assignments = rows * used;
  const std::uint32_t some = assignments < experts ? assignments : experts;  // experts that have any
  return some + (assignments - some) / tile_rows;
}
// Rows of a tile that suit a step of so many rows.
std::uint32_t expert_tile_rows(std::uint32_t rows, std::uint32_t used, std::uint32_t experts);

struct RouteArguments {
  std::uint32_t rows = 0;
  std::uint32_t experts = 0;
  std::uint32_t used = 0;
  std::uint32_t tile_rows = 0;
  bool softmax_before_choice = true;  // as ref::RouteParameters
  bool normalise = true;
  float scale = 1;
  const float* logits = nullptr;  // [rows, experts]
  // [experts]: there are tiles of those alone that are in device memory; null: all are
  const DeviceExpert* experts_table = nullptr;
  ExpertLists lists;
};
cudaError_t route(const RouteArguments& arguments, cudaStream_t stream);

// Of every assignment: y[place] = silu(gate x[row]) * up x[row].
struct ExpertArguments {
  std::uint32_t rows = 0;  // of the step
  std::uint32_t used = 0;
  std::uint32_t experts = 0;
  std::uint32_t tile_rows = 0;
  TensorType type = TensorType::f32;     // of gate and up, or of down
  TensorType up_type = TensorType::f32;  // as `type`, unless the file mixes
  std::uint32_t first = 0;               // place of the first assignment in question
  std::uint32_t inputs = 0;
  std::uint32_t outputs = 0;
  const DeviceExpert* experts_table = nullptr;  // [experts]
  ExpertLists lists;
  Rows x;                  // gate_up: [rows, inputs]; down: [assignments, inputs], by place
  float* y = nullptr;      // [assignments, outputs]
  float* of_up = nullptr;  // gate_up: scratch of the same shape, unless gated_at_once()
};
cudaError_t expert_gate_up(const ExpertArguments& arguments, cudaStream_t stream);
// y[place] = down x[place].
cudaError_t expert_down(const ExpertArguments& arguments, cudaStream_t stream);

// From the file's layout to tiles, as tiles.h's repack() does it on the host.
struct RepackArguments {
  Matrix matrix;               // its data on the device
  std::byte* tiles = nullptr;  // [matrix_bytes()]
};
cudaError_t repack(const RepackArguments& arguments, cudaStream_t stream);

// --- experts that are not in device memory

// One that a layer wants of the host, with its places in ExpertLists.
struct MissingExpert {
  std::uint32_t expert;
  std::uint32_t first;
  std::uint32_t count;
};
// Through which a step that runs asks the host, and is answered. One layer at a time: the host answers before the
// stream goes on.
struct Mailbox {
  // In page-locked memory. From the device, complete when `posted` has risen by one:
  std::uint32_t* posted = nullptr;   // posts since the beginning; a layer that misses nothing does not post
  std::uint32_t* layer = nullptr;    // that asks
  std::uint32_t* missing = nullptr;  // how many
  MissingExpert* experts = nullptr;  // [experts] ascending
  std::uint32_t* row_of = nullptr;   // [assignments] of the places of missing experts
  float* rows = nullptr;             // [rows, width] of those that meet a missing expert, as the experts' input
  // From the host, complete when `answered` is what `posted` was:
  std::uint32_t* answered = nullptr;
  float* out = nullptr;  // [assignments, width] the experts' outputs, at their places
  // In device memory:
  std::uint32_t* posts = nullptr;           // as *posted, from 0 on
  std::uint32_t* missing_now = nullptr;     // of the layer that was posted last, or that missed nothing
  std::uint32_t* blocks_done = nullptr;     // 0 between kernels
  std::uint32_t* rows_of_expert = nullptr;  // [layers, experts] that met it in the step
};
// What the host stores in `answered` when nothing will come: the step ends, and its results are void.
inline constexpr std::uint32_t kHostGaveUp = 0xFFFFFFFFU;

struct MailArguments {
  std::uint32_t rows = 0;
  std::uint32_t used = 0;
  std::uint32_t experts = 0;
  std::uint32_t width = 0;
  std::uint32_t layer = 0;
  const DeviceExpert* experts_table = nullptr;  // [experts]; null: all are missing, and asked for
  ExpertLists lists;
  const float* x = nullptr;     // [rows, width] the experts' input; null: the host does not want it
  float* expert_out = nullptr;  // [assignments, width]
  bool always = false;          // posts also if nothing is missing: the host wants to know that
  Mailbox mailbox;
};
// After route(): asks for what is missing.
cudaError_t post_missing(const MailArguments& arguments, cudaStream_t stream);
// After expert_down(): waits for the answer, if there was a question, and completes expert_out with it.
cudaError_t collect_missing(const MailArguments& arguments, cudaStream_t stream);

// --- the beginning of a step, and attention

// Of each row of a step: its token, its position, and which of the step's sequences it is of. Uploaded before it.
struct StepRows {
  const std::int32_t* tokens = nullptr;         // [rows]
  const std::uint32_t* positions = nullptr;     // [rows]
  const std::uint32_t* sequences = nullptr;     // [rows]
  const std::uint32_t* block_tables = nullptr;  // [sequences, table_stride]
  std::uint32_t table_stride = 0;
};

// x = the tokens' rows of the embedding matrix, dequantised; cosines and sines [rows, pairs] of their positions, times
// the attention factor (kernels/ref/rope.h).
//   embedding    as it lies in the file, copied to the device: any type that kernels/ref can dequantise
//   frequencies  [pairs]
struct EmbedArguments {
  std::uint32_t rows = 0;
  std::uint32_t width = 0;
  StepRows step;
  TensorType type = TensorType::f32;
  const std::byte* embedding = nullptr;
  const float* frequencies = nullptr;
  std::uint32_t pairs = 0;
  float attention_factor = 1;
  float* x = nullptr;
  float* cosines = nullptr;
  float* sines = nullptr;
};
cudaError_t embed(const EmbedArguments& arguments, cudaStream_t stream);

// One layer's keys and values: [blocks, kv_heads, block_tokens, head_dim] in f16, or in q8_0 with the scales behind the
// values of each head's part of a block.
struct DeviceKv {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  std::size_t block_stride = 0;  // bytes
  std::uint32_t block_tokens = 0;
  TensorType type = TensorType::f16;  // or q8_0
};
// Bytes of the keys, or the values, of one block.
std::size_t kv_block_bytes(TensorType type, std::uint32_t block_tokens, std::uint32_t kv_heads, std::uint32_t head_dim);

struct AttentionArguments {
  std::uint32_t rows = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;  // a multiple of 16, at most 256
  float scale = 0;
  std::uint32_t window = 0;  // keys that a row sees; 0: all
  StepRows step;
  DeviceKv kv;
  // rotate_and_store: norms and rotates q [rows, heads * head_dim] f32 in place, and k [rows, kv_heads * head_dim] on
  // its way into the cache, where v, of the same shape, goes as it is.
  float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;
  float epsilon = 0;
  const float* cosines = nullptr;  // [rows, pairs]
  const float* sines = nullptr;
  std::uint32_t pairs = 0;
  RopeStyle style = RopeStyle::normal;
  // attend: reads q, writes mixed.
  std::uint32_t splits = 0;  // of kAttentionSplit keys: enough for the longest row (and its window)
  float* parts = nullptr;    // attention_part_bytes()
  float* mixed = nullptr;    // [rows, heads * head_dim] f32, or null
  Activations q8_32;         // of mixed
  Activations q8_256;
};
// Attention is computed in splits of so many keys, from position 0 on, whose results are folded in ascending order.
inline constexpr std::uint32_t kAttentionSplit = 256;
std::size_t attention_part_bytes(std::uint32_t rows, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t splits);
cudaError_t rotate_and_store(const AttentionArguments& arguments, cudaStream_t stream);
cudaError_t attend(const AttentionArguments& arguments, cudaStream_t stream);

// --- the end of a step

struct RowChoice {
  TokenChoice choice;
  std::uint32_t wanted = 0;  // 0: the row's logits go to the host
};
// chosen[row] = ref::choose_token() of the row, for those that want it.
struct ChooseArguments {
  std::uint32_t rows = 0;
  std::uint32_t vocabulary = 0;        // at most kMostTokens
  const float* logits = nullptr;       // [rows, vocabulary]
  const RowChoice* choices = nullptr;  // [rows]
  std::int32_t* chosen = nullptr;      // [rows], may be page-locked memory
};
cudaError_t choose(const ChooseArguments& arguments, cudaStream_t stream);

}  // namespace sirocco::cuda
