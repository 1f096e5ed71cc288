#include "daemon/text_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <thread>

namespace sirocco::daemon {
namespace {

RequestKey key(std::uint64_t connection, std::uint64_t request) {
  return {.connection = connection, .request_id = request, .serial = request};
}

// Its first work waits until go() is called.
class TextThreadTest : public testing::Test {
 protected:
  TextThreadTest() {
    std::promise<void> begun;
    EXPECT_TRUE(thread.post(key(9, 9), {.uid = 9}, 0, [&] {
      begun.set_value();
      gate.get_future().wait();
    }));
    begun.get_future().wait();
  }
  // Until so many works are done.
  void go(int works) {
    gate.set_value();
    while (done < works) std::this_thread::yield();
    thread.stop();
  }
  bool post(uid_t uid, std::uint64_t request, std::size_t most = 64, std::size_t bytes = 1) {
    return thread.post(key(uid, request), {.uid = uid, .most = most}, bytes, [this, uid, request] {
      order += std::to_string(uid) + std::to_string(request) + " ";
      ++done;
    });
  }

  std::promise<void> gate;
  std::string order;
  std::atomic<int> done = 0;
  TextThread thread{[] {}};
};

TEST_F(TextThreadTest, UsersTakeTurns) {
  for (std::uint64_t i = 1; i <= 3; ++i) EXPECT_TRUE(post(5, i));
  EXPECT_TRUE(post(7, 1));
  EXPECT_TRUE(post(7, 2));
  EXPECT_TRUE(post(12, 1));
  go(6);
  EXPECT_EQ(order, "121 51 71 52 72 53 ");  // after user 9 comes 12
}

TEST_F(TextThreadTest, WhatOneUserMayHaveWaitingDoesNotDependOnOthers) {
  EXPECT_TRUE(post(5, 1, 2));
  EXPECT_TRUE(post(5, 2, 2));
  EXPECT_FALSE(post(5, 3, 2));
  EXPECT_TRUE(post(7, 1, 1));
  EXPECT_FALSE(post(7, 2, 1));
  thread.set_max_waiting(3);
  EXPECT_FALSE(post(8, 1));  // of all
  thread.drop(key(5, 1));
  EXPECT_TRUE(post(5, 4, 2));
  go(3);
  EXPECT_EQ(order, "52 71 54 ");
}

TEST_F(TextThreadTest, BytesAreBoundedAndGivenBack) {
  EXPECT_TRUE(post(5, 1, 64, TextThread::kMaxBytes - 1));
  EXPECT_FALSE(post(7, 1, 64, 2));
  EXPECT_TRUE(post(7, 2, 64, 1));
  thread.drop(ConnectionId{5});
  EXPECT_TRUE(post(8, 1, 64, TextThread::kMaxBytes - 1));
  go(2);
  EXPECT_EQ(order, "72 81 ");
}

TEST_F(TextThreadTest, HeldItBeginsNothingUntilItIsToGoOn) {
  thread.hold();
  EXPECT_FALSE(thread.held());  // something is under way
  EXPECT_TRUE(post(5, 1));
  gate.set_value();
  while (!thread.held()) {
  }
  EXPECT_EQ(done, 0);
  EXPECT_TRUE(post(6, 1));
  thread.resume();
  while (done < 2) std::this_thread::yield();
  thread.stop();
  EXPECT_EQ(order, "51 61 ");
}

}  // namespace
}  // namespace sirocco::daemon
