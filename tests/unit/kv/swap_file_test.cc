#include "engine/kv/swap_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

constexpr std::size_t kBlock = 5000;

std::vector<std::byte> block_of(unsigned fill) {
  return std::vector<std::byte>(kBlock, static_cast<std::byte>(fill));
}

// Of the file without a name that this process has open in the folder; -1: there is none.
std::int64_t bytes_in(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    const std::string target = std::filesystem::read_symlink(entry.path(), ignored).string();
    struct stat status = {};
    if (target.starts_with(folder.string()) && stat(entry.path().c_str(), &status) == 0) return status.st_size;
  }
  return -1;
}

TEST(SwapFile, BlocksAreReadBackAndTheirSlotsUsedAgain) {
  const test::TemporaryDirectory folder;
  const auto file = SwapFile::create(folder.path(), 3 * kBlock + kBlock / 2, kBlock).value();
  EXPECT_EQ(file->slots(), 3U);
  std::vector<SwapSlot> slots;
  for (unsigned i = 0; i < 3; ++i) slots.push_back(file->write(block_of(i)).value());
  EXPECT_EQ(file->free(), 0U);
  std::vector<std::byte> read(kBlock);
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_TRUE(file->read(slots[i], read));
    EXPECT_EQ(read, block_of(i));
  }
  file->release(slots[1]);
  EXPECT_EQ(file->free(), 1U);
  EXPECT_EQ(file->write(block_of(7)).value(), slots[1]);
  ASSERT_TRUE(file->read(slots[1], read));
  EXPECT_EQ(read, block_of(7));
  ASSERT_TRUE(file->read(slots[2], read));
  EXPECT_EQ(read, block_of(2));
}

TEST(SwapFile, NobodyFindsItAndItsSpaceIsGivenBackWhenNothingIsInIt) {
  const test::TemporaryDirectory folder;
  const auto file = SwapFile::create(folder.path(), 4 * kBlock, kBlock).value();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  const SwapSlot first = file->write(block_of(1)).value();
  const SwapSlot second = file->write(block_of(2)).value();
  file->release(first);
  file->trim();
  EXPECT_EQ(bytes_in(folder.path()), 2 * kBlock);
  file->release(second);
  file->trim();
  EXPECT_EQ(bytes_in(folder.path()), 0);
  std::vector<std::byte> read(kBlock);
  ASSERT_TRUE(file->read(file->write(block_of(3)).value(), read));
  EXPECT_EQ(read, block_of(3));
}

TEST(SwapFile, AFolderThatCannotBeWrittenIsNamedWithItsKey) {
  const auto file = SwapFile::create("/nowhere", kBlock, kBlock);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), ErrorCode::not_found);
  EXPECT_EQ(file.error().message(),
            "/nowhere: no file can be made there for KV that is moved out (memory.kv_swap_directory): No such file or "
            "directory");
}

// In a process of its own: a limit of the size of files stands for a disk that is full.
TEST(SwapFile, WhatDoesNotFitTheDiskLeavesItsSlotFree) {
  const test::TemporaryDirectory folder;
  const auto fill = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = kBlock + 100, .rlim_max = kBlock + 100};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto file = SwapFile::create(folder.path(), 4 * kBlock, kBlock).value();
    const SwapSlot first = file->write(block_of(1)).value();
    const auto second = file->write(block_of(2));
    std::vector<std::byte> read(kBlock);
    const bool right = !second && second.error().message().find("File too large") != std::string::npos &&
                       file->free() == 3 && file->read(first, read) && read == block_of(1);
    std::exit(right ? 0 : 1);
  };
  EXPECT_EXIT(fill(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace sirocco
