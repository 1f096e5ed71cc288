#include "engine/session/session_store.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "tests/support/models.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

constexpr std::size_t kBlockBytes = 100;

SessionHead example() {
  SessionHead head;
  head.uid = 1000;
  head.name = "kitchen.1";
  head.overflow = SessionOverflow::drop_oldest;
  ChatMessage call;
  call.role = Role::assistant;
  call.tool_calls = {{"call", "clock", "{}"}};
  ChatMessage result;
  result.role = Role::tool;
  result.content = "12:00";
  result.tool_call_id = "call";
  result.name = "clock";
  head.content.conversation = {.messages = {call, result}, .tools = "[]"};
  for (TokenId id = 0; id < 10; ++id) head.computed.push_back(id);
  return head;
}

class SessionStoreTest : public testing::Test {
 protected:
  SessionStore open(const std::string& model = "m", std::uint64_t bytes = 1 * MiB, const std::string& layout = "cpu") {
    return SessionStore::open({.folder = folder(),
                               .bytes_per_uid = bytes,
                               .model = model,
                               .kv_layout = layout,
                               .block_tokens = 4,
                               .block_bytes = kBlockBytes})
        .value();
  }
  std::filesystem::path folder() const { return directory.path() / "sessions"; }
  std::filesystem::path file() const { return folder() / "1000-kitchen.1.session"; }

