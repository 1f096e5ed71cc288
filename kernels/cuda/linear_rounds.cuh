// Products of one row, or of up to eight, with weights, for decoding: bound by memory. Blocks stay and take tile rows
// in turn, so that reading never pauses. Eight warps take the chunks of a tile row in rounds, each a tile ahead of
// itself, and leave what each chunk contributes in shared memory; other warps add up the last round meanwhile, in order
// of the chunks, one thread an output.
#pragma once

#include "kernels/cuda/linear_columns.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kRoundWarps = 8;  // that multiply

// Warps that share a tile row. The others have the next one, of which a pair's second is one.
inline unsigned warps_a_row(std::uint32_t chunks, bool paired) {
  return paired || chunks <= kRoundWarps / 2 ? kRoundWarps / 2 : kRoundWarps;
}

template <bool One, class W>
struct Rounds {
  static constexpr unsigned kColumns = One ? 1 : 8;
  static constexpr unsigned kAddingWarps = One ? 1 : 4;
  static constexpr unsigned kThreads = 32 * (kRoundWarps + kAddingWarps);
  static constexpr unsigned kPlaces = kTileOutputs * kColumns;  // of a block's contributions
  static constexpr unsigned kRows = One ? 1 : 2;                // that an adding thread has an output of, at most
  static constexpr bool kSumsOf32 = W::kInputs == 32 && W::kZero != 0;
  static constexpr bool kMinimaOf32 = W::kInputs == 32 && W::kMinima;
  // What a warp leaves of a chunk, in floats: contributions [blocks, columns, 16], minima [blocks, 16].
  static constexpr unsigned kLeft = kBlocks<W> * (kPlaces + (kMinimaOf32 ? kTileOutputs : 0));
  static constexpr unsigned kTile = static_cast<unsigned>(W::Layout::kBytes);
  // Of a warp's ring; fewer where much is left of a round.
  static constexpr unsigned kSlots = !One && W::kInputs == 32 ? 2 : kTile > 3000 ? 3 : 4;
  static constexpr std::size_t kBarriersAt = std::size_t{kRoundWarps} * kSlots * kTile;
  static constexpr std::size_t kRings = kBarriersAt + kRoundWarps * kSlots * sizeof(RunBarrier);
  static constexpr unsigned kWarpColumns = One ? 1 : kColumns / kAddingWarps;
  static std::size_t shared_bytes(std::uint32_t chunks) {
    const std::size_t scales = std::size_t{kAddingWarps} * kWarpColumns * (kMinimaOf32 ? 2 : 1) * chunks * kBlocks<W>;
    return kRings + (2 * kRoundWarps * kLeft + scales) * sizeof(float);
  }

  const Parts& parts;
  std::uint32_t chunks;
  unsigned warps_a_row;
  std::byte* shared;  // [shared_bytes()]: the rings, what is left of two rounds, scales
  unsigned lane = threadIdx.x % 32;
  unsigned warp = threadIdx.x / 32;
  unsigned place = threadIdx.x - 32 * kRoundWarps;  // of an adding thread

  // Where the thread finds what it needs of the columns, which are the same for all items of a block.
  struct At {
    const std::int8_t* q;               // multiplying: of the column that the lane gives
    const std::uint32_t* x_words;       // its sums
    const std::int32_t* x_sums[kRows];  // those of the columns that the lane gets
    const float* scales;                // adding: of the thread's column
    const std::int32_t* sums;
  };
  __device__ __forceinline__ At locate(const Columns& columns) const {
    At at = {};
    const auto of_column = [&](unsigned column) { return columns.row(min(column, columns.count - 1)) * chunks; };
    if (warp < kRoundWarps) {
      const std::size_t of = of_column(One ? 0 : lane / 4);
      at.q = columns.x.q + of * kTileInputs + 16 * (lane % 4);
      at.x_words = reinterpret_cast<const std::uint32_t*>(columns.x.sums) + of * 8 + lane % 4;
      if constexpr (kSumsOf32) {
#pragma unroll
        for (unsigned i = 0; i < kRows; ++i)
          at.x_sums[i] =
              reinterpret_cast<const std::int32_t*>(columns.x.sums) + of_column(One ? 0 : 2 * (lane % 4) + i) * 8;
      }
    } else {
      const std::size_t of = of_column(One ? 0 : place / kTileOutputs);
      at.scales = columns.x.scales + of * kBlocks<W>;
      at.sums = reinterpret_cast<const std::int32_t*>(columns.x.sums) + of * 8;
    }
    return at;
  }

