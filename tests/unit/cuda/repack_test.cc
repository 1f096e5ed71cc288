// Weights that are put into tiles on the device are those that the host puts there.
#include <gtest/gtest.h>

#include <vector>

#include "engine/gguf/random_blocks.h"
#include "kernels/cuda/kernels.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

class Repack : public testing::TestWithParam<TensorType> {};

TEST_P(Repack, OnTheDeviceGivesTheBytesOfTheHost) {
  SIROCCO_NEEDS_DEVICE();
  const TensorType type = GetParam();
  SplitMix64 random(3);
  const std::size_t block = tensor_type_info(type)->block_size;
  for (const std::size_t outputs : {1U, 16U, 37U}) {
    for (const std::size_t inputs : {block, 512 / block * block, 256 + block}) {
      std::vector<std::byte> bytes(outputs * row_bytes(type, inputs));
      fill_random_blocks(type, 0.05F, random, bytes);
      std::vector<std::byte> expected(matrix_bytes(type, inputs, outputs));
      repack(Matrix{type, bytes.data(), inputs, outputs}, 0, outputs, expected.data());
      const test::DeviceBuffer<std::byte> blocks(bytes);
      const test::DeviceBuffer<std::byte> tiles(expected.size());
      const test::Stream stream;
      ASSERT_EQ(repack({.matrix = {type, blocks.data(), inputs, outputs}, .tiles = tiles.data()}, stream), cudaSuccess);
      stream.wait();
      EXPECT_EQ(tiles.download(), expected) << outputs << " x " << inputs;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Repack,
                         testing::Values(TensorType::q4_0, TensorType::q4_1, TensorType::q5_0, TensorType::q5_1,
                                         TensorType::q8_0, TensorType::iq4_nl, TensorType::mxfp4, TensorType::q2_k,
                                         TensorType::q3_k, TensorType::q4_k, TensorType::q5_k, TensorType::q6_k,
                                         TensorType::iq4_xs, TensorType::f16, TensorType::bf16, TensorType::f32),
                         [](const testing::TestParamInfo<TensorType>& type) {
                           return std::string(tensor_type_info(type.param)->name);
                         });

}  // namespace
}  // namespace sirocco::cuda
