// The products of a step's rows with weight matrices, and which kernel computes them: linear_rounds.cuh up to
// eight rows of one matrix, linear_few.cuh up to 32, linear_many.cuh beyond, linear_float.cuh for weights that are
// floats, expert_floats.cu for experts' that are. The same bits whichever it is.
#include "kernels/cuda/expert_floats.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/linear_few.cuh"
#include "kernels/cuda/linear_float.cuh"
#include "kernels/cuda/linear_many.cuh"
#include "kernels/cuda/linear_rounds.cuh"

namespace sirocco::cuda {
namespace {

constexpr std::uint32_t kMostFew = 32;  // rows

bool in_blocks_of_32(TensorType type) {
  return with_weights(type, false, [](auto w) { return decltype(w)::kInputs == 32; });
}

// Which rows meet which expert's weights; dense products have no list.
struct RowList {
  const ExpertTile* tiles = nullptr;  // null: a block's index is that of a group of rows
  const std::uint32_t* tile_count = nullptr;
  const DeviceExpert* experts = nullptr;
  const std::uint32_t* row_of = nullptr;  // of a place; null: the place itself
  ExpertPart part = ExpertPart::gate;     // of experts; paired: gate, and up behind it
};

struct ProductArguments {
  Parts parts;
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
  a.parts.tiles[0] = a.list.part == ExpertPart::gate ? expert.gate
                     : a.list.part == ExpertPart::up ? expert.up
                                                     : expert.down;
  a.parts.tiles[1] = expert.up;
  a.columns.first = tile.first;
  a.columns.count = tile.count;
  a.columns.rows = a.list.row_of;
  return true;
}

// Weights that do not depend on what the last kernel found out are asked for before it has ended.
template <bool One, class W>
__global__ void __launch_bounds__(Rounds<One, W>::kThreads, 2) rounds_kernel(ProductArguments a, unsigned warps) {
  CU_DYN_SHARED(std::byte, shared);
  launch_dependents();
  const bool early = a.list.tiles == nullptr;
  if (!early) wait_for_previous();
  // Blocks are dealt to what is there: group, or tile of the list, i gets the blocks i, i + groups …
  const unsigned groups = early ? 1 : *a.list.tile_count;
  if (groups == 0 || !take_rows(a, blockIdx.x % groups)) return;
  const unsigned apart = (gridDim.x - blockIdx.x % groups + groups - 1) / groups;
  const Rounds<One, W> rounds = {.parts = a.parts, .chunks = a.columns.chunks, .warps_a_row = warps, .shared = shared};
  rounds.run(a.columns, blockIdx.x / groups, apart, [&] {
    if (early) wait_for_previous();
  });
}

template <unsigned Tiles, class W>
__global__ void __launch_bounds__(32 * kFewWarps) few_kernel(ProductArguments a) {
  CU_SHARED(float, shared, [kFewWarps * 4 * Tiles * 32]);
  launch_dependents();
  const bool early = a.list.tiles == nullptr;
  if (!early) wait_for_previous();
  if (!take_rows(a, blockIdx.y)) return;
  few_rows<Tiles, W>(a.parts, a.columns, shared, [&] {
    if (early) wait_for_previous();
  });
}

template <class W>
__global__ void __launch_bounds__(kManyThreads, 2) many_kernel(ProductArguments a) {
  CU_DYN_SHARED(std::byte, shared);
  CU_SHARED(ManyTables, tables);
  launch_dependents();
  wait_for_previous();
  if (!take_rows(a, blockIdx.x)) return;
  const unsigned first_tile_row = blockIdx.y * kManyTileRows;
  if (threadIdx.x < kManyColumns) {
    tables.rows[threadIdx.x] = static_cast<std::uint32_t>(a.columns.row(min(threadIdx.x, a.columns.count - 1)));
  } else if (threadIdx.x < kManyColumns + kManyTileRows) {
    const unsigned row = threadIdx.x - kManyColumns;
    const TileRow at(a.parts, min(first_tile_row + row, a.parts.all_tile_rows - 1));
    tables.tiles[row] = at.template begin<W>(a.columns.chunks);
  }
  __syncthreads();
  ManyRows<W> block = {
      .parts = a.parts, .columns = a.columns, .shared = shared, .tables = tables, .first_tile_row = first_tile_row};
  if constexpr (W::kInputs == 256) block.copy_scales();
  block.run();
  block.store();
}

cudaError_t multiprocessors(std::uint32_t& count) {
  int device = 0;
  int value = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  if (const cudaError_t error = cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device)) return error;
  count = static_cast<std::uint32_t>(value);
  return cudaSuccess;
}

template <class... Parameters>
cudaError_t allow_shared(void (*kernel)(Parameters...), std::size_t bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

template <bool One, class W>
cudaError_t launch_rounds(const ProductArguments& a, std::uint32_t groups, cudaStream_t stream) {
  using Kernel = Rounds<One, W>;
  const unsigned warps = warps_a_row(a.columns.chunks, a.parts.paired);
  const std::uint32_t rows = kRoundWarps / warps;
  const std::uint32_t items = (a.parts.all_tile_rows + rows - 1) / rows;
  // As many blocks as run at once, but one for each tile of a list.
  std::uint32_t blocks = 0;
  if (const cudaError_t error = multiprocessors(blocks)) return error;
  blocks *= 2;
  if (blocks > items * groups) blocks = items * groups;
  if (blocks < groups) blocks = groups;
  const std::size_t bytes = Kernel::shared_bytes(a.columns.chunks);
  if (const cudaError_t error = allow_shared(rounds_kernel<One, W>, bytes)) return error;
  return launch({.grid = dim3(blocks), .block = dim3(Kernel::kThreads), .smem = bytes, .overlap = true}, stream,
                rounds_kernel<One, W>, a, warps);
}

template <unsigned Tiles, class W>
cudaError_t launch_few(const ProductArguments& a, std::uint32_t groups, cudaStream_t stream) {
  return launch({.grid = dim3((a.parts.all_tile_rows + kFewWarps - 1) / kFewWarps, groups),
                 .block = dim3(32 * kFewWarps),
                 .overlap = true},
                stream, few_kernel<Tiles, W>, a);
}

template <class W>
cudaError_t launch_many(const ProductArguments& a, std::uint32_t groups, cudaStream_t stream) {
  const std::size_t bytes = many_bytes<W>(a.columns.chunks);
  if (const cudaError_t error = allow_shared(many_kernel<W>, bytes)) return error;
  return launch({.grid = dim3(groups, (a.parts.all_tile_rows + kManyTileRows - 1) / kManyTileRows),
                 .block = dim3(kManyThreads),
                 .smem = bytes,
                 .overlap = true},
                stream, many_kernel<W>, a);
}

// rows: of a block, at most.
cudaError_t launch_products(TensorType type, const ProductArguments& a, std::uint32_t rows, std::uint32_t groups,
                            cudaStream_t stream) {
  return with_weights(type, cudaErrorNotSupported, [&](auto w) {
    using W = decltype(w);
    if (rows > kMostFew) return launch_many<W>(a, groups, stream);
    if (rows == 1) return launch_rounds<true, W>(a, groups, stream);
    if (rows <= 8) return launch_rounds<false, W>(a, groups, stream);
    if (rows <= 16) return launch_few<2, W>(a, groups, stream);
    return launch_few<4, W>(a, groups, stream);
  });
}

Columns columns_for(TensorType type, const Rows& x, std::uint32_t inputs, std::uint32_t rows) {
  return {.x = in_blocks_of_32(type) ? x.q8_32 : x.q8_256,
          .chunks = static_cast<std::uint32_t>(padded(inputs, kTileInputs) / kTileInputs),
          .count = rows,
          .first = 0,
          .rows = nullptr};
}

void add_part(Parts& parts, unsigned i, const std::byte* tiles, std::uint32_t outputs, float* y) {
  parts.tiles[i] = tiles;
  parts.y[i] = y;
  parts.outputs[i] = outputs;
  parts.tile_rows[i] = static_cast<std::uint32_t>(padded(outputs, kTileOutputs) / kTileOutputs);
  parts.all_tile_rows += parts.tile_rows[i];
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

template <class W, unsigned kRows>
__global__ void __launch_bounds__(32 * kFloatWarps) float_kernel(FloatArguments a) {
  CU_SHARED(float, shared, [kFloatWarps * kFloatRows]);
  launch_dependents();
  const unsigned output = a.share ? blockIdx.x : blockIdx.x * kFloatWarps + threadIdx.x / 32;
  if (!a.share && output >= a.outputs) return;
  const std::byte* const weights = a.weights + static_cast<std::size_t>(output) * a.inputs * W::kBytes;
  if (a.share && threadIdx.x * 128 < a.inputs * W::kBytes) prefetch_l2(weights + threadIdx.x * 128);
  wait_for_previous();
  const unsigned first = blockIdx.y * kRows;
  const float* x[kRows];
#pragma unroll
  for (unsigned r = 0; r < kRows; ++r) x[r] = a.x + static_cast<std::size_t>(min(first + r, a.rows - 1)) * a.inputs;
  float sums[kRows] = {};
  float_products<W, kRows>(weights, x, a.inputs, a.share, shared, sums);
#pragma unroll
  for (unsigned r = 0; r < kRows; ++r)
    if (first + r < a.rows && threadIdx.x % 32 == r && (!a.share || threadIdx.x < 32))
      a.y[static_cast<std::size_t>(first + r) * a.outputs + output] = sums[r];
}

template <class W>
cudaError_t launch_float(const FloatArguments& a, cudaStream_t stream) {
  const std::uint32_t blocks = a.share ? a.outputs : (a.outputs + kFloatWarps - 1) / kFloatWarps;
  const std::uint32_t rows = a.rows == 1 ? 1 : kFloatRows;
  const Dims dims = {
      .grid = dim3(blocks, (a.rows + rows - 1) / rows), .block = dim3(32 * kFloatWarps), .overlap = true};
  return rows == 1 ? launch(dims, stream, float_kernel<W, 1>, a) : launch(dims, stream, float_kernel<W, kFloatRows>, a);
}

cudaError_t launch_float(TensorType type, const FloatArguments& a, cudaStream_t stream) {
  if (type == TensorType::f32) return launch_float<WeightsF32>(a, stream);
  if (type == TensorType::f16) return launch_float<WeightsF16>(a, stream);
  if (type == TensorType::bf16) return launch_float<WeightsBF16>(a, stream);
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
      if (const cudaError_t error = launch_float(w.type, a, stream)) return error;
      continue;
    }
    // All matrices of one type in one launch.
    ProductArguments a = {};
    unsigned count = 0;
    for (unsigned j = i; j < arguments.parts; ++j) {
      const LinearArguments::Part& part = arguments.part[j];
      if (part.w.type != w.type) continue;
      done[j] = true;
      add_part(a.parts, count++, part.w.data, part.w.outputs, part.y);
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
  if (!gated_at_once(type, arguments.up.type)) {
    LinearArguments both = {.rows = arguments.rows, .parts = 2, .part = {}, .x = arguments.x};
    both.part[0] = {.w = arguments.gate, .y = arguments.y};
    both.part[1] = {.w = arguments.up, .y = arguments.of_up};
    if (const cudaError_t error = linear(both, stream)) return error;
    const std::size_t count = std::size_t{arguments.rows} * arguments.gate.outputs;
    return multiply_gated(arguments.y, arguments.of_up, count, stream);
  }
  ProductArguments a = {};
  add_part(a.parts, 0, arguments.gate.data, arguments.gate.outputs, arguments.y);
  add_part(a.parts, 1, arguments.up.data, arguments.up.outputs, arguments.y);
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

// paired: of gate, with up.
cudaError_t expert_products(const ExpertArguments& arguments, ExpertPart part, TensorType type, bool paired, float* y,
                            cudaStream_t stream) {
  if (is_float(type)) return expert_floats(arguments, part, type, y, stream);
  const std::uint32_t assignments = arguments.rows * arguments.used;
  ProductArguments a = {};
  add_part(a.parts, 0, nullptr, arguments.outputs, y);
  a.parts.paired = paired;
  if (paired) add_part(a.parts, 1, nullptr, arguments.outputs, y);
  a.columns = columns_for(type, arguments.x, arguments.inputs, assignments);
  a.list = {.tiles = arguments.lists.tiles,
            .tile_count = arguments.lists.tile_count,
            .experts = arguments.experts_table,
            .row_of = part == ExpertPart::down ? nullptr : arguments.lists.row_of,
            .part = part};
  const std::uint32_t groups = max_expert_tiles(arguments.rows, arguments.used, arguments.experts, arguments.tile_rows);
  return launch_products(type, a, arguments.tile_rows, groups, stream);
}

}  // namespace

cudaError_t expert_gate_up(const ExpertArguments& arguments, cudaStream_t stream) {
  const bool at_once = gated_at_once(arguments.type, arguments.up_type);
  const cudaError_t error = expert_products(arguments, ExpertPart::gate, arguments.type, at_once, arguments.y, stream);
  if (error != cudaSuccess || at_once) return error;
  const ExpertArguments& a = arguments;
  if (const cudaError_t of_up = expert_products(a, ExpertPart::up, a.up_type, false, a.of_up, stream)) return of_up;
  const std::size_t first = std::size_t{a.first} * a.outputs;
  return multiply_gated(a.y + first, a.of_up + first, std::size_t{a.rows} * a.used * a.outputs, stream);
}

cudaError_t expert_down(const ExpertArguments& arguments, cudaStream_t stream) {
  return expert_products(arguments, ExpertPart::down, arguments.type, false, arguments.y, stream);
}

}  // namespace sirocco::cuda
