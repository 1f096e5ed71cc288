// Fragments of tensor cores lie where the PTX manual says, so that products are right; integer intrinsics.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "cuda_runtime.h"
#include "tests/unit/cuda/device.h"
#include "tests/unit/cuda_emulator/kernels.h"

namespace sirocco::test {

namespace {

std::vector<std::int8_t> bytes(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::int8_t> result(n);
  for (std::int8_t& v : result) v = static_cast<std::int8_t>(generator());
  return result;
}

TEST(Intrinsics, TensorCoresMultiplyBytesExactly) {
  constexpr int kM = 32;
  constexpr int kN = 24;
  constexpr int kK = 96;
  const auto a = bytes(kM * kK, 1);
  const auto b = bytes(kN * kK, 2);
  std::vector<int> want;
  for (std::size_t m = 0; m < kM; ++m) {
    for (std::size_t n = 0; n < kN; ++n) {
      int sum = 0;
      for (std::size_t k = 0; k < kK; ++k) sum += a[m * kK + k] * b[n * kK + k];
      want.push_back(sum);
    }
  }
  const Stream stream;
  const DeviceBuffer<std::int8_t> device_a(a);
  const DeviceBuffer<std::int8_t> device_b(b);
  for (const bool short_steps : {false, true}) {
    const DeviceBuffer<int> c(kM * kN);
    ASSERT_EQ(multiply_s8(device_a.data(), device_b.data(), c.data(), kM, kN, kK, short_steps, stream), cudaSuccess);
    EXPECT_EQ(c.download(), want) << (short_steps ? "m16n8k16" : "m16n8k32");
  }
}

TEST(Intrinsics, LdmatrixTransposes) {
  std::vector<__half> x;
  for (int i = 0; i < 256; ++i) x.push_back(__float2half(static_cast<float>(i)));
  const Stream stream;
  const DeviceBuffer<__half> device_x(x);
  const DeviceBuffer<__half> out(256);
  ASSERT_EQ(transpose(device_x.data(), out.data(), stream), cudaSuccess);
  const auto got = out.download();
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 16; ++column) {
      EXPECT_EQ(__half2float(got[column * 16 + row]), static_cast<float>(row * 16 + column));
    }
  }
}

TEST(Intrinsics, DotProductsKnowTheirSigns) {
  EXPECT_EQ(__dp4a(static_cast<int>(0x80ff0102), 0x01020304, 5), 5 + -128 * 1 + -1 * 2 + 1 * 3 + 2 * 4);
  EXPECT_EQ(__dp4a(0x80ff0102u, 0x01020304u, 5u), 5u + 128 * 1 + 255 * 2 + 1 * 3 + 2 * 4);
  EXPECT_EQ(__dp2a_lo(static_cast<int>(0xffff0002), 0x0102fd04, 1), 1 + 2 * 4 + -1 * -3);
  EXPECT_EQ(__dp2a_hi(static_cast<int>(0xffff0002), 0x0102fd04, 1), 1 + 2 * 2 + -1 * 1);
}

TEST(Intrinsics, BytesArePickedAndSaturated) {
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x6420u), 0x66442200u);
  EXPECT_EQ(__byte_perm(0x80u, 0u, 0x8888u), 0x80808080u);  // on a GPU, too: no sign here
  EXPECT_EQ(__vsub4(0x00010203u, 0x01010101u), 0xff000102u);
  EXPECT_EQ(__vsubss4(0x80000000u, 0x01000000u), 0x80000000u);
  EXPECT_EQ(__funnelshift_r(0x00000001u, 0x00000003u, 1), 0x80000000u);
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rn(3e9f), INT32_MAX);
}

}  // namespace

}  // namespace sirocco::test
