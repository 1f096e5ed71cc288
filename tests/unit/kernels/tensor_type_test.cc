#include "kernels/tensor_type.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

TEST(TensorType, NamesAndSizesAreThoseOfGgml) {
  std::ifstream golden(test::golden_dir() / "kernels" / "tensor_types.txt");
  std::size_t count = 0;
  std::uint32_t number = 0;
  std::string name;
  std::uint32_t block_size = 0;
  std::uint32_t block_bytes = 0;
  while (golden >> number >> name >> block_size >> block_bytes) {
    const TensorTypeInfo* info = tensor_type_info(number);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(static_cast<std::uint32_t>(info->type), number);
    EXPECT_EQ(info->name, name);
    EXPECT_EQ(info->block_size, block_size) << name;
    EXPECT_EQ(info->block_bytes, block_bytes) << name;
    ++count;
  }
  EXPECT_EQ(count, tensor_types().size());
}

TEST(TensorType, NumbersThatAreNoTypeAreNull) {
  for (const std::uint32_t number : {4U, 5U, 31U, 33U, 36U, 38U, 1000U, 0xFFFFFFFFU}) {
    EXPECT_EQ(tensor_type_info(number), nullptr) << number;
  }
}

TEST(TensorType, RowIsAWholeNumberOfBlocks) {
  EXPECT_EQ(row_bytes(TensorType::f32, 5), 20U);
  EXPECT_EQ(row_bytes(TensorType::q4_1, 576), 360U);
  EXPECT_EQ(row_bytes(TensorType::q6_k, 4096), 3360U);
  EXPECT_EQ(row_bytes(TensorType::q4_k, 0), 0U);
}

}  // namespace
}  // namespace sirocco
