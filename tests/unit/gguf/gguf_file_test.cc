// Whatever a file claims, the reader either proves it or refuses it with a message that says where.
#include "engine/gguf/gguf_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>

#include "tests/support/source_dir.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

using test::as_bytes;
using test::GgufBytes;

constexpr std::uint32_t kF32 = 0;
constexpr std::uint32_t kQ4_0 = 2;
constexpr std::uint32_t kArray = 9;
constexpr std::uint32_t kString = 8;

std::string error_of(const std::string& bytes) {
  const auto file = GgufFile::parse(as_bytes(bytes), "model.gguf");
  return file ? "(accepted)" : file.error().message();
}

// One tensor of the given shape, type and offset before `data` bytes.
std::string one_tensor(const std::vector<std::uint64_t>& shape, std::uint32_t type, std::uint64_t offset,
                       std::size_t data) {
  return GgufBytes(3, 1, 0).tensor("blk.0.a.weight", shape, type, offset).pad().zeros(data).bytes();
}

TEST(GgufFile, SmallestFileHasNoKeysAndNoTensors) {
  const std::string bytes = GgufBytes(3, 0, 0).bytes();
  const auto file = GgufFile::parse(as_bytes(bytes));
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE((*file)->tensors().empty());
  EXPECT_EQ((*file)->alignment(), 32U);
}

TEST(GgufFile, Version2ReadsLikeVersion3) {
  const std::string bytes = GgufBytes(2, 0, 1).u32("a.b", 7).bytes();
  const auto file = GgufFile::parse(as_bytes(bytes));
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ((*file)->version(), 2U);
  EXPECT_EQ((*file)->metadata().integer("a.b"), 7U);
}

TEST(GgufFile, OtherFilesAndVersionsAreNamed) {
  EXPECT_EQ(error_of("PK\3\4 not a model"), "model.gguf: not a GGUF file (it does not begin with \"GGUF\")");
  EXPECT_EQ(error_of("GG"), "model.gguf: not a GGUF file (it does not begin with \"GGUF\")");
  EXPECT_EQ(error_of(GgufBytes(1, 0, 0).bytes()),
            "model.gguf: GGUF version 1; versions 2 and 3 are read, convert the model again");
  EXPECT_EQ(error_of(GgufBytes(0x03000000, 0, 0).bytes()),
            "model.gguf: a big-endian GGUF file; convert it with gguf_convert_endian.py of the gguf package");
}

TEST(GgufFile, TensorsAreRefusedWithTheirNameAndTheReason) {
  const std::string where = "model.gguf: tensor blk.0.a.weight: ";
  EXPECT_EQ(error_of(one_tensor({32}, 36, 0, 128)),
            where + "type number 36 is not a known tensor type; convert the model to a standard one");
  EXPECT_EQ(error_of(one_tensor({33}, kQ4_0, 0, 128)),
            where + "shape [33]: rows of 33 are no whole number of Q4_0 blocks of 32");
  EXPECT_EQ(error_of(one_tensor({}, kF32, 0, 128)), where + "0 dimensions, expected 1 to 4");
  EXPECT_EQ(error_of(one_tensor({1, 1, 1, 1, 1}, kF32, 0, 128)), where + "5 dimensions, expected 1 to 4");
  EXPECT_EQ(error_of(one_tensor({8, 0}, kF32, 0, 128)), where + "dimension 1 is 0");
  EXPECT_EQ(error_of(one_tensor({8}, kF32, 16, 128)), where + "offset 16 is no multiple of the alignment 32");
  EXPECT_EQ(error_of(one_tensor({8}, kF32, 0, 31)),
            where + "its 32 bytes at byte 96 end after the file, which has 127: truncated; fetch it again");
}

TEST(GgufFile, ProductsAndSumsThatOverflowAreRefused) {
  const std::uint64_t big = std::uint64_t{1} << 62;
  EXPECT_EQ(error_of(one_tensor({big, 4}, kF32, 0, 128)),
            "model.gguf: tensor blk.0.a.weight: shape [4611686018427387904, 4] has more elements than 64 bits count");
  EXPECT_EQ(error_of(one_tensor({big}, kF32, 0, 128)),
            "model.gguf: tensor blk.0.a.weight: shape [4611686018427387904] has more bytes than 64 bits count");
  EXPECT_NE(error_of(one_tensor({8}, kF32, 0xFFFFFFFFFFFFFFE0U, 128)), "(accepted)");
  EXPECT_NE(error_of(one_tensor({8}, kF32, 0xFFFFFFFFFFFFFF80U, 128)), "(accepted)");
  EXPECT_EQ(error_of(one_tensor({8}, kF32, 0, 32)), "(accepted)");
}

