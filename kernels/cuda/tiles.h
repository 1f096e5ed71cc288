// How quantised weights and activations lie in device memory: in the order in which a warp's tensor-core fragments
// want them, so that one row and many rows are read alike, 16 bytes a lane, without shared memory. Plain C++, for the
// host and for kernels.
//
// A matrix [inputs -> outputs] is cut into tiles of 16 outputs and 256 inputs, all of them complete: what is beyond the
// matrix is zero, scales included. Tile (o, c) stands at (o * chunks + c) * tile_bytes. Of a tile, first the values:
//
//   word (s, r, lane)   four int8 values of output lane / 4 + 8 (r % 2) and inputs 32 s + 16 (r / 2) + 4 (lane % 4) …:
//                       step s (of 8), register r of the A operand of mma.m16n8k32 (PTX ISA, matrix fragments)
//
// A type of 8 bits stores [s][lane][r]. One of 4 bits stores words [pair of steps][lane][r] with the second step in the
// high nibbles. What planes of one and two bits look like, and each type: tile_layout.h. Then the
// scales as the file has them, so that a tile is no larger than its blocks in the file (but Q3_K's, by 2 %).
//
// Activations: q of a row lie in chunks of 256: [pair of steps][lane % 4][step][half of 16][4], the B operand of the
// same instruction for one column. A chunk has 32 bytes of sums (quantise.cuh); scales are of 32 or 256 inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/host_device.h"
#include "kernels/matrix.h"

namespace sirocco::cuda {

inline constexpr std::uint32_t kTileOutputs = 16;
inline constexpr std::uint32_t kTileInputs = 256;

SIROCCO_HOST_DEVICE constexpr std::size_t padded(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

// Of a type that is multiplied as integers; 0 for the others, which stay as they are in the file (f32, f16, bf16).
std::size_t tile_bytes(TensorType type);

// Bytes of a matrix in device memory.
std::size_t matrix_bytes(TensorType type, std::size_t inputs, std::size_t outputs);

// From the file's layout to the device's, on the host; outputs [first, last), first a multiple of 16.
//   tiles  where the tile of output `first` begins
void repack(const Matrix& matrix, std::size_t first, std::size_t last, std::byte* tiles);

}  // namespace sirocco::cuda