  // The first tile of the warp's tile row of an item: tile rows index * (kRoundWarps / warps_a_row) … A warp whose tile
  // row does not exist computes the last one, in vain.
  __device__ __forceinline__ const std::byte* first_tile(unsigned index) const {
    const unsigned row = index * (kRoundWarps / warps_a_row) + warp / warps_a_row;
    return TileRow(parts, min(row, parts.all_tile_rows - 1)).template begin<W>(chunks);
  }

  __device__ __forceinline__ float* left_by(unsigned slot, unsigned of_warp) const {
    return reinterpret_cast<float*>(shared + kRings) + (slot % 2 * kRoundWarps + of_warp) * kLeft;
  }

  __device__ __forceinline__ void leave(float* to, const float (&value)[4]) const {
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      if (One && (lane % 4 != 0 || i % 2 != 0)) continue;
      const unsigned column = One ? 0 : 2 * (lane % 4) + i % 2;
      to[column * kTileOutputs + lane / 4 + 8 * (i / 2)] = value[i];
    }
  }

  __device__ __forceinline__ void multiply(W& w, const At& x, unsigned chunk, const std::byte* tile, float* to) const {
    uint4 b[4];
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    // One row is column 0, which the lanes 0 to 3 give and the lanes 4 g take out.
    if (!One || lane < 4) {
#pragma unroll
      for (unsigned pair = 0; pair < 4; ++pair)
        b[pair] = __ldg(reinterpret_cast<const uint4*>(x.q + chunk * kTileInputs) + 4 * pair);
      if constexpr (W::kInputs == 256 && kWantsSums<W>) {
        low = __ldg(x.x_words + chunk * 8);
        high = __ldg(x.x_words + chunk * 8 + 4);
      }
    } else {
#pragma unroll
      for (uint4& words : b) words = make_uint4(0, 0, 0, 0);
    }
    if constexpr (W::kInputs == 256) {
      int exact[4] = {};
      w.unpack_scales();
      each<8>([&](auto step) {
        constexpr unsigned kStep = decltype(step)::value;
        std::uint32_t a[4];
        w.template values<kStep>(a);
        const uint4& words = b[kStep / 2];
        add_step<kStep>(w, a, kStep % 2 == 0 ? words.x : words.z, kStep % 2 == 0 ? words.y : words.w, exact);
      });
      float value[4];
      block_values(w, lane, low, high, exact, value);
      leave(to, value);
    } else {
      each<8>([&](auto step) {
        constexpr unsigned kStep = decltype(step)::value;
        std::uint32_t a[4];
        w.template values<kStep>(a);
        const uint4& words = b[kStep / 2];
        int c[4] = {};
        mma_s8(c, a, {kStep % 2 == 0 ? words.x : words.z, kStep % 2 == 0 ? words.y : words.w});
        float value[4];
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
          if constexpr (kSumsOf32) c[i] -= W::kZero * __ldg(x.x_sums[One ? 0 : i % 2] + chunk * 8 + kStep);
          value[i] = __fmul_rn(static_cast<float>(c[i]), w.template scale<kStep>(i / 2));
        }
        leave(to + kStep * kPlaces, value);
      });
    }
    if constexpr (kMinimaOf32) {
      // Each lane four minima of output lane / 2.
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned step = 4 * (lane % 2) + i;
        to[kBlocks<W> * kPlaces + step * kTileOutputs + lane / 2] = W::minimum(tile, lane / 2, step);
      }
    }
  }

  // Where an adding warp keeps its columns' scales [columns of a warp, chunks, blocks], and behind them the scaled
  // sums.
  __device__ __forceinline__ float* scales_of_warp() const {
    return reinterpret_cast<float*>(shared + kRings) + 2 * kRoundWarps * kLeft +
           (warp - kRoundWarps) * kWarpColumns * (kMinimaOf32 ? 2 : 1) * chunks * kBlocks<W>;
  }
  __device__ __forceinline__ void copy_scales(const At& x) const {
    const unsigned all = chunks * kBlocks<W>;
    float* const to = scales_of_warp();
    // Half a warp for each of two columns.
    constexpr unsigned kLanes = 32 / kWarpColumns;
    const unsigned column = lane / kLanes;
    for (unsigned i = lane % kLanes; i < all; i += kLanes) {
      const float scale = __ldg(x.scales + i);
      to[column * all + i] = scale;
      if constexpr (kMinimaOf32)
        to[(kWarpColumns + column) * all + i] = __fmul_rn(scale, static_cast<float>(__ldg(x.sums + i)));
    }
    __syncwarp();
  }

  // On the warps behind those that multiply: what they left in `slot`, of round `round`.
  __device__ __forceinline__ void add_up(unsigned round, unsigned slot, float (&sums)[kRows]) const {
    const unsigned all = chunks * kBlocks<W>;
    const unsigned first = round * warps_a_row;
    const unsigned count = min(warps_a_row, chunks - first);
    const float* const scales =
        scales_of_warp() + (kWarpColumns == 1 ? 0 : lane / kTileOutputs) * all + first * kBlocks<W>;
#pragma unroll
    for (unsigned j = 0; j < kRows; ++j) {
      const unsigned row = One ? place / kTileOutputs : j;
      if ((row + 1) * warps_a_row > kRoundWarps) continue;
      const float* left = left_by(slot, row * warps_a_row);
      for (unsigned i = 0; i < count; ++i, left += kLeft) {
#pragma unroll
        for (unsigned b = 0; b < kBlocks<W>; ++b) {
          sums[j] = __fmaf_rn(left[b * kPlaces + place % kPlaces], scales[i * kBlocks<W> + b], sums[j]);
          if constexpr (kMinimaOf32)
            sums[j] = __fmaf_rn(left[kBlocks<W> * kPlaces + b * kTileOutputs + place % kTileOutputs],
                                scales[kWarpColumns * all + i * kBlocks<W> + b], sums[j]);
        }
      }
    }
  }

  __device__ __forceinline__ void write(unsigned index, const Columns& columns, const float (&sums)[kRows]) const {
    // Of a pair, the second stands 16 lanes on, or is the thread's second.
    const float other = One ? __shfl_down_sync(0xFFFFFFFFU, sums[0], 16) : sums[kRows - 1];
    const unsigned column = One ? 0 : place / kTileOutputs;
    const unsigned first_row = index * (kRoundWarps / warps_a_row);
#pragma unroll
    for (unsigned j = 0; j < kRows; ++j) {
      const unsigned row = One ? place / kTileOutputs : j;
      if ((row + 1) * warps_a_row > kRoundWarps || first_row + row >= parts.all_tile_rows) continue;
      const TileRow to(parts, first_row + row);
      const unsigned output = to.index * kTileOutputs + place % kTileOutputs;
      if (column >= columns.count || output >= to.outputs || (parts.paired && to.part != 0)) continue;
      to.y[static_cast<std::size_t>(columns.first + column) * to.outputs + output] =
          parts.paired ? swiglu(sums[j], other) : sums[j];
    }
  }

  __device__ __forceinline__ std::byte* slot_of(unsigned count) const {
    return shared + (warp * kSlots + count % kSlots) * kTile;
  }
  __device__ __forceinline__ RunBarrier* barrier_of(unsigned count) const {
    return reinterpret_cast<RunBarrier*>(shared + kBarriersAt) + warp * kSlots + count % kSlots;
  }
  __device__ __forceinline__ void init_barriers() const {
    if (!copies_runs()) return;
    if (warp < kRoundWarps && lane < kSlots) init_run_barrier(barrier_of(lane));
    __syncthreads();
  }

  // Asks for the tile that the warp multiplies as its count-th; without runs a group of copies, empty behind the last.
  __device__ __forceinline__ void ask(const std::byte* tile, unsigned chunk, unsigned count) const {
    const bool exists = tile != nullptr;
    const std::byte* const from = tile + static_cast<std::size_t>(chunk) * kTile;
    std::byte* const to = slot_of(count);
    if (copies_runs()) {
      __syncwarp();  // all lanes have read what stood there
      if (exists && lane == 0) copy_run(to, from, kTile, barrier_of(count));
      return;
    }
    if (exists) {
#pragma unroll
      for (unsigned i = 0; i < kTile / 512; ++i) cp_async16(to + 512 * i + 16 * lane, from + 512 * i + 16 * lane);
      constexpr unsigned kRest = kTile % 512 / 16;  // lanes
      constexpr unsigned kWhole = kTile / 512 * 512;
      if (kRest != 0 && lane < kRest) cp_async16(to + kWhole + 16 * lane, from + kWhole + 16 * lane);
    }
    cp_async_commit();
  }
  // Until the count-th tile is there, for all lanes.
  __device__ __forceinline__ void wait_for_tile(unsigned count) const {
    if (copies_runs()) return wait_for_run(barrier_of(count), count / kSlots % 2);
    cp_async_wait<kSlots - 2>();
    __syncwarp();
  }

  // The items from `first` on, `apart` from one to the next.
  //   wait    called once, after the first weights have been asked for and before activations are read
  template <class Wait>
  __device__ __forceinline__ void run(const Columns& columns, unsigned first, unsigned apart, Wait wait) const {
    const unsigned items = (parts.all_tile_rows + kRoundWarps / warps_a_row - 1) / (kRoundWarps / warps_a_row);
    const unsigned rounds = (chunks + warps_a_row - 1) / warps_a_row;
    const unsigned first_chunk = warp % warps_a_row;
    const bool multiplies = warp < kRoundWarps && first_chunk < chunks;
    init_barriers();
    // What is asked for next: chunk `ahead_chunk` of item `ahead`. A warp's tiles are counted; rounds in which it has
    // none are not.
    unsigned ahead = first;
    unsigned ahead_chunk = first_chunk;
    unsigned asked = 0;
    unsigned taken = 0;
    const std::byte* ahead_tile = multiplies && ahead < items ? first_tile(ahead) : nullptr;
    const auto ask_next = [&] {
      ask(ahead_tile, ahead_chunk, asked++);
      ahead_chunk += warps_a_row;
      if (ahead_tile == nullptr || ahead_chunk < chunks) return;
      ahead_chunk = first_chunk;
      ahead += apart;
      ahead_tile = ahead < items ? first_tile(ahead) : nullptr;
    };
    if (warp < kRoundWarps)
      for (unsigned i = 0; i + 1 < kSlots; ++i) ask_next();
    wait();
    const At x = locate(columns);
    if (warp >= kRoundWarps) copy_scales(x);
    unsigned count = 0;  // of rounds before
    for (unsigned index = first; index < items; index += apart) {
      float sums[kRows] = {};
      for (unsigned round = 0; round < rounds; ++round, ++count) {
        const unsigned chunk = round * warps_a_row + first_chunk;
        if (multiplies && chunk < chunks) {
          wait_for_tile(taken);
          W w;
          w.template load<SharedMemory>(slot_of(taken), lane);
          ask_next();  // into the slot that was read before this one
          multiply(w, x, chunk, slot_of(taken), left_by(count, warp));
          ++taken;
        }
        __syncthreads();
        if (warp >= kRoundWarps) add_up(round, count, sums);
      }
      if (warp >= kRoundWarps) write(index, columns, sums);
    }
    cp_async_wait<0>();
  }
};

}  // namespace sirocco::cuda
