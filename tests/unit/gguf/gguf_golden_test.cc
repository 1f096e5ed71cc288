// Files of the gguf package (tests/golden/gguf/make_golden.py) read as they were meant, and written alike.
#include <gtest/gtest.h>

#include "engine/gguf/gguf_writer.h"
#include "tests/support/source_dir.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

const std::filesystem::path& golden() {
  static const std::filesystem::path path = test::golden_dir() / "gguf";
  return path;
}

// The script's bytes_of().
std::vector<std::byte> golden_bytes(std::uint64_t count, std::uint64_t seed) {
  std::vector<std::byte> bytes(count);
  for (std::uint64_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>((i * 7 + seed) % 256);
  return bytes;
}

std::vector<std::byte> copy_of(Bytes bytes) {
  return {bytes.begin(), bytes.end()};
}

// What make_golden.py puts into every_type.gguf.
GgufMetadata every_type_metadata() {
  GgufMetadata metadata;
  metadata.set("general.architecture", std::string("llama"));
  metadata.set("test.a_u8", std::uint8_t{200});
  metadata.set("test.b_i8", std::int8_t{-100});
  metadata.set("test.c_u16", std::uint16_t{60000});
  metadata.set("test.d_i16", std::int16_t{-30000});
  metadata.set("test.e_u32", std::uint32_t{4000000000});
  metadata.set("test.f_i32", std::int32_t{-2000000000});
  metadata.set("test.g_f32", 0.5F);
  metadata.set("test.h_bool", true);
  metadata.set("test.i_string", std::string("Grüße, 世界"));
  metadata.set("test.j_u64", ~std::uint64_t{0});
  metadata.set("test.k_i64", -(std::int64_t{1} << 62));
  metadata.set("test.l_f64", 1e300);
  metadata.set("test.m_bools", GgufArray(std::vector<bool>{true, false, true}));
  metadata.set("test.n_floats", GgufArray(std::vector<float>{1.0F, -2.5F}));
  metadata.set("test.o_ints", GgufArray(std::vector<std::int32_t>{1, -2, 3}));
  metadata.set("test.p_strings", GgufArray(std::vector<std::string>{"a", "", "ç"}));
  return metadata;
}

std::vector<GgufWriter::TensorDeclaration> every_type_tensors() {
  std::vector<GgufWriter::TensorDeclaration> tensors;
  for (const TensorTypeInfo& info : tensor_types()) {
    if (info.type == TensorType::q8_1 || info.type == TensorType::q8_k) continue;  // of activations, never in a file
    tensors.push_back({fmt::format("tensor.{}", info.name), info.type, {256, 2}});
  }
  tensors.push_back({"tensor.cube", TensorType::f32, {3, 5, 2}});
  tensors.push_back({"tensor.four", TensorType::q8_0, {32, 2, 3, 2}});
  return tensors;
}

// The script numbers types from 0 and its last two tensors from 100.
std::uint64_t golden_seed(std::size_t index, std::size_t count) {
  return index + 2 < count ? index : 100 + index + 2 - count;
}

TEST(GgufGolden, EveryTypeReadsAsTheGgufPackageWroteIt) {
  const auto file = GgufFile::open(golden() / "every_type.gguf");
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ((*file)->metadata().values(), every_type_metadata().values());

  const auto expected = every_type_tensors();
  const auto tensors = (*file)->tensors();
  ASSERT_EQ(tensors.size(), expected.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = tensors[i];
    EXPECT_EQ(tensor.name, expected[i].name);
    EXPECT_EQ(tensor.type, expected[i].type) << tensor.name;
    EXPECT_EQ(std::vector(tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions), expected[i].shape);
    EXPECT_EQ(copy_of((*file)->data(tensor)), golden_bytes(tensor.bytes, golden_seed(i, tensors.size())))
        << tensor.name;
  }
}

TEST(GgufGolden, WriterMakesTheSameBytesAsTheGgufPackage) {
  const test::TemporaryFolder folder;
  const auto tensors = every_type_tensors();
  auto writer = GgufWriter::create(folder / "ours.gguf", every_type_metadata(), tensors);
  ASSERT_TRUE(writer) << writer.error().message();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    ASSERT_TRUE(writer->append(golden_bytes(writer->current_bytes(), golden_seed(i, tensors.size()))));
  }
  const auto finished = writer->finish();
  ASSERT_TRUE(finished) << finished.error().message();
  EXPECT_TRUE(test::read_file(folder / "ours.gguf") == test::read_file(golden() / "every_type.gguf"));
}

class SplitModel : public testing::TestWithParam<int> {};

TEST_P(SplitModel, OpensAsOneFromAnyPart) {
  const auto file = GgufFile::open(golden() / fmt::format("split-{:05}-of-00003.gguf", GetParam()));
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ((*file)->metadata().integer("llama.block_count"), 2U);
  ASSERT_EQ((*file)->parts().size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*file)->parts()[i].path, golden() / fmt::format("split-{:05}-of-00003.gguf", i + 1));
  }
  ASSERT_EQ((*file)->tensors().size(), 4U);
  for (std::uint32_t part = 0; part < 2; ++part) {
    const GgufTensor* const a = (*file)->find(fmt::format("blk.{}.a.weight", part));
    const GgufTensor* const b = (*file)->find(fmt::format("blk.{}.b.weight", part));
    ASSERT_TRUE(a != nullptr && b != nullptr);
    EXPECT_EQ(a->part, part);
    EXPECT_EQ(copy_of((*file)->data(*a)), golden_bytes(36, part));
    EXPECT_EQ(copy_of((*file)->data(*b)), golden_bytes(20, 10 + part));
  }
}

INSTANTIATE_TEST_SUITE_P(Parts, SplitModel, testing::Values(1, 2, 3));

TEST(SplitModelErrors, MissingMisnamedAndMismatchedPartsAreNamed) {
  const test::TemporaryFolder folder;
  const auto put = [&](int part, const std::string& as) {
    std::filesystem::copy_file(golden() / fmt::format("split-{:05}-of-00003.gguf", part), folder / as,
                               std::filesystem::copy_options::overwrite_existing);
    return (folder / as).string();
  };
  const auto message = [](const std::string& path) {
    const auto file = GgufFile::open(path);
    return file ? "(accepted)" : file.error().message();
  };
  const std::string lone = put(2, "renamed.gguf");
  EXPECT_EQ(message(lone), lone + ": part 2 of 3 of a split model, so its name must end in -00002-of-00003.gguf");

  const std::string first = put(1, "m-00001-of-00003.gguf");
  EXPECT_EQ(message(first), (folder / "m-00002-of-00003.gguf").string() + ": No such file or directory");

  const std::string second = put(3, "m-00002-of-00003.gguf");
  EXPECT_EQ(message(first), second + ": says it is part 3 of 3, expected 2 of 3");

  put(2, "m-00002-of-00003.gguf");
  put(3, "m-00003-of-00003.gguf");
  EXPECT_EQ(message(first), "(accepted)");
}

}  // namespace
}  // namespace sirocco