TEST(GgufFile, OverlappingTensorsAreRefused) {
  const auto two = [](std::uint64_t second) {
    return GgufBytes(3, 2, 0).tensor("b", {16}, kF32, second).tensor("a", {16}, kF32, 0).pad().zeros(256).bytes();
  };
  EXPECT_EQ(error_of(two(32)), "model.gguf: tensor b overlaps tensor a");
  EXPECT_EQ(error_of(two(64)), "(accepted)");
}

TEST(GgufFile, DuplicatesAreRefused) {
  EXPECT_EQ(error_of(GgufBytes(3, 0, 2).u32("a", 1).u32("a", 2).bytes()), "model.gguf: metadata key a appears twice");
  EXPECT_EQ(error_of(GgufBytes(3, 2, 0).tensor("a", {8}, kF32, 0).tensor("a", {8}, kF32, 32).pad().zeros(64).bytes()),
            "model.gguf: tensor a appears twice");
}

TEST(GgufFile, AlignmentIsAPowerOfTwoWithinReason) {
  for (const std::uint32_t bad : {0U, 1U, 4U, 33U, 48U, 1U << 21, 0x80000000U}) {
    EXPECT_EQ(error_of(GgufBytes(3, 0, 1).u32("general.alignment", bad).bytes()),
              fmt::format("model.gguf: general.alignment is {}, expected a power of two from 8 to 1048576", bad));
  }
  const std::string bytes =
      GgufBytes(3, 1, 1).u32("general.alignment", 4096).tensor("a", {8}, kF32, 0).pad(4096).zeros(32).bytes();
  const auto file = GgufFile::parse(as_bytes(bytes));
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ((*file)->tensors()[0].offset, 4096U);
}

TEST(GgufFile, CountsAreHeldAgainstTheBytesThatFollowBeforeAnythingIsAllocated) {
  const std::uint64_t huge = std::uint64_t{1} << 61;
  EXPECT_EQ(error_of(GgufBytes(3, huge, 0).bytes()),
            "model.gguf: 2305843009213693952 tensors, at most 1048576 are allowed");
  EXPECT_EQ(error_of(GgufBytes(3, 1000000, 0).bytes()),
            "model.gguf: 1000000 tensors do not fit in the 0 bytes that follow");
  EXPECT_EQ(error_of(GgufBytes(3, 0, 65536).bytes()),
            "model.gguf: 65536 metadata keys do not fit in the 0 bytes that follow");
  EXPECT_EQ(
      error_of(GgufBytes(3, 0, 1).number(huge).zeros(40).bytes()),
      "model.gguf: metadata entry 0 of 1: a text of 2305843009213693952 bytes at byte 32, at most 65535 are allowed");
  for (const std::uint32_t type : {0U, 4U, 7U, kString, 12U}) {
    const auto array = GgufBytes(3, 0, 1).text("k").number(kArray).number(type).number(huge).zeros(16).bytes();
    EXPECT_EQ(error_of(array),
              "model.gguf: metadata key k: truncated: an array of 2305843009213693952 elements at byte 49, 16 bytes "
              "are left");
  }
}

TEST(GgufFile, ValuesOutsideTheFormatAreRefused) {
  EXPECT_EQ(error_of(GgufBytes(3, 0, 1).text("k").number<std::uint32_t>(13).zeros(8).bytes()),
            "model.gguf: metadata key k: unknown metadata type 13");
  EXPECT_EQ(error_of(GgufBytes(3, 0, 1).text("k").number(kArray).number(kArray).number<std::uint64_t>(1).bytes()),
            "model.gguf: metadata key k: an array of arrays, which no known model needs");
  EXPECT_EQ(error_of(GgufBytes(3, 0, 1).text("k").number<std::uint32_t>(7).number<char>(2).bytes()),
            "model.gguf: metadata key k: a boolean of value 2, expected 0 or 1");
  EXPECT_EQ(error_of(GgufBytes(3, 0, 1).u32("", 1).bytes()),
            "model.gguf: metadata entry 0 of 1: an empty name at byte 32");
  EXPECT_EQ(
      error_of(GgufBytes(3, 0, 1).u32("\x1b[2J", 1).bytes()),
      "model.gguf: metadata entry 0 of 1: a name with control characters or broken UTF-8 before byte 36: \" [2J\"");
  for (const char* name : {"\u009B31m", "\xFF", "a\nb", "\u202Ea"}) {
    EXPECT_NE(error_of(GgufBytes(3, 1, 0).tensor(name, {8}, kF32, 0).pad().zeros(32).bytes()), "(accepted)") << name;
  }
}

