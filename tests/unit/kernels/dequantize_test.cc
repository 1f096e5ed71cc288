#include "kernels/ref/dequantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>

#include "tests/support/source_dir.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

struct GoldenBlocks {
  TensorType type;
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

template <class T>
void read(std::ifstream& file, std::vector<T>& values) {
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

// The layout is in tests/golden/kernels/make_dequantize.py.
std::vector<GoldenBlocks> read_golden() {
  std::ifstream file(test::golden_dir() / "kernels" / "dequantize.bin", std::ios::binary);
  std::vector<GoldenBlocks> all;
  std::vector<std::uint32_t> header(2);
  for (read(file, header); file; read(file, header)) {
    const TensorTypeInfo& info = *tensor_type_info(header[0]);
    GoldenBlocks golden{info.type, std::vector<std::byte>(std::size_t{header[1]} * info.block_bytes),
                        std::vector<float>(std::size_t{header[1]} * info.block_size)};
    read(file, golden.blocks);
    read(file, golden.values);
    all.push_back(std::move(golden));
  }
  return all;
}

TEST(Dequantize, EveryComputableTypeEqualsTheGgufPackage) {
  std::set<TensorType> seen;
  for (const GoldenBlocks& golden : read_golden()) {
    std::vector<float> values(golden.values.size());
    ref::dequantize(golden.type, golden.blocks.data(), values);
    const auto differs = std::mismatch(values.begin(), values.end(), golden.values.begin());
    EXPECT_EQ(values, golden.values) << tensor_type_info(golden.type)->name << " first differs at element "
                                     << differs.first - values.begin();
    seen.insert(golden.type);
  }
  const std::vector<TensorType> computable = test::computable_types();
  EXPECT_EQ(seen, std::set<TensorType>(computable.begin(), computable.end()));
}

TEST(Dequantize, BlocksMayLieAtAnyAddress) {
  for (const GoldenBlocks& golden : read_golden()) {
    for (std::size_t shift = 1; shift < 4; ++shift) {
      std::vector<std::byte> moved(golden.blocks.size() + shift);
      std::copy(golden.blocks.begin(), golden.blocks.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
      std::vector<float> values(golden.values.size());
      ref::dequantize(golden.type, moved.data() + shift, values);
      EXPECT_EQ(values, golden.values) << tensor_type_info(golden.type)->name;
    }
  }
}

}  // namespace
}  // namespace sirocco
