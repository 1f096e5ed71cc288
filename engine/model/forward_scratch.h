// The memory of a forward pass; included by forward*.cc alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/aligned.h"
#include "engine/model/expert_products.h"
#include "engine/model/forward.h"
#include "engine/model/products.h"

namespace sirocco {

// The formats that the model's matrices want their inputs in, by where the inputs come from.
struct ForwardFormats {
  ForwardFormats(const Model& model, const Kernels& kernels);
  FormatSet attention;  // q, k, v
  FormatSet mixed;      // the output of attention
  FormatSet ffn;        // gate, up, router
  FormatSet hidden;     // down
  FormatSet output;     // the output matrix
};

std::vector<Products::Use> product_uses(const ModelSpec& spec, const StepLimits& limits, const ForwardFormats& formats);
// Of the products with down: their rows come while those of gate and up are still needed.
std::vector<Products::Use> hidden_uses(const ModelSpec& spec, const StepLimits& limits, const ForwardFormats& formats);

// One piece of attention: queries that read one kv head, over all pieces of the keys or one of them.
struct AttentionTask {
  std::uint32_t sequence = 0;
  std::uint32_t row = 0;  // of the step
  std::uint32_t rows = 0;
  std::uint32_t position = 0;  // of the first row
  std::uint32_t kv_head = 0;
  std::uint32_t first_piece = 0;
  std::uint32_t last_piece = 0;  // inclusive
  std::uint32_t part = 0;        // where its parts go, if they are folded afterwards
};

// How many elements the vectors of Scratch have.
struct ForwardSizes {
  ForwardSizes(const ModelSpec& spec, const StepLimits& limits, std::size_t threads);
  std::uint64_t bytes() const;

  std::size_t threads = 0;
  std::size_t rows = 0;
  std::size_t x = 0;       // [rows, width]
  std::size_t q = 0;       // [rows, heads * head_dim]
  std::size_t kv = 0;      // [rows, kv_heads * head_dim]
  std::size_t hidden = 0;  // [rows, ffn_width] or [assignments, expert width]
  std::size_t final = 0;   // [logit_rows, width]
  std::size_t pairs = 0;   // rotated / 2
  std::size_t experts = 0;
  std::size_t router = 0;       // [rows, experts]
  std::size_t assignments = 0;  // rows * used
  std::size_t expert_out = 0;   // [assignments, width]
  std::size_t attention_tasks = 0;
  std::size_t attention_parts = 0;   // floats
  std::size_t attention_thread = 0;  // floats, per thread
};

// Attention over few rows is cut into so many tasks for each thread, piece by piece.
inline constexpr std::size_t kAttentionTasksAThread = 4;

// The next layer's experts are guessed for so many rows and experts of each at most; more rows want all of them, if
// they have so many times as many assignments as there are experts.
inline constexpr std::size_t kForeseenRows = 8;
inline constexpr std::size_t kForeseenUses = 64;
inline constexpr std::size_t kForeseenAll = 4;

// All memory of a step, sized for the limits. `assignments` are (row, expert) pairs: rows * used of them.
struct Forward::Scratch {
  Scratch(const Model& model, const Kernels& kernels, const ForwardSizes& sizes, const StepLimits& limits,
          ThreadPool& pool, ExpertSource& experts, Timeline* timeline);
  Scratch(const Scratch&) = delete;  // parts of it point to others
  Scratch& operator=(const Scratch&) = delete;

  ForwardFormats formats;
  Products products;
  Products hidden_products;

  std::vector<float> x;                  // [rows, width] the residual stream
  std::vector<float> normed;             // [rows, width]
  std::vector<float> q;                  // [rows, heads * head_dim]
  std::vector<float> k;                  // [rows, kv_heads * head_dim]
  std::vector<float> v;                  // likewise
  std::vector<float> mixed;              // [rows, heads * head_dim] attention's result
  std::vector<float> branch;             // [rows, width] what is added to x
  std::vector<float> gate;               // [rows, ffn_width] or [assignments, expert width]
  std::vector<float> up;                 // likewise
  std::vector<float> final;              // [logit_rows, width]
  std::vector<std::uint32_t> all_rows;   // 0, 1, 2 …
  std::vector<float> frequencies;        // [rotated / 2]
  std::vector<float> cosines;            // [rows, rotated / 2]
  std::vector<float> sines;              // likewise
  std::vector<std::uint32_t> positions;  // [rows]
  std::vector<std::uint32_t> sequences;  // [rows] which one a row belongs to

  std::vector<AttentionTask> attention_tasks;
  std::vector<float> attention_parts;                  // of tasks whose parts are folded afterwards
  std::vector<AlignedVector<float>> attention_memory;  // per thread: scratch, parts and states

  std::vector<float> router;            // [rows, experts]
  std::vector<std::uint32_t> chosen;    // [rows, used] experts, ascending; skipped ones as the last + 1
  std::vector<float> weights;           // [rows, used]
  std::vector<std::uint8_t> resident;   // [experts] of the layer, for lossy modes
  std::vector<std::uint32_t> first;     // [experts + 2] where an expert's assignments begin; skipped ones last
  std::vector<std::uint32_t> place;     // [rows, used] where an assignment went
  std::vector<std::uint32_t> row_of;    // [assignments] the row of each, by expert
  std::vector<float> expert_out;        // [assignments, width] outputs, by expert
  std::vector<WantedExpert> wanted;     // of the layer
  std::vector<std::uint32_t> foreseen;  // experts of the next layer
  std::optional<ExpertProducts> expert_products;  // where there are experts
  std::vector<std::vector<float>> route_scratch;  // per thread: [experts]
};

}  // namespace sirocco
