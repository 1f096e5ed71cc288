#include "engine/gguf/gguf_writer.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <set>

#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

using Tensors = std::vector<GgufWriter::TensorDeclaration>;

template <class T>
rc::Gen<GgufValue> any_of_type() {
  return rc::gen::oneOf(rc::gen::map(rc::gen::arbitrary<T>(), [](T v) { return GgufValue(std::move(v)); }),
                        rc::gen::map(rc::gen::arbitrary<std::vector<T>>(),
                                     [](std::vector<T> v) { return GgufValue(GgufArray(std::move(v))); }));
}

rc::Gen<GgufValue> any_value() {
  return rc::gen::oneOf(any_of_type<std::uint8_t>(), any_of_type<std::int8_t>(), any_of_type<std::uint16_t>(),
                        any_of_type<std::int16_t>(), any_of_type<std::uint32_t>(), any_of_type<std::int32_t>(),
                        any_of_type<float>(), any_of_type<bool>(), any_of_type<std::string>(),
                        any_of_type<std::uint64_t>(), any_of_type<std::int64_t>(), any_of_type<double>());
}

GgufMetadata any_metadata() {
  GgufMetadata metadata;
  const int count = *rc::gen::inRange(0, 12);
  for (int i = 0; i < count; ++i) metadata.set(fmt::format("key.{}", i), *any_value());
  if (*rc::gen::arbitrary<bool>()) metadata.set("general.alignment", *rc::gen::element(8U, 32U, 64U, 4096U));
  return metadata;
}

Tensors any_tensors() {
  Tensors tensors;
  const int count = *rc::gen::inRange(0, 6);
  for (int i = 0; i < count; ++i) {
    const TensorTypeInfo info = tensor_types()[*rc::gen::inRange<std::size_t>(0, tensor_types().size())];
    std::vector<std::uint64_t> shape(*rc::gen::inRange<std::size_t>(1, 5));
    for (std::uint64_t& extent : shape) extent = *rc::gen::inRange<std::uint64_t>(1, 5);
    shape[0] *= info.block_size;
    tensors.push_back({fmt::format("blk.{}.weight", i), info.type, shape});
  }
  return tensors;
}

// Gives the writer `data` in pieces of any size.
void append_in_pieces(GgufWriter& writer, Bytes data) {
  while (!data.empty()) {
    const auto piece = *rc::gen::inRange<std::size_t>(1, data.size() + 1);
    RC_ASSERT(writer.append(data.first(piece)).has_value());
    data = data.subspan(piece);
  }
}

RC_GTEST_PROP(GgufWriterProperty, WhatIsWrittenIsReadBackEqual, ()) {
  const test::TemporaryFolder folder;
  const GgufMetadata metadata = any_metadata();
  const Tensors tensors = any_tensors();
  auto writer = GgufWriter::create(folder / "model.gguf", metadata, tensors);
  RC_ASSERT(writer.has_value());
  std::vector<std::vector<std::byte>> data;
  while (writer->current() != nullptr) {
    data.emplace_back(writer->current_bytes());
    for (std::byte& b : data.back()) b = static_cast<std::byte>(*rc::gen::inRange(0, 256));
    append_in_pieces(*writer, data.back());
  }
  RC_ASSERT(writer->finish().has_value());
  RC_ASSERT(std::filesystem::file_size(folder / "model.gguf") == writer->file_bytes());

  const auto file = GgufFile::open(folder / "model.gguf");
  RC_ASSERT(file.has_value());
  RC_ASSERT((*file)->metadata().values() == metadata.values());
  RC_ASSERT((*file)->tensors().size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = (*file)->tensors()[i];
    RC_ASSERT(tensor.name == tensors[i].name && tensor.type == tensors[i].type);
    RC_ASSERT(std::vector(tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions) == tensors[i].shape);
    const Bytes read = (*file)->data(tensor);
    RC_ASSERT(std::vector<std::byte>(read.begin(), read.end()) == data[i]);
  }
}

const Tensors kTwo = {{"a", TensorType::f32, {1024, 1024}}, {"b", TensorType::q8_0, {32}}};

