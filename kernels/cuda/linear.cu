// The products of a step's rows with weight matrices, and which kernel computes them: linear_few.cuh up to 32 rows of
// one matrix, linear_many.cuh beyond, linear_float.cuh for weights that are floats. The same bits whichever it is.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/linear_few.cuh"
#include "kernels/cuda/linear_float.cuh"
#include "kernels/cuda/linear_many.cuh"

namespace sirocco::cuda {
namespace {

constexpr std::uint32_t kMostFew = 32;                 // rows
constexpr std::size_t kContributionBytes = 32 * 1024;  // of a block's shared memory

bool in_blocks_of_32(TensorType type) {
  return with_weights(type, false, [](auto w) { return decltype(w)::kInputs == 32; });
}

// What stands in for rows of a list: dense products have none.
struct RowList {
  const ExpertTile* tiles = nullptr;  // null: blockIdx.y is a group of rows
  const std::uint32_t* tile_count = nullptr;
  const DeviceExpert* experts = nullptr;
  const std::uint32_t* row_of = nullptr;  // of a place; null: the place itself
  bool down = false;
};

struct ProductArguments {
  FewParts parts;
  FewShape shape;
  Columns columns;      // count: rows in all
  std::uint32_t group;  // rows of a block, where there is no list
  RowList list;
};

// Fills in which rows and which expert's weights the block computes with; false if it has nothing to do.
__device__ __forceinline__ bool take_rows(ProductArguments& a, unsigned index) {
  if (a.list.tiles == nullptr) {
    a.columns.first = index * a.group;
    a.columns.count = min(a.group, a.columns.count - a.columns.first);
    return true;
  }
  if (index >= *a.list.tile_count) return false;
  const ExpertTile tile = a.list.tiles[index];
  const DeviceExpert expert = a.list.experts[tile.expert];
  a.parts.tiles[0] = a.list.down ? expert.down : expert.gate;
  a.parts.tiles[1] = expert.up;
  a.columns.first = tile.first;
  a.columns.count = tile.count;
  a.columns.rows = a.list.row_of;
  return true;
}

template <unsigned Tiles, bool One, class W>
__global__ void __launch_bounds__(32 * kFewWarps) few_kernel(ProductArguments a) {
  CU_DYN_SHARED(float, contributions);
  launch_dependents();
  // Weights that do not depend on what the last kernel found out are asked for before it has ended.
  const bool early = a.list.tiles == nullptr;
  if (!early) wait_for_previous();
  if (!take_rows(a, blockIdx.y)) return;
  few_rows<Tiles, One, W>(a.parts, a.shape, a.columns, contributions, [&] {
    if (early) wait_for_previous();
  });
}

// Tile rows of a block: enough tiles for its warps.
std::uint32_t rows_a_block(std::uint32_t chunks, bool one, unsigned tiles, bool paired) {
  const std::uint32_t most = one ? 16 : kFewOutputs * 32 * kFewWarps / (kTileOutputs * 8 * tiles);
  std::uint32_t rows = paired ? 2 : 1;
  while (rows * chunks < 2 * kFewWarps && 2 * rows <= most) rows *= 2;
  return rows;
}

template <unsigned Tiles, bool One, class W>
cudaError_t launch_few(ProductArguments a, std::uint32_t groups, cudaStream_t stream) {
  a.shape.rows_a_block = rows_a_block(a.columns.chunks, One, Tiles, a.parts.paired);
  const std::size_t of_chunk =
      a.shape.rows_a_block * (256 / W::kInputs) * kTileOutputs * (One ? 1 : 8 * Tiles) * sizeof(float);
  a.shape.round = static_cast<std::uint32_t>(kContributionBytes / of_chunk);
  if (a.shape.round > a.columns.chunks) a.shape.round = a.columns.chunks;
  const std::uint32_t blocks = (a.shape.tile_rows + a.shape.rows_a_block - 1) / a.shape.rows_a_block;
  return launch(
      {.grid = dim3(blocks, groups), .block = dim3(32 * kFewWarps), .smem = a.shape.round * of_chunk, .overlap = true},
      stream, few_kernel<Tiles, One, W>, a);
}

template <class W>
__global__ void __launch_bounds__(kManyThreads, 1) many_kernel(ProductArguments a) {
  CU_DYN_SHARED(std::byte, shared);
  CU_SHARED(std::uint32_t, rows, [kManyColumns]);
  launch_dependents();
  wait_for_previous();
  if (!take_rows(a, blockIdx.x)) return;
  if (threadIdx.x < kManyColumns)
    rows[threadIdx.x] = static_cast<std::uint32_t>(a.columns.row(min(threadIdx.x, a.columns.count - 1)));
  __syncthreads();
  ManyRows<W> block = {.parts = a.parts,
                       .columns = a.columns,
                       .shared = shared,
                       .rows = rows,
                       .first_tile_row = blockIdx.y * kManyTileRows,
                       .tile_rows = a.shape.tile_rows};
  if constexpr (W::kInputs == 256) block.copy_scales();
  block.run();
  block.store();
}

template <class W>
cudaError_t launch_many(const ProductArguments& a, std::uint32_t groups, cudaStream_t stream) {
  const std::size_t bytes = many_bytes<W>(a.columns.chunks);
  void (*const kernel)(ProductArguments) = many_kernel<W>;
  if (const cudaError_t error = cudaFuncSetAttribute(
          reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)))
    return error;
  return launch({.grid = dim3(groups, (a.shape.tile_rows + kManyTileRows - 1) / kManyTileRows),
                 .block = dim3(kManyThreads),
                 .smem = bytes,
                 .overlap = true},
                stream, kernel, a);
}

// rows: of a block, at most.
cudaError_t launch_products(TensorType type, const ProductArguments& a, std::uint32_t rows, std::uint32_t groups,
                            cudaStream_t stream) {
  return with_weights(type, cudaErrorNotSupported, [&](auto w) {
    using W = decltype(w);
    if (rows > kMostFew) return launch_many<W>(a, groups, stream);
    if (rows == 1) return launch_few<1, true, W>(a, groups, stream);
    if (rows <= 8) return launch_few<1, false, W>(a, groups, stream);
    if (rows <= 16) return launch_few<2, false, W>(a, groups, stream);
    return launch_few<4, false, W>(a, groups, stream);
  });
}

Columns columns_for(TensorType type, const Rows& x, std::uint32_t inputs, std::uint32_t rows) {
  const bool of_32 = in_blocks_of_32(type);
  const auto chunks = static_cast<std::uint32_t>(padded(inputs, kTileInputs) / kTileInputs);
  return {.x = of_32 ? x.q8_32 : x.q8_256,
          .chunks = chunks,
          .blocks = of_32 ? inputs / 32 : chunks,
          .scales_stride = of_32 ? 8 * chunks : chunks,
          .count = rows,
          .first = 0,
          .rows = nullptr};
}

std::uint32_t tile_rows_of(std::uint32_t outputs) {
  return static_cast<std::uint32_t>(padded(outputs, kTileOutputs) / kTileOutputs);
}

void add_part(FewParts& parts, FewShape& shape, unsigned i, const std::byte* tiles, std::uint32_t outputs, float* y) {
  parts.tiles[i] = tiles;
  parts.y[i] = y;
  parts.outputs[i] = outputs;
  parts.tile_rows[i] = tile_rows_of(outputs);
  shape.tile_rows += parts.tile_rows[i];
}

// --- floats

struct FloatArguments {
  const std::byte* weights;
  const float* x;
  float* y;
  std::uint32_t rows;
  std::uint32_t inputs;
  std::uint32_t outputs;
  bool share;
};

template <class W>
__global__ void __launch_bounds__(32 * kFloatWarps) float_kernel(FloatArguments a) {
  CU_SHARED(float, shared, [kFloatWarps * kFloatRows]);
  launch_dependents();
  wait_for_previous();
  const unsigned output = a.share ? blockIdx.x : blockIdx.x * kFloatWarps + threadIdx.x / 32;
  if (!a.share && output >= a.outputs) return;
  const unsigned first = blockIdx.y * kFloatRows;
  const float* x[kFloatRows];
#pragma unroll
  for (unsigned r = 0; r < kFloatRows; ++r)
    x[r] = a.x + static_cast<std::size_t>(min(first + r, a.rows - 1)) * a.inputs;
  float sums[kFloatRows] = {};
  float_products<W>(a.weights + static_cast<std::size_t>(output) * a.inputs * W::kBytes, x, a.inputs, a.share, shared,
                    sums);
#pragma unroll
  for (unsigned r = 0; r < kFloatRows; ++r)
    if (first + r < a.rows && threadIdx.x % 32 == r && (!a.share || threadIdx.x < 32))
      a.y[static_cast<std::size_t>(first + r) * a.outputs + output] = sums[r];
}

cudaError_t launch_float(const DeviceMatrix& w, const FloatArguments& a, cudaStream_t stream) {
  const std::uint32_t blocks = a.share ? a.outputs : (a.outputs + kFloatWarps - 1) / kFloatWarps;
  const Dims dims = {
      .grid = dim3(blocks, (a.rows + kFloatRows - 1) / kFloatRows), .block = dim3(32 * kFloatWarps), .overlap = true};
  if (w.type == TensorType::f32) return launch(dims, stream, float_kernel<WeightsF32>, a);
  if (w.type == TensorType::f16) return launch(dims, stream, float_kernel<WeightsF16>, a);
  if (w.type == TensorType::bf16) return launch(dims, stream, float_kernel<WeightsBF16>, a);
  return cudaErrorNotSupported;
}

bool is_float(TensorType type) {
  return type == TensorType::f32 || type == TensorType::f16 || type == TensorType::bf16;
}

// Rows of a block, and how many blocks they make.
std::uint32_t group_rows(std::uint32_t rows) {
  return rows > kMostFew ? kManyColumns : rows;
}

}  // namespace