  static bool numbered(std::uint32_t index, std::span<std::byte> block) {
    std::fill(block.begin(), block.end(), static_cast<std::byte>(index + 1));
    return true;
  }
  struct Loaded {
    std::optional<SessionHead> head;
    std::vector<std::vector<std::byte>> blocks;
    std::optional<Error> damage;
    std::optional<Error> error;
  };
  static Loaded load(const SessionStore& store) {
    Loaded loaded;
    auto result = store.load(
        {1000, "kitchen.1"},
        [&](SessionHead&& head) -> Result<void> {
          loaded.head = std::move(head);
          return {};
        },
        [&](std::uint32_t index, Bytes block) {
          EXPECT_EQ(index, loaded.blocks.size());
          loaded.blocks.emplace_back(block.begin(), block.end());
          return true;
        });
    if (result) {
      loaded.damage = *result;
    } else {
      loaded.error = result.error();
    }
    return loaded;
  }
  std::vector<char> bytes() const {
    std::ifstream in(file(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::vector<char>& bytes) const {
    std::ofstream(file(), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  test::TemporaryDirectory directory;
};

TEST_F(SessionStoreTest, WhatWasSavedIsReadByTheNextDaemon) {
  ASSERT_TRUE(open().save(example(), numbered));
  const SessionStore store = open();
  EXPECT_EQ(store.saved().size(), 1U);
  EXPECT_EQ(store.bytes({1000, "kitchen.1"}), std::filesystem::file_size(file()));
  const Loaded loaded = load(store);
  ASSERT_TRUE(loaded.head) << loaded.error->message();
  EXPECT_FALSE(loaded.damage);
  const SessionHead expected = example();
  EXPECT_EQ(loaded.head->overflow, SessionOverflow::drop_oldest);
  EXPECT_EQ(loaded.head->computed, expected.computed);
  ASSERT_EQ(loaded.head->content.conversation.messages.size(), 2U);
  EXPECT_EQ(loaded.head->content.conversation.tools, "[]");
  EXPECT_EQ(loaded.head->content.conversation.messages[0].tool_calls[0].name, "clock");
  EXPECT_EQ(loaded.head->content.conversation.messages[1].content, "12:00");
  EXPECT_EQ(loaded.head->content.conversation.messages[1].name, "clock");
  ASSERT_EQ(loaded.blocks.size(), 3U);
  for (std::uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(loaded.blocks[i], std::vector<std::byte>(kBlockBytes, static_cast<std::byte>(i + 1)));
}

TEST_F(SessionStoreTest, ALargeOneReachesTheDiskInPartsAndEachIsTold) {
  constexpr std::uint64_t kLargeBlock = 8 * MiB;
  SessionStore store = SessionStore::open({.folder = folder(),
                                           .bytes_per_uid = 1 * GiB,
                                           .model = "m",
                                           .kv_layout = "cpu",
                                           .block_tokens = 2,
                                           .block_bytes = kLargeBlock})
                           .value();
  std::vector<std::uintmax_t> sizes;
  const auto synced = [&] {
    const std::filesystem::path unfinished = file().string() + ".unfinished";
    sizes.push_back(std::filesystem::file_size(std::filesystem::exists(unfinished) ? unfinished : file()));
  };
  ASSERT_TRUE(store.save(example(), numbered, synced));
  ASSERT_EQ(sizes.size(), 3U);  // two blocks are a part; the fifth comes with the end
  EXPECT_GE(sizes[0], SessionStore::kSyncBytes);
  EXPECT_GE(sizes[1], 2 * SessionStore::kSyncBytes);
  EXPECT_EQ(sizes[2], store.bytes({1000, "kitchen.1"}));
  EXPECT_GE(sizes[2], 5 * kLargeBlock);
}

TEST_F(SessionStoreTest, NobodyElseCanReadIt) {
  ASSERT_TRUE(open().save(example(), numbered));
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(file()).permissions(), perms::owner_read | perms::owner_write);
  EXPECT_EQ(std::filesystem::status(folder()).permissions(), perms::owner_all);
}

TEST_F(SessionStoreTest, AFileOfAnotherModelIsRefusedAndStays) {
  ASSERT_TRUE(open().save(example(), numbered));
  const Loaded loaded = load(open("another"));
  ASSERT_TRUE(loaded.error);
  EXPECT_EQ(loaded.error->code(), ErrorCode::unsupported);
  EXPECT_FALSE(loaded.head);
  EXPECT_TRUE(std::filesystem::exists(file()));
}

TEST_F(SessionStoreTest, BlocksOfAnotherLayoutAreNotReadAndTheTextIs) {
  ASSERT_TRUE(open().save(example(), numbered));
  const Loaded loaded = load(open("m", 1 * MiB, "ref"));
  EXPECT_TRUE(loaded.head);
  EXPECT_TRUE(loaded.blocks.empty());
}

TEST_F(SessionStoreTest, AnyDamagedByteIsNoticedAndCostsNoMoreThanWhatFollows) {
  ASSERT_TRUE(open().save(example(), numbered));
  const std::vector<char> whole = bytes();
  const std::size_t unit = kBlockBytes + 32;
  const std::size_t head = whole.size() - 3 * unit;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::vector<char> damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write(damaged);
    const Loaded loaded = load(open());
    if (at < head) {
      ASSERT_TRUE(loaded.error) << at;
      EXPECT_NE(loaded.error->message().find("1000-kitchen.1.session"), std::string::npos);
      EXPECT_FALSE(loaded.head);
    } else {
      ASSERT_TRUE(loaded.damage) << at;
      EXPECT_EQ(loaded.blocks.size(), (at - head) / unit) << at;
    }
  }
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    const Loaded loaded = load(open());
    EXPECT_EQ(loaded.error.has_value(), size < head) << size;
    if (size >= head) {
      EXPECT_EQ(loaded.blocks.size(), (size - head) / unit) << size;
      EXPECT_EQ(loaded.damage.has_value(), (size - head) % unit != 0) << size;
    }
  }
}

TEST_F(SessionStoreTest, BlocksThatHaveLeftOrDoNotFitTheQuotaAreLeftOut) {
  ASSERT_TRUE(open().save(
      example(), [](std::uint32_t index, std::span<std::byte> block) { return index < 2 && numbered(index, block); }));
  EXPECT_EQ(load(open()).blocks.size(), 2U);
  SessionStore store = open("m", std::filesystem::file_size(file()));
  ASSERT_TRUE(store.save(example(), numbered));
  EXPECT_EQ(load(store).blocks.size(), 2U);
  SessionHead another = example();
  another.name = "cellar";
  const auto refused = store.save(another, numbered);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::busy);
  another.uid = 1001;
  EXPECT_TRUE(store.save(another, numbered));
}

TEST_F(SessionStoreTest, AnInterruptedSaveLeavesWhatWasThereAndIsTidiedUp) {
  ASSERT_TRUE(open().save(example(), numbered));
  const std::vector<char> before = bytes();
  const auto unfinished = file().string() + ".unfinished";
  std::ofstream(unfinished) << "half of it";
  const SessionStore store = open();
  EXPECT_EQ(store.saved().size(), 1U);
  EXPECT_FALSE(std::filesystem::exists(unfinished));
  EXPECT_EQ(bytes(), before);
}

// Of an engine that is made ready while the one before it still runs.
TEST_F(SessionStoreTest, WhatIsSavedUntilItIsAskedIsFound) {
  SessionStore before = open();
  const SessionStore next = open();
  ASSERT_TRUE(before.save(example(), numbered));
  EXPECT_EQ(next.saved().size(), 1U);
  EXPECT_EQ(load(next).blocks.size(), 3U);
}

TEST_F(SessionStoreTest, AFailedSaveLeavesWhatWasThere) {
  SessionStore store = open();
  ASSERT_TRUE(store.save(example(), numbered));
  const std::vector<char> before = bytes();
  std::filesystem::create_directory(file().string() + ".unfinished");
  EXPECT_FALSE(store.save(example(), numbered));
  EXPECT_EQ(bytes(), before);
}

TEST(ModelFingerprint, IsOfTheContentAndNotOfTheName) {
  const auto fingerprint = [](const std::filesystem::path& path) {
    return model_fingerprint(*Model::open(path).value());
  };
  const auto models = test::golden_dir() / "model";
  const test::TemporaryDirectory directory;
  std::filesystem::copy_file(models / "tiny-llama.gguf", directory.path() / "copy.gguf");
  EXPECT_EQ(fingerprint(models / "tiny-llama.gguf"), fingerprint(directory.path() / "copy.gguf"));
  EXPECT_NE(fingerprint(models / "tiny-llama.gguf"), fingerprint(models / "tiny-mistral.gguf"));
}

}  // namespace
}  // namespace sirocco
