// Blocks of the KV cache that are copied, and that leave the device and come back: a text goes on from either with the
// same bits. And whatever call of CUDA fails meanwhile, it is an error.
#include <cuda_emulator_control.h>

#include <algorithm>
#include <random>

#include "engine/backend/cuda/kv_blocks.h"
#include "engine/experts/mapped_experts.h"
#include "tests/support/golden_models.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kBlockTokens = 32;

class CudaBlocks : public testing::Test {
 protected:
  std::unique_ptr<Backend> make() {
    return make_backend(model, experts,
                        {.backend = "cuda", .limits = {.rows = 64, .logit_rows = 1, .context = 64}, .kv_blocks = 4})
        .value();
  }
  // The logits of the last of them.
  std::vector<float> run(Backend& backend, std::uint32_t from, std::uint32_t to,
                         const std::vector<BlockId>& blocks) const {
    std::vector<TokenId> tokens;
    for (std::uint32_t i = from; i < to; ++i) tokens.push_back(static_cast<TokenId>(7 * i % 199 + 1));
    const StepSequence sequence = {.tokens = tokens, .position = from, .block_table = blocks};
    std::vector<float> logits(model->spec().vocabulary);
    const auto done = backend.step_all({.sequences = {&sequence, 1}}, logits);
    EXPECT_TRUE(done) << done.error().message();
    return logits;
  }
  static std::vector<std::byte> bytes(const Backend& backend, BlockId block) {
    std::vector<std::byte> bytes(backend.block_bytes());
    const auto exported = backend.export_block(block, bytes);
    EXPECT_TRUE(exported) << exported.error().message();
    return bytes;
  }

  std::shared_ptr<const Model> model = test::open_golden("quant-moe-mxfp4-q8_0.gguf");
  MappedExperts experts{model};
};

TEST_F(CudaBlocks, ATextGoesOnFromACopyAndFromWhatCameBack) {
  const auto backend = make();
  run(*backend, 0, 50, {3, 1});
  const std::vector<float> expected = run(*backend, 50, 60, {3, 1});
  ASSERT_TRUE(backend->copy_block(1, 2));
  EXPECT_EQ(bytes(*backend, 2), bytes(*backend, 1));
  EXPECT_EQ(run(*backend, 50, 60, {3, 2}), expected);
  const auto other = make();
  ASSERT_TRUE(other->import_block(0, bytes(*backend, 3)));
  ASSERT_TRUE(other->import_block(3, bytes(*backend, 1)));
  EXPECT_EQ(bytes(*other, 0), bytes(*backend, 3));
  EXPECT_EQ(run(*other, 50, 60, {0, 3}), expected);
}

TEST_F(CudaBlocks, OneIsWrittenAndItsNeighboursStay) {
  const auto backend = make();
  run(*backend, 0, 50, {3, 1});
  run(*backend, 9, 40, {2, 0});
  std::vector<std::vector<std::byte>> before;
  for (BlockId block = 0; block < 4; ++block) before.push_back(bytes(*backend, block));
  ASSERT_NE(before[2], before[3]);
  ASSERT_TRUE(backend->copy_block(3, 2));
  ASSERT_TRUE(backend->import_block(1, before[2]));
  EXPECT_EQ(bytes(*backend, 0), before[0]);
  EXPECT_EQ(bytes(*backend, 1), before[2]);
  EXPECT_EQ(bytes(*backend, 2), before[3]);
  EXPECT_EQ(bytes(*backend, 3), before[3]);
}

TEST_F(CudaBlocks, WhateverCallFailsIsAnErrorAndTheOtherBlocksAreStillThere) {
  const auto backend = make();
  run(*backend, 0, kBlockTokens, {1});
  const std::vector<std::byte> block = bytes(*backend, 1);
  std::vector<std::byte> again(block.size());
  int refused = 0;
  const int failed = cudaemu::for_each_failure([&] {
    const bool all = backend->copy_block(1, 2) && backend->export_block(1, again) && backend->import_block(3, block);
    if (!all) ++refused;
  });
  EXPECT_EQ(refused, failed);
  EXPECT_GE(failed, 3 * (2 * static_cast<int>(model->spec().layers) + 1));
  EXPECT_EQ(bytes(*backend, 1), block);
}

// Every layer's keys and values, in the cache's own memory.
class CudaKvBlocks : public testing::TestWithParam<TensorType> {
 protected:
  CudaKvBlocks() {
    std::mt19937 random(3);
    for (std::byte& byte : cache) byte = static_cast<std::byte>(random());
    EXPECT_EQ(cudaMemcpy(memory.get(), cache.data(), cache.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<std::byte> on_device() const {
    std::vector<std::byte> bytes(cache.size());
    EXPECT_EQ(cudaMemcpy(bytes.data(), memory.get(), bytes.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    return bytes;
  }
  // Where a block's keys and values are, layer by layer: as the kernels address them.
  std::vector<std::size_t> parts(BlockId block) const {
    std::vector<std::size_t> offsets;
    for (std::uint32_t i = 0; i < spec.layers; ++i) {
      const auto layer = kv.layer(spec, i);
      for (const std::byte* const begin : {layer.keys, layer.values})
        offsets.push_back(static_cast<std::size_t>(begin + block * layer.block_stride - kv.base));
    }
    return offsets;
  }

  static ModelSpec three_layers() {
    ModelSpec spec;
    spec.layers = 3;
    spec.kv_heads = 2;
    spec.head_dim = 64;
    return spec;
  }

  ModelSpec spec = three_layers();
  cuda::CudaKv kv = {.base = nullptr, .blocks = 5, .block_tokens = 8, .type = GetParam()};
  cuda::DeviceMemory memory = cuda::allocate_device(kv.bytes(spec)).value();
  std::vector<std::byte> cache = std::vector<std::byte>(kv.bytes(spec));
  cuda::KvBlocks blocks = [&] {
    kv.base = memory.get();
    return cuda::KvBlocks::create(kv, spec).value();
  }();
};

TEST_P(CudaKvBlocks, EveryLayersKeysAndValuesAndNothingElseAreMoved) {
  const std::size_t part = kv.block_bytes(spec);
  std::vector<std::byte> block(cuda::KvBlocks::bytes(kv, spec));
  ASSERT_EQ(block.size(), 6 * part);
  ASSERT_TRUE(blocks.read(4, block));
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_TRUE(std::equal(&block[i * part], &block[i * part] + part, &cache[parts(4)[i]])) << i;
  std::reverse(block.begin(), block.end());
  ASSERT_TRUE(blocks.write(2, block));
  ASSERT_TRUE(blocks.copy(3, 0));
  for (std::size_t i = 0; i < 6; ++i) {
    std::copy_n(&block[i * part], part, &cache[parts(2)[i]]);
    std::copy_n(&cache[parts(3)[i]], part, &cache[parts(0)[i]]);
  }
  EXPECT_EQ(on_device(), cache);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaKvBlocks, testing::Values(TensorType::f16, TensorType::q8_0),
                         [](const auto& type) { return std::string(tensor_type_info(type.param)->name); });

}  // namespace
}  // namespace sirocco