cudaError_t linear(const LinearArguments& arguments, cudaStream_t stream) {
  bool done[3] = {};
  for (unsigned i = 0; i < arguments.parts; ++i) {
    if (done[i]) continue;
    const DeviceMatrix& w = arguments.part[i].w;
    if (is_float(w.type)) {
      const FloatArguments a = {.weights = w.data,
                                .x = arguments.x.f32,
                                .y = arguments.part[i].y,
                                .rows = arguments.rows,
                                .inputs = w.inputs,
                                .outputs = w.outputs,
                                .share = shares_output(w.outputs)};
      if (const cudaError_t error = launch_float(w, a, stream)) return error;
      continue;
    }
    // All matrices of one type in one launch.
    ProductArguments a = {};
    unsigned count = 0;
    for (unsigned j = i; j < arguments.parts; ++j) {
      const LinearArguments::Part& part = arguments.part[j];
      if (part.w.type != w.type) continue;
      done[j] = true;
      add_part(a.parts, a.shape, count++, part.w.data, part.w.outputs, part.y);
    }
    a.columns = columns_for(w.type, arguments.x, w.inputs, arguments.rows);
    a.group = group_rows(arguments.rows);
    const std::uint32_t groups = (arguments.rows + a.group - 1) / a.group;
    if (const cudaError_t error = launch_products(w.type, a, a.group, groups, stream)) return error;
  }
  return cudaSuccess;
}

