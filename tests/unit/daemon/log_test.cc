#include "daemon/log.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

class LogTest : public testing::Test {
 protected:
  ~LogTest() override { spdlog::set_default_logger(before_); }

  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }

  static std::vector<std::string> lines_of(const std::filesystem::path& file) {
    std::ifstream stream(file);
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

 private:
  test::TemporaryDirectory directory_;
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(LogTest, EveryLineIsWholeAndInOneOfTheFilesHoweverOftenTheyAreOpenedAgain) {
  auto log = Log::open({.file = path("log")});
  ASSERT_TRUE(log) << log.error().message();
  constexpr int kThreads = 4;
  constexpr int kLines = 2000;
  std::atomic<int> writing = kThreads;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&writing, thread] {
      for (int line = 0; line < kLines; ++line) spdlog::info("thread {} line {}", thread, line);
      --writing;
    });
  }
  int rotations = 0;
  for (; writing > 0; ++rotations) {
    std::filesystem::rename(path("log"), path("log." + std::to_string(rotations)));
    log->reopen();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& thread : threads) thread.join();

  int whole = 0;
  const std::regex form(R"(\S+ info: (thread \d line \d+|SIGHUP: log opened again))");
  for (int file = -1; file < rotations; ++file) {
    for (const std::string& line : lines_of(path(file < 0 ? "log" : "log." + std::to_string(file)))) {
      EXPECT_TRUE(std::regex_match(line, form)) << line;
      ++whole;
    }
  }
  EXPECT_EQ(whole, kThreads * kLines + rotations);
}

TEST_F(LogTest, AFileThatCannotBeOpenedAgainStaysInUseAndGetsTheError) {
  std::filesystem::create_directory(path("sub"));
  auto log = Log::open({.file = path("sub/log")});
  ASSERT_TRUE(log) << log.error().message();
  std::filesystem::rename(path("sub"), path("moved"));
  log->reopen();
  spdlog::info("still here");
  const auto lines = lines_of(path("moved/log"));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(lines[0].find("sub/log: No such file or directory"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("still here"), std::string::npos);
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsAnErrorThatNamesIt) {
  const auto log = Log::open({.file = path("nowhere/log")});
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code(), ErrorCode::not_found);
  EXPECT_NE(log.error().message().find("nowhere/log"), std::string::npos);
}

}  // namespace
}  // namespace sirocco::daemon
