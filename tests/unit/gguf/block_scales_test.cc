// Every field of every type that can hold an infinity or a NaN, each in turn. The offsets are those of ggml-common.h.
#include "engine/gguf/block_scales.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <vector>

namespace sirocco {
namespace {

enum class Number : std::uint8_t { f64, f32, f16, bf16, e8m0, ue4m3, iq1_m };

struct Field {
  TensorType type;
  std::size_t offset;
  Number number;
};

constexpr Field kFields[] = {
    {TensorType::f32, 0, Number::f32},      {TensorType::f16, 0, Number::f16},
    {TensorType::bf16, 0, Number::bf16},    {TensorType::f64, 0, Number::f64},
    {TensorType::q4_0, 0, Number::f16},     {TensorType::q4_1, 0, Number::f16},
    {TensorType::q4_1, 2, Number::f16},     {TensorType::q5_0, 0, Number::f16},
    {TensorType::q5_1, 0, Number::f16},     {TensorType::q5_1, 2, Number::f16},
    {TensorType::q8_0, 0, Number::f16},     {TensorType::q8_1, 0, Number::f16},
    {TensorType::q8_1, 2, Number::f16},     {TensorType::q2_k, 80, Number::f16},
    {TensorType::q2_k, 82, Number::f16},    {TensorType::q3_k, 108, Number::f16},
    {TensorType::q4_k, 0, Number::f16},     {TensorType::q4_k, 2, Number::f16},
    {TensorType::q5_k, 0, Number::f16},     {TensorType::q5_k, 2, Number::f16},
    {TensorType::q6_k, 208, Number::f16},   {TensorType::q8_k, 0, Number::f32},
    {TensorType::iq2_xxs, 0, Number::f16},  {TensorType::iq2_xs, 0, Number::f16},
    {TensorType::iq3_xxs, 0, Number::f16},  {TensorType::iq1_s, 0, Number::f16},
    {TensorType::iq4_nl, 0, Number::f16},   {TensorType::iq3_s, 0, Number::f16},
    {TensorType::iq2_s, 0, Number::f16},    {TensorType::iq4_xs, 0, Number::f16},
    {TensorType::iq1_m, 48, Number::iq1_m}, {TensorType::tq1_0, 52, Number::f16},
    {TensorType::tq2_0, 64, Number::f16},   {TensorType::mxfp4, 0, Number::e8m0},
    {TensorType::nvfp4, 0, Number::ue4m3},  {TensorType::nvfp4, 1, Number::ue4m3},
    {TensorType::nvfp4, 2, Number::ue4m3},  {TensorType::nvfp4, 3, Number::ue4m3},
    {TensorType::q1_0, 0, Number::f16},
};

struct Values {
  std::size_t bytes;
  std::vector<std::uint64_t> bad;     // infinities and NaNs
  std::vector<std::uint64_t> finite;  // zero and the largest ones
};

Values values_of(Number number) {
  switch (number) {
    case Number::f64:
      return {8,
              {0x7FF0000000000000U, 0xFFF0000000000000U, 0x7FF8000000000000U, 0x7FF0000000000001U},
              {0, 0x7FEFFFFFFFFFFFFFU, 0xFFEFFFFFFFFFFFFFU}};
    case Number::f32:
      return {4, {0x7F800000U, 0xFF800000U, 0x7FC00000U, 0x7F800001U}, {0, 0x7F7FFFFFU, 0xFF7FFFFFU}};
    case Number::f16:
    case Number::iq1_m:
      return {2, {0x7C00U, 0xFC00U, 0x7E00U, 0x7C01U}, {0, 0x7BFFU, 0xFBFFU}};
    case Number::bf16:
      return {2, {0x7F80U, 0xFF80U, 0x7FC0U, 0x7F81U}, {0, 0x7F7FU, 0xFF7FU}};
    case Number::e8m0:
      return {1, {0xFFU}, {0, 0xFEU}};
    case Number::ue4m3:
      return {1, {0x7FU, 0xFFU}, {0, 0x7EU}};
  }
  return {};
}

void write(const Field& field, std::uint64_t value, std::byte* block) {
  if (field.number != Number::iq1_m) {  // little-endian, as the format
    std::memcpy(block + field.offset, &value, values_of(field.number).bytes);
    return;
  }
  for (std::size_t i = 0; i < 4; ++i) {  // four bits of it above twelve of something else, in each of four words
    std::byte& high = block[field.offset + 2 * i + 1];
    high = (high & std::byte{0x0F}) | static_cast<std::byte>((value >> 4 * i & 15) << 4);
  }
}

// Blocks whose every bit but their scales' is set: whatever stands beside a scale must not be taken for one.
std::vector<std::byte> finite_blocks(TensorType type, std::size_t count, std::size_t which) {
  const std::size_t size = tensor_type_info(type)->block_bytes;
  std::vector<std::byte> blocks(count * size, std::byte{0xFF});
  for (std::size_t i = 0; i < count; ++i) {
    for (const Field& field : kFields) {
      const auto finite = values_of(field.number).finite;
      if (field.type == type) write(field, finite[which % finite.size()], &blocks[i * size]);
    }
  }
  return blocks;
}

TEST(BlockScales, EveryScaleOfEveryTypeIsLookedAt) {
  constexpr std::size_t kBlocks = 5;
  for (const Field& field : kFields) {
    const std::string_view name = tensor_type_info(field.type)->name;
    for (const std::uint64_t value : values_of(field.number).bad) {
      for (const std::size_t place : {std::size_t{0}, kBlocks - 1}) {
        auto blocks = finite_blocks(field.type, kBlocks, 0);
        write(field, value, &blocks[place * tensor_type_info(field.type)->block_bytes]);
        EXPECT_EQ(first_nonfinite_block(field.type, blocks), place) << name << " at " << field.offset;
      }
    }
  }
}

TEST(BlockScales, FiniteBlocksRaiseNoAlarm) {
  for (const TensorTypeInfo& info : tensor_types()) {
    for (std::size_t which = 0; which < 3; ++which)
      EXPECT_EQ(first_nonfinite_block(info.type, finite_blocks(info.type, 3, which)), std::nullopt) << info.name;
  }
}

TEST(BlockScales, EveryTypeButIntegersHasAScale) {
  std::set<TensorType> seen = {TensorType::i8, TensorType::i16, TensorType::i32, TensorType::i64};
  for (const Field& field : kFields) seen.insert(field.type);
  EXPECT_EQ(seen.size(), tensor_types().size());
}

}  // namespace
}  // namespace sirocco
