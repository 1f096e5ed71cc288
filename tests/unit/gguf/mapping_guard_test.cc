// A file really is cut short under its mapping here, in child processes: the first loss is remembered for good.
#include "engine/gguf/mapping_guard.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "engine/gguf/gguf_writer.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

// A model of one F32 tensor of 4 MiB, every byte 1.
void write_model(const std::filesystem::path& path) {
  auto writer = GgufWriter::create(path, {}, {{"a", TensorType::f32, {1024, 1024}}});
  ASSERT_TRUE(writer) << writer.error().message();
  ASSERT_TRUE(writer->append(std::vector<std::byte>(writer->current_bytes(), std::byte{1})));
  ASSERT_TRUE(writer->finish());
}

unsigned sum(Bytes bytes) {
  unsigned total = 0;
  for (const std::byte b : bytes) total += std::to_integer<unsigned>(b);
  return total;
}

// Runs in a child: opens, truncates, reads with two threads; exits with 0 if all went as promised.
[[noreturn]] void read_truncated(const std::filesystem::path& path) {
  const auto file = GgufFile::open(path);
  const Bytes data = (*file)->data((*file)->tensors()[0]);
  if (lost_mapping() || sum(data) != data.size()) _exit(10);
  if (truncate(path.c_str(), 1 << 20) != 0) _exit(11);
  unsigned other = 0;
  std::thread reader([&] { other = sum(data); });
  const unsigned ours = sum(data);
  reader.join();
  // The first MiB of the file is there: ones, less the header before them; all else reads as zeros.
  const unsigned expected = (1U << 20) - static_cast<unsigned>((*file)->parts()[0].data_offset);
  if (ours != expected || other != expected) _exit(12);
  std::fprintf(stderr, "%s\n", lost_mapping().value_or("nothing lost").c_str());
  _exit(0);
}

TEST(MappingGuardDeathTest, FileTruncatedWhileMappedReadsAsZerosAndIsReported) {
  const test::TemporaryFolder folder;
  write_model(folder / "m.gguf");
  EXPECT_EXIT(read_truncated(folder / "m.gguf"), testing::ExitedWithCode(0),
              "m.gguf: the file was cut short, or its disk failed, while it was in use");
}

// Runs in a child: opens, lets `change` happen to the file, and says what the guard noticed.
template <class Change>
[[noreturn]] void change_while_mapped(const std::filesystem::path& path, Change change) {
  // Clocks of file systems tick in milliseconds: two writes in one tick would look like one.
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  const auto file = GgufFile::open(path);
  if (!file || lost_mapping()) _exit(10);
  change(path);
  std::fprintf(stderr, "%s\n", lost_mapping().value_or("nothing lost").c_str());
  _exit(0);
}

TEST(MappingGuardDeathTest, FileWrittenToWhileMappedIsReportedThoughEveryPageIsThere) {
  const test::TemporaryFolder folder;
  write_model(folder / "m.gguf");
  const std::string other(std::filesystem::file_size(folder / "m.gguf"), 'x');
  const auto overwrite = [&](const std::filesystem::path& path) { test::write_file(path, other); };
  EXPECT_EXIT(change_while_mapped(folder / "m.gguf", overwrite), testing::ExitedWithCode(0),
              "m.gguf: the file was written to while it was in use");
  const auto append = [](const std::filesystem::path& path) { std::ofstream(path, std::ios::app) << "more"; };
  write_model(folder / "m.gguf");
  EXPECT_EXIT(change_while_mapped(folder / "m.gguf", append), testing::ExitedWithCode(0),
              "m.gguf: the file was written to while it was in use");
}

TEST(MappingGuardDeathTest, FileCutShortWithinItsLastPageIsReported) {
  const test::TemporaryFolder folder;
  write_model(folder / "m.gguf");
  const auto cut = [](const std::filesystem::path& path) {
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 10);
  };
  EXPECT_EXIT(change_while_mapped(folder / "m.gguf", cut), testing::ExitedWithCode(0),
              "m.gguf: the file was cut short");
}

TEST(MappingGuardDeathTest, FileRenamedDeletedOrReplacedByRenamingIsNoLoss) {
  const test::TemporaryFolder folder;
  write_model(folder / "m.gguf");
  write_model(folder / "new.gguf");
  const auto replace = [&](const std::filesystem::path& path) {
    std::filesystem::permissions(path, std::filesystem::perms::owner_read);
    std::filesystem::rename(path, folder / "old.gguf");
    std::filesystem::rename(folder / "new.gguf", path);
    std::filesystem::remove(folder / "old.gguf");
  };
  EXPECT_EXIT(change_while_mapped(folder / "m.gguf", replace), testing::ExitedWithCode(0), "nothing lost");
}

// An unguarded mapping of a file that is then emptied.
[[noreturn]] void read_unguarded() {
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  sigaction(SIGBUS, &plain, nullptr);  // a sanitizer's own handler would answer first
  install_mapping_guard();
  std::FILE* const file = std::tmpfile();
  if (file == nullptr || ftruncate(fileno(file), 4096) != 0) _exit(10);
  const auto* const bytes =
      static_cast<const volatile char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fileno(file), 0));
  if (ftruncate(fileno(file), 0) != 0) _exit(11);
  _exit(bytes[0]);
}

TEST(MappingGuardDeathTest, BusErrorElsewhereStillKills) {
  EXPECT_EXIT(read_unguarded(), testing::KilledBySignal(SIGBUS), "");
}

TEST(MappingGuardDeathTest, BusSignalSentByAnotherProcessStillKills) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, SIG_DFL);
        install_mapping_guard();
        kill(getpid(), SIGBUS);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST(MappingGuard, TableIsLimitedAndEntriesAreFreedAgain) {
  const std::vector<std::byte> memory(300);
  std::size_t accepted = 0;
  while (accepted < memory.size() && guard_mapping(Bytes(memory).subspan(accepted, 1), -1, "x")) ++accepted;
  EXPECT_EQ(accepted, 256U);
  for (std::size_t i = 0; i < accepted; ++i) unguard_mapping(Bytes(memory).subspan(i, 1));
  EXPECT_TRUE(guard_mapping(memory, -1, "y"));
  unguard_mapping(memory);
}

}  // namespace
}  // namespace sirocco