cudaError_t gated(const GatedArguments& arguments, cudaStream_t stream) {
  const TensorType type = arguments.gate.type;
  if (type != arguments.up.type) return cudaErrorNotSupported;
  ProductArguments a = {};
  add_part(a.parts, a.shape, 0, arguments.gate.data, arguments.gate.outputs, arguments.y);
  add_part(a.parts, a.shape, 1, arguments.up.data, arguments.up.outputs, arguments.y);
  a.parts.paired = true;
  a.columns = columns_for(type, arguments.x, arguments.gate.inputs, arguments.rows);
  a.group = group_rows(arguments.rows);
  return launch_products(type, a, a.group, (arguments.rows + a.group - 1) / a.group, stream);
}

// --- experts

std::uint32_t expert_tile_rows(std::uint32_t rows, std::uint32_t used, std::uint32_t experts) {
  const std::uint32_t expected = (rows * used + experts - 1) / experts;
  if (rows == 1) return 1;
  if (expected <= 4) return 8;
  if (expected <= 8) return 16;
  if (expected <= 16) return 32;
  return kManyColumns;
}

namespace {

cudaError_t expert_products(const ExpertArguments& arguments, bool down, cudaStream_t stream) {
  const std::uint32_t assignments = arguments.rows * arguments.used;
  ProductArguments a = {};
  add_part(a.parts, a.shape, 0, nullptr, arguments.outputs, arguments.y);
  a.parts.paired = !down;
  if (!down) add_part(a.parts, a.shape, 1, nullptr, arguments.outputs, arguments.y);
  a.columns = columns_for(arguments.type, arguments.x, arguments.inputs, assignments);
  a.list = {.tiles = arguments.lists.tiles,
            .tile_count = arguments.lists.tile_count,
            .experts = arguments.experts_table,
            .row_of = down ? nullptr : arguments.lists.row_of,
            .down = down};
  const std::uint32_t groups = max_expert_tiles(arguments.rows, arguments.used, arguments.experts, arguments.tile_rows);
  return launch_products(arguments.type, a, arguments.tile_rows, groups, stream);
}

}  // namespace

cudaError_t expert_gate_up(const ExpertArguments& arguments, cudaStream_t stream) {
  if (arguments.type != arguments.up_type) return cudaErrorNotSupported;
  return expert_products(arguments, false, stream);
}

cudaError_t expert_down(const ExpertArguments& arguments, cudaStream_t stream) {
  return expert_products(arguments, true, stream);
}

}  // namespace sirocco::cuda
