// More weights than the page-locked buffers hold: each piece arrives where it belongs, in the kernels' layout.
#include <cstring>
#include <random>

#include "engine/backend/cuda/upload.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco::cuda {
namespace {

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937_64 random(count);
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i + 8 <= count; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(&bytes[i], &word, sizeof word);
  }
  return bytes;
}

TEST(CudaUpload, EveryPieceArrives) {
  // Outputs that are no whole tile, in more than one piece; then bytes in several buffers.
  const std::size_t inputs = 512;
  const std::size_t outputs = 5003;
  const auto blocks = random_bytes(outputs * row_bytes(TensorType::q4_0, inputs));
  const Matrix matrix = {.type = TensorType::q4_0, .data = blocks.data(), .inputs = inputs, .outputs = outputs};
  const auto bytes = random_bytes(kUploadMemory + kUploadMemory / 3);
  std::vector<std::byte> tiles(matrix_bytes(matrix.type, inputs, outputs));
  repack(matrix, 0, outputs, tiles.data());

  Bump count;
  count.take<std::byte>(tiles.size());
  count.take<std::byte>(bytes.size());
  const DeviceMemory memory = allocate_device(count.used()).value();
  Bump arena(memory.get());
  std::byte* const tiles_there = arena.take<std::byte>(tiles.size());
  std::byte* const bytes_there = arena.take<std::byte>(bytes.size());
  const Upload uploads[] = {{.target = tiles_there, .matrix = matrix, .bytes = {}},
                            {.target = bytes_there, .matrix = {}, .bytes = bytes}};
  ThreadPool pool = ThreadPool::create(2).value();
  LoadProgress progress;
  const auto done = upload(uploads, pool, &progress);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_GE(progress.expected(), tiles.size() + bytes.size());
  EXPECT_EQ(progress.done(), progress.expected());

  LoadProgress stopped;
  stopped.stop();
  EXPECT_EQ(upload(uploads, pool, &stopped).error().code(), ErrorCode::cancelled);

  std::vector<std::byte> arrived(bytes.size());
  ASSERT_EQ(cudaMemcpy(arrived.data(), bytes_there, bytes.size(), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(arrived == bytes);
  arrived.resize(tiles.size());
  ASSERT_EQ(cudaMemcpy(arrived.data(), tiles_there, tiles.size(), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(arrived == tiles);
}

}  // namespace
}  // namespace sirocco::cuda
