#include "engine/experts/transfer_queue.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <random>

#include "engine/experts/read_shape.h"
#include "tests/support/refuse_system_call.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

using Make = Result<std::unique_ptr<TransferQueue>> (*)();

class TransferQueueTest : public testing::TestWithParam<Make> {
 protected:
  void SetUp() override {
    auto made = GetParam()();
    if (!made) GTEST_SKIP() << made.error().message();
    queue_ = *std::move(made);
    std::mt19937 random(7);
    content_.resize(5 * 1024 * 1024 + 1234);
    for (std::byte& byte : content_) byte = static_cast<std::byte>(random());
    const std::string path = folder_.path() / "file";
    descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_EQ(write(descriptor_, content_.data(), content_.size()), static_cast<ssize_t>(content_.size()));
    ASSERT_EQ(fsync(descriptor_), 0);
    direct_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  }
  void TearDown() override {
    queue_.reset();
    if (descriptor_ >= 0) close(descriptor_);
    if (direct_ >= 0) close(direct_);
  }

  struct Buffer {
    explicit Buffer(std::size_t bytes)
        : memory(static_cast<std::byte*>(std::aligned_alloc(kDirectBlock, bytes)), &std::free) {
      std::fill_n(memory.get(), bytes, std::byte{0});
    }
    std::unique_ptr<std::byte, decltype(&std::free)> memory;
  };

  std::vector<Arrival> collect_all(std::size_t count) {
    std::vector<Arrival> arrivals;
    while (arrivals.size() < count) queue_->collect(arrivals, true);
    return arrivals;
  }

  test::TemporaryDirectory folder_;
  std::unique_ptr<TransferQueue> queue_;
  std::vector<std::byte> content_;
  int descriptor_ = -1;
  int direct_ = -1;
};

TEST_P(TransferQueueTest, BringsWhatIsInTheFileWhateverTheShape) {
  std::mt19937 random(11);
  for (std::size_t i = 0; i < 2 * read_shapes().size(); ++i) {
    const int descriptor = i % 2 == 0 ? descriptor_ : direct_;
    if (descriptor < 0) continue;  // the file system knows no O_DIRECT
    queue_->set_shape(read_shapes()[i / 2]);
    std::vector<Buffer> buffers;
    std::vector<Transfer> transfers;
    for (std::uint64_t tag = 0; tag < 40; ++tag) {
      const std::uint64_t first = random() % (content_.size() / kDirectBlock);
      const std::uint64_t blocks = 1 + random() % 700;
      const std::uint64_t bytes = blocks * kDirectBlock;
      const std::uint64_t there = content_.size() - first * kDirectBlock;
      buffers.emplace_back(bytes);
      transfers.push_back({.descriptor = descriptor,
                           .offset = first * kDirectBlock,
                           .bytes = bytes,
                           .wanted = std::min(bytes, there),
                           .to = buffers.back().memory.get(),
                           .tag = tag,
                           .background = random() % 2 == 0});
    }
    queue_->submit(transfers);
    std::vector<bool> seen(transfers.size());
    for (const Arrival& arrival : collect_all(transfers.size())) {
      EXPECT_EQ(arrival.error, 0);
      EXPECT_FALSE(seen.at(arrival.tag));
      seen.at(arrival.tag) = true;
      const Transfer& transfer = transfers[arrival.tag];
      EXPECT_TRUE(std::equal(transfer.to, transfer.to + transfer.wanted, content_.data() + transfer.offset));
    }
  }
}

TEST_P(TransferQueueTest, NothingUnderWayIsNothingToWaitFor) {
  std::vector<Arrival> arrivals;
  queue_->collect(arrivals, true);
  EXPECT_TRUE(arrivals.empty());
}

TEST_P(TransferQueueTest, EndOfTheFileBeforeWhatIsWantedIsAnError) {
  const Buffer buffer(2 * 1024 * 1024);
  const std::uint64_t offset = content_.size() / kDirectBlock * kDirectBlock;
  const Transfer transfer = {.descriptor = descriptor_,
                             .offset = offset,
                             .bytes = 2 * 1024 * 1024,
                             .wanted = content_.size() - offset + 1,
                             .to = buffer.memory.get(),
                             .tag = 3};
  queue_->submit(std::span(&transfer, 1));
  const std::vector<Arrival> arrivals = collect_all(1);
  EXPECT_EQ(arrivals.at(0).tag, 3U);
  EXPECT_EQ(arrivals.at(0).error, ENODATA);
}

TEST_P(TransferQueueTest, AFailedReadIsToldAndTheOthersArrive) {
  const Buffer good(kDirectBlock);
  const Buffer bad(4 * 1024 * 1024);
  const std::vector<Transfer> transfers = {
      {.descriptor = -1, .bytes = 4 * 1024 * 1024, .wanted = 1, .to = bad.memory.get(), .tag = 1},
      {.descriptor = descriptor_, .bytes = kDirectBlock, .wanted = 1, .to = good.memory.get(), .tag = 2}};
  queue_->submit(transfers);
  for (const Arrival& arrival : collect_all(2)) EXPECT_EQ(arrival.error, arrival.tag == 1 ? EBADF : 0);
}

TEST_P(TransferQueueTest, DestructorWaitsForWhatIsUnderWay) {
  const Buffer buffer(4 * 1024 * 1024);
  const Transfer transfer = {
      .descriptor = descriptor_, .bytes = 4 * 1024 * 1024, .wanted = 4 * 1024 * 1024, .to = buffer.memory.get()};
  queue_->submit(std::span(&transfer, 1));
  queue_.reset();  // the buffer is freed after it: a write that is late would be seen by AddressSanitizer
}

// In a process of its own, to which a filter forbids io_uring as systemd's SystemCallFilter does.
TEST(MakeTransferQueueDeathTest, WhereTheKernelRefusesIoUringThreadsRead) {
  const auto without_uring = [] {
    test::refuse_system_call(__NR_io_uring_setup);
    const auto refused = make_uring_queue();
    if (refused || refused.error().message() != "io_uring cannot be used here: Operation not permitted") std::_Exit(3);
    const auto queue = make_transfer_queue();
    std::_Exit(queue && (*queue)->kind() == "threads" ? 0 : 4);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(without_uring(), testing::ExitedWithCode(0), "");
}

INSTANTIATE_TEST_SUITE_P(Queues, TransferQueueTest, testing::Values(&make_uring_queue, &make_thread_queue),
                         [](const auto& parameter) { return parameter.index == 0 ? "Uring" : "Threads"; });

}  // namespace
}  // namespace sirocco