// Every prefix of a good file is a truncated one.
TEST(GgufFile, EveryTruncationIsNoticed) {
  const std::string whole = test::read_file(test::golden_dir() / "gguf" / "every_type.gguf");
  ASSERT_GT(whole.size(), 20000U);
  const std::size_t data_end = 24512 + 408;  // of the last tensor; padding follows
  ASSERT_EQ(error_of(whole.substr(0, data_end)), "(accepted)");
  for (std::size_t size = 0; size < data_end; ++size) {
    ASSERT_NE(error_of(whole.substr(0, size)), "(accepted)") << size;
  }
}

TEST(GgufFile, LargeVocabularyIsReadInLinearTime) {
  constexpr std::uint64_t kTokens = 200000;
  GgufBytes bytes(3, 0, 1);
  bytes.text("tokenizer.ggml.tokens").number(kArray).number(kString).number(kTokens);
  for (std::uint64_t i = 0; i < kTokens; ++i) bytes.text(fmt::format("token{}", i));
  const auto start = std::chrono::steady_clock::now();
  const auto file = GgufFile::parse(as_bytes(bytes.bytes()));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ((*file)->metadata().strings("tokenizer.ggml.tokens")->back(), "token199999");
  EXPECT_LT(elapsed.count(), 2.0);  // measured: 0.01 s; a quadratic reader takes minutes
}

// A sparse file costs whoever sends it nothing: 8 bytes of it are an empty string, which takes 32 in memory.
TEST(GgufFile, ArraysThatTakeFarMoreMemoryThanAnyModelsAreRefusedBeforeTheyAreRead) {
  const test::TemporaryFolder folder;
  for (const std::uint32_t type : {kString, 7U, 12U}) {
    const std::uint64_t count = (500 * MiB) / (type == 7 ? 1 : 8);
    const auto head = GgufBytes(3, 0, 1).text("k").number(kArray).number(type).number(count);
    test::write_file(folder / "m.gguf", head.bytes());
    std::filesystem::resize_file(folder / "m.gguf", 520 * MiB);
    const auto file = GgufFile::open(folder / "m.gguf");
    ASSERT_FALSE(file);
    EXPECT_EQ(
        file.error().message(),
        (folder / "m.gguf").string() +
            ": metadata key k: the metadata would take more than 256 MiB of memory, far more than any known model's");
  }
}

TEST(GgufFile, WhatIsNotARegularFileIsRefusedWithoutWaiting) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe.gguf").c_str(), 0600), 0);
  test::write_file(folder / "empty.gguf", "");
  const auto message = [](const std::filesystem::path& path) { return GgufFile::open(path).error().message(); };
  EXPECT_EQ(message(folder / "pipe.gguf"),
            (folder / "pipe.gguf").string() + ": not a regular file; give the path of a .gguf file");
  EXPECT_EQ(message(folder.path()), folder.path().string() + ": not a regular file; give the path of a .gguf file");
  EXPECT_EQ(message(folder / "empty.gguf"), (folder / "empty.gguf").string() + ": the file is empty");
  EXPECT_EQ(message(folder / "none.gguf"), (folder / "none.gguf").string() + ": No such file or directory");
}

TEST(GgufFile, DeletedFileStaysReadable) {
  const test::TemporaryFolder folder;
  const auto path = folder / "model.gguf";
  std::filesystem::copy_file(test::golden_dir() / "gguf" / "every_type.gguf", path);
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().message();
  std::filesystem::remove(path);
  EXPECT_EQ((*file)->data(*(*file)->find("tensor.F32"))[1], std::byte{7});
}

}  // namespace
}  // namespace sirocco
