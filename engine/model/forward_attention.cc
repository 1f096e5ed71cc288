// Attention of a step. Rows of a sequence that read one kv head are queries computed together, piece of the keys by
// piece; many rows give enough tasks for all threads, few rows (decoding) are cut along the pieces too, and their parts
// are folded afterwards. Which of both changes nothing of the result: pieces are folded in ascending order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/model/forward_scratch.h"

namespace sirocco {
namespace {

std::uint32_t last_piece(const AttentionTask& task) {
  return (task.position + task.rows - 1) / kAttentionPiece;
}

}  // namespace

void Forward::attend(const Step& step, const KvMemory& kv, std::uint32_t layer) {
  Scratch& s = *scratch_;
  const std::size_t dim = spec_.head_dim;
  const std::size_t part_floats = attention_part_floats(dim);
  const std::uint32_t group = spec_.heads / spec_.kv_heads;  // query heads of a kv head
  const AttentionShape shape = {.heads = spec_.heads,
                                .kv_heads = spec_.kv_heads,
                                .head_dim = dim,
                                .scale = 1.0F / std::sqrt(static_cast<float>(dim)),
                                .window = spec_.window};
  // Tasks over all pieces: rows that fill a call's queries; a group too large for one call is cut.
  const std::uint32_t heads_a_task = std::min<std::uint32_t>(group, kMaxAttentionQueries);
  const std::uint32_t rows_a_task = kMaxAttentionQueries / heads_a_task;
  const std::uint32_t cuts = (group + heads_a_task - 1) / heads_a_task;
  s.attention_tasks.clear();
  std::uint32_t row = 0;
  for (std::uint32_t i = 0; i < step.sequences.size(); ++i) {
    const auto rows = static_cast<std::uint32_t>(step.sequences[i].tokens.size());
    for (std::uint32_t r = 0; r < rows; r += rows_a_task) {
      for (std::uint32_t head = 0; head < spec_.kv_heads * cuts; ++head) {
        AttentionTask task = {.sequence = i,
                              .row = row + r,
                              .rows = std::min(rows_a_task, rows - r),
                              .position = step.sequences[i].position + r,
                              .kv_head = head};
        task.first_piece = shape.first_key(task.position) / kAttentionPiece;
        task.last_piece = last_piece(task);
        s.attention_tasks.push_back(task);
      }
    }
    row += rows;
  }
  const std::size_t whole = s.attention_tasks.size();
  const bool split = whole < kAttentionTasksAThread * pool_.threads() && pool_.threads() > 1;
  if (split) {
    // In place: a task for each piece of each, in order.
    std::uint32_t parts = 0;
    for (std::size_t i = 0; i < whole; ++i) {
      AttentionTask& first = s.attention_tasks[i];
      const AttentionTask all = first;
      first.part = parts++;
      first.last_piece = first.first_piece;
      for (std::uint32_t piece = all.first_piece + 1; piece <= all.last_piece; ++piece) {
        AttentionTask task = all;
        task.part = parts++;
        task.first_piece = task.last_piece = piece;
        s.attention_tasks.push_back(task);
      }
    }
  }

  // The queries of a task, which is kv head `kv_head / cuts`, cut `kv_head % cuts`.
  const auto queries_of = [&](const AttentionTask& task, AttentionQuery* queries) {
    const std::uint32_t first_head = task.kv_head / cuts * group + task.kv_head % cuts * heads_a_task;
    const std::uint32_t heads = std::min(heads_a_task, group - task.kv_head % cuts * heads_a_task);
    std::size_t count = 0;
    for (std::uint32_t r = 0; r < task.rows; ++r)
      for (std::uint32_t head = first_head; head < first_head + heads; ++head)
        queries[count++] = {.q = &s.q[((task.row + r) * spec_.heads + head) * dim], .position = task.position + r};
    return count;
  };
  // Where a query's result goes.
  const auto result_of = [&](const AttentionQuery& query) {
    return &s.mixed[static_cast<std::size_t>(query.q - s.q.data())];
  };
  const auto clear = [&](float* states, std::size_t count) {
    std::fill(states, states + count * part_floats, 0.0F);
    for (std::size_t i = 0; i < count; ++i) states[i * part_floats] = -std::numeric_limits<float>::infinity();
  };
  const auto finish = [&](const AttentionQuery* queries, std::size_t count, const float* states) {
    for (std::size_t i = 0; i < count; ++i) {
      const float* const state = states + i * part_floats;
      float* const y = result_of(queries[i]);
      for (std::size_t d = 0; d < dim; ++d) y[d] = state[2 + d] / state[1];
    }
  };

  pool_.run(s.attention_tasks.size(), [&](std::size_t chunk, std::size_t thread) {
    const AttentionTask& task = s.attention_tasks[chunk];
    float* const scratch = s.attention_memory[thread].data();
    float* const parts = scratch + attention_scratch_floats(dim);
    float* const states = parts + kMaxAttentionQueries * part_floats;
    AttentionQuery queries[kMaxAttentionQueries];
    const std::size_t count = queries_of(task, queries);
    const KvView view = kv.view(kernels_, spec_, layer, step.sequences[task.sequence].block_table);
    if (split) {
      float* const part = &s.attention_parts[task.part * kMaxAttentionQueries * part_floats];
      kernels_.attend_piece(shape, view, task.kv_head / cuts, queries, count, task.first_piece, part, scratch);
      return;
    }
    clear(states, count);
    for (std::uint32_t piece = task.first_piece; piece <= task.last_piece; ++piece) {
      kernels_.attend_piece(shape, view, task.kv_head / cuts, queries, count, piece, parts, scratch);
      for (std::size_t i = 0; i < count; ++i)
        kernels_.fold_piece(parts + i * part_floats, dim, states + i * part_floats);
    }
    finish(queries, count, states);
  });
  if (!split) return;
  pool_.run(whole, [&](std::size_t chunk, std::size_t thread) {
    const AttentionTask& task = s.attention_tasks[chunk];
    float* const states = s.attention_memory[thread].data();
    AttentionQuery queries[kMaxAttentionQueries];
    const std::size_t count = queries_of(task, queries);
    clear(states, count);
    const std::uint32_t pieces = last_piece(task) - task.first_piece + 1;
    for (std::uint32_t piece = 0; piece < pieces; ++piece) {
      const float* const part = &s.attention_parts[(task.part + piece) * kMaxAttentionQueries * part_floats];
      for (std::size_t i = 0; i < count; ++i)
        kernels_.fold_piece(part + i * part_floats, dim, states + i * part_floats);
    }
    finish(queries, count, states);
  });
}

}  // namespace sirocco
