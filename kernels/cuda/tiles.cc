#include "kernels/cuda/tiles.h"

#include <cassert>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/tile_layout.h"

namespace sirocco::cuda {
namespace {

template <class Block>
void repack_blocks(const Matrix& matrix, std::size_t first, std::size_t last, std::byte* tiles) {
  constexpr std::size_t kBlock = TileLayout<Block>::kBlock;
  const auto* const blocks = reinterpret_cast<const Block*>(matrix.data);
  const std::size_t in_row = matrix.inputs / kBlock;
  for (std::size_t output = first; output < last; output += kTileOutputs) {
    for (std::size_t input = 0; input < matrix.inputs; input += kTileInputs) {
      const Block* rows[kTileOutputs] = {};
      for (std::size_t i = 0; i < kTileOutputs && output + i < matrix.outputs; ++i)
        rows[i] = blocks + (output + i) * in_row + input / kBlock;
      const auto here = static_cast<unsigned>(std::min<std::size_t>(kTileInputs, matrix.inputs - input));
      for (unsigned at = 0; at < TileLayout<Block>::kBytes; ++at) {
        *tiles++ = static_cast<std::byte>(tile_byte(rows, here, at));
      }
    }
  }
}

}  // namespace

std::size_t tile_bytes(TensorType type) {
  std::size_t bytes = 0;
  with_block(type, [&](auto* block) { bytes = TileLayout<std::decay_t<decltype(*block)>>::kBytes; });
  return bytes;
}

std::size_t matrix_bytes(TensorType type, std::size_t inputs, std::size_t outputs) {
  const std::size_t tile = tile_bytes(type);
  if (tile == 0) return outputs * row_bytes(type, inputs);
  return padded(outputs, kTileOutputs) / kTileOutputs * (padded(inputs, kTileInputs) / kTileInputs) * tile;
}

void repack(const Matrix& matrix, std::size_t first, std::size_t last, std::byte* tiles) {
  assert(first % kTileOutputs == 0 && last <= matrix.outputs);

  const bool has_tiles = with_block(
      matrix.type, [&](auto* block) { repack_blocks<std::decay_t<decltype(*block)>>(matrix, first, last, tiles); });
  if (!has_tiles) {
    const std::size_t row = row_bytes(matrix.type, matrix.inputs);
    std::memcpy(tiles, matrix.data + first * row, (last - first) * row);
  }
}

}  // namespace sirocco::cuda