// Limits file sizes while it lives, which looks like a full disk to the writer.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(GgufWriter, FullDiskIsFoundBeforeTheFirstTensorIsGiven) {
  const test::TemporaryFolder folder;
  const FileSizeLimit limit(1 * MiB);
  const auto writer = GgufWriter::create(folder / "m.gguf", {}, kTwo);
  ASSERT_FALSE(writer);
  EXPECT_TRUE(writer.error().message().starts_with((folder / "m.gguf").string() +
                                                   ": File too large: the file needs 4.00 MiB, "))
      << writer.error().message();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, DiskThatFillsUpMeanwhileEndsWithAMessageAndNoFile) {
  const test::TemporaryFolder folder;
  {
    auto writer = GgufWriter::create(folder / "m.gguf", {}, kTwo);
    ASSERT_TRUE(writer) << writer.error().message();
    const FileSizeLimit limit(1 * MiB);
    const auto appended = writer->append(std::vector<std::byte>(4 * MiB));
    ASSERT_FALSE(appended);
    EXPECT_NE(appended.error().message().find("the file needs 4.00 MiB"), std::string::npos)
        << appended.error().message();
    EXPECT_EQ(writer->finish().error().message(), (folder / "m.gguf").string() + ": an earlier write failed");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, AbandonedWriterLeavesNothing) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "m.gguf", "the old one");
  {
    auto writer = GgufWriter::create(folder / "m.gguf", {}, kTwo);
    ASSERT_TRUE(writer) << writer.error().message();
    ASSERT_TRUE(writer->append(std::vector<std::byte>(1000)));
    const auto early = writer->finish();
    ASSERT_FALSE(early);
    EXPECT_EQ(early.error().message(), (folder / "m.gguf").string() + ": tensor a: 1000 of 4194304 bytes were given");
  }
  EXPECT_EQ(test::read_file(folder / "m.gguf"), "the old one");
  EXPECT_FALSE(std::filesystem::exists(folder / "m.gguf.part"));
}

TEST(GgufWriter, SecondWriterOfTheSameFileIsRefused) {
  const test::TemporaryFolder folder;
  const auto first = GgufWriter::create(folder / "m.gguf", {}, kTwo);
  ASSERT_TRUE(first) << first.error().message();
  const auto second = GgufWriter::create(folder / "m.gguf", {}, kTwo);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::busy);
}

TEST(GgufWriter, StalePartOfAKilledWriterIsReplaced) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "m.gguf.part", std::string(9 * MiB, 'x'));
  auto writer = GgufWriter::create(folder / "m.gguf", {}, {{"a", TensorType::f32, {8}}});
  ASSERT_TRUE(writer) << writer.error().message();
  ASSERT_TRUE(writer->append(std::vector<std::byte>(32)));
  ASSERT_TRUE(writer->finish());
  EXPECT_EQ(std::filesystem::file_size(folder / "m.gguf"), writer->file_bytes());
}

TEST(GgufWriter, ImpossibleDeclarationsAreNamed) {
  const test::TemporaryFolder folder;
  const auto message = [&](GgufWriter::TensorDeclaration tensor) {
    const auto writer = GgufWriter::create(folder / "m.gguf", {}, {std::move(tensor)});
    return writer ? "(accepted)" : writer.error().message().substr((folder / "m.gguf").string().size() + 2);
  };
  EXPECT_EQ(message({"a", TensorType::q4_k, {128, 2}}),
            "tensor a: shape [128, 2] is impossible for Q4_K, whose blocks hold 256");
  EXPECT_EQ(message({"a", TensorType::f32, {0}}), "tensor a: shape [0] is impossible for F32, whose blocks hold 1");
  EXPECT_EQ(message({"", TensorType::f32, {1}}), "tensor \"\": needs a name, a known type and 1 to 4 dimensions");
  const auto twice =
      GgufWriter::create(folder / "m.gguf", {}, {{"a", TensorType::f32, {1}}, {"a", TensorType::f32, {1}}});
  EXPECT_EQ(twice.error().message(), (folder / "m.gguf").string() + ": tensor a is declared twice");
}

TEST(GgufWriter, MoreBytesThanTheTensorHasAreRefused) {
  const test::TemporaryFolder folder;
  auto writer = GgufWriter::create(folder / "m.gguf", {}, {{"a", TensorType::f32, {8}}});
  ASSERT_TRUE(writer) << writer.error().message();
  EXPECT_EQ(writer->append(std::vector<std::byte>(33)).error().message(),
            (folder / "m.gguf").string() + ": tensor a: 33 bytes given, 32 are missing");
}

}  // namespace
}  // namespace sirocco
