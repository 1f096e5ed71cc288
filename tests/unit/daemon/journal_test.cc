#include "daemon/journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>

namespace sirocco::daemon {
namespace {

using testing::ElementsAre;

// What the journal would get.
class Recorder final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::vector<std::vector<std::string>> lines;

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    lines.push_back(
        journal_fields(message.level, {message.payload.data(), message.payload.size()}, event_being_logged()));
  }
  void flush_() override {}
};

class JournalTest : public testing::Test {
 protected:
  JournalTest() {
    auto logger = std::make_shared<spdlog::logger>("", journal);
    logger->set_level(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
  }
  ~JournalTest() override { spdlog::set_default_logger(before_); }

  const std::shared_ptr<Recorder> journal = std::make_shared<Recorder>();

 private:
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(JournalTest, ALineHasThePriorityOfItsLevel) {
  spdlog::debug("d");
  spdlog::info("i {}", 1);
  spdlog::warn("w");
  spdlog::error("e");
  EXPECT_THAT(journal->lines,
              ElementsAre(ElementsAre("MESSAGE=d", "PRIORITY=7"), ElementsAre("MESSAGE=i 1", "PRIORITY=6"),
                          ElementsAre("MESSAGE=w", "PRIORITY=4"), ElementsAre("MESSAGE=e", "PRIORITY=3")));
}

TEST_F(JournalTest, AnEventHasItsIdAndItsFieldsAndTheNextLineHasNot) {
  log_event(spdlog::level::warn, kDegraded, "Degraded: {it}", {{.name = "SIROCCO_STATE", .value = "DEGRADED"}});
  spdlog::info("other");
  EXPECT_THAT(journal->lines,
              ElementsAre(ElementsAre("MESSAGE=Degraded: {it}", "PRIORITY=4",
                                      "MESSAGE_ID=" + std::string(kDegraded.message_id), "SIROCCO_STATE=DEGRADED"),
                          ElementsAre("MESSAGE=other", "PRIORITY=6")));
}

TEST_F(JournalTest, AnEventBelowTheLogsLevelIsNotWritten) {
  spdlog::default_logger()->set_level(spdlog::level::err);
  log_event(spdlog::level::info, kReloaded, "reloaded");
  EXPECT_TRUE(journal->lines.empty());
}

TEST(Journal, IsWhatSystemdHasOpenedForUsAndNothingElse) {
  const int descriptor = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  struct stat found = {};
  ASSERT_EQ(::fstat(descriptor, &found), 0);
  const std::string stream = std::to_string(found.st_dev) + ":" + std::to_string(found.st_ino);
  EXPECT_TRUE(is_journal(descriptor, stream.c_str()));
  EXPECT_FALSE(is_journal(descriptor, nullptr));
  EXPECT_FALSE(is_journal(descriptor, ""));
  EXPECT_FALSE(is_journal(descriptor, "9:9"));  // a shell's redirection of what was the journal
  EXPECT_FALSE(is_journal(-1, stream.c_str()));
  ::close(descriptor);
}

}  // namespace
}  // namespace sirocco::daemon
