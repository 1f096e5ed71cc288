// The watchdog against a real engine and a real server's I/O thread, with a socket in the place of systemd's.
#include "daemon/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "daemon/service.h"
#include "daemon/supervisor.h"
#include "tests/support/fake_engine.h"
#include "tests/support/receive.h"
#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

constexpr auto kLimit = 10s;  // of a clock that tests set forward

class WatchdogTest : public testing::Test {
 protected:
  WatchdogTest() {
    // What sd_notify writes to.
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = directory.path() / "notify";
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    systemd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(::bind(systemd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    auto socket = ListeningSocket::bind({.path = directory.path() / "socket", .mode = 0600, .group = ""});
    server.emplace(std::move(socket).value(), ServerLimits{}, service);
    service.connect(fake.engine.get(), &*server);
    server->start();
    watchdog.emplace(
        kLimit,
        std::vector<Watchdog::Watched>{
            {.name = "I/O", .pulse = [this] { return server->pulse(); }, .ask = [this] { server->ask_for_pulse(); }},
            {.name = "engine",
             .pulse = [this] { return fake.engine->pulse(); },
             .ask = [this] { fake.engine->ask_for_pulse(); }}},
        [] { notify_systemd("WATCHDOG=1"); }, now);
  }
  ~WatchdogTest() override {
    gate.open();
    server->stop();
    fake.engine->close();
    service.stop();
    ::unsetenv("NOTIFY_SOCKET");
    ::close(systemd);
  }

  // Half of systemd's limit later. Threads that live have had the time to say so.
  void half_a_limit_later() {
    std::this_thread::sleep_for(50ms);
    now += kLimit / 2;
    watchdog->look(now);
  }
  // Within kPatience; a thread that lives needs some of it on a busy machine.
  bool pinged() {
    const auto deadline = std::chrono::steady_clock::now() + test::kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      half_a_limit_later();
      if (told() == "WATCHDOG=1") return true;
    }
    return false;
  }
  std::string told() const {
    char text[256];
    const ssize_t length = ::recv(systemd, text, sizeof(text), 0);
    return {text, static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
  }

  test::TemporaryDirectory directory;
  int systemd = -1;
  test::Gate gate;
  Service service;
  test::FakeEngine fake{{}, service.sink()};
  std::optional<Server> server;
  Watchdog::Time now;
  std::optional<Watchdog> watchdog;
};

TEST_F(WatchdogTest, AnIdleEngineLives) {
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pinged());
}

TEST_F(WatchdogTest, NothingIsSaidBeforeItIsDue) {
  EXPECT_EQ(watchdog->until_due(now), kLimit / 2);
  std::this_thread::sleep_for(50ms);
  watchdog->look(now + kLimit / 2 - 1ms);
  EXPECT_EQ(told(), "");
  EXPECT_EQ(watchdog->until_due(now + kLimit / 2 - 1ms), 1ms);
  EXPECT_EQ(watchdog->until_due(now + kLimit), 0ms);
}

TEST_F(WatchdogTest, AnEngineThatIsStuckInAStepIsNotSaidToLiveUntilItGoesOn) {
  fake.backend->before = [this](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  ASSERT_TRUE(fake.engine->submit({.prompt = std::vector<TokenId>{0}, .sampling = {}, .max_tokens = 2, .stops = {}}));
  gate.wait_for_arrivals(1);
  half_a_limit_later();  // it turned before it was stuck
  told();
  for (int i = 0; i < 5; ++i) {
    half_a_limit_later();
    EXPECT_EQ(told(), "");
  }
  gate.open();
  EXPECT_TRUE(pinged());
}

TEST_F(WatchdogTest, ALongStepThatGoesOnLives) {
  std::atomic<bool> goes_on = true;
  fake.backend->before = [&](const Step& step) -> Result<void> {
    for (; goes_on; std::this_thread::sleep_for(1ms)) step.beat();  // a layer
    return {};
  };
  ASSERT_TRUE(fake.engine->submit({.prompt = std::vector<TokenId>{0}, .sampling = {}, .max_tokens = 2, .stops = {}}));
  half_a_limit_later();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(pinged());
  goes_on = false;
  fake.engine->close();
}

TEST_F(WatchdogTest, AnIoThreadThatIsStuckIsNotSaidToLive) {
  server->stop();  // answers no more
  half_a_limit_later();
  told();
  for (int i = 0; i < 3; ++i) {
    half_a_limit_later();
    EXPECT_EQ(told(), "");
  }
}

TEST(Watchdog, OnlyThisProcessIsAskedBySystemd) {
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_EQ(Watchdog::limit_of_systemd(), 30s);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_FALSE(Watchdog::limit_of_systemd());
  ::unsetenv("WATCHDOG_PID");
  ::unsetenv("WATCHDOG_USEC");
  EXPECT_FALSE(Watchdog::limit_of_systemd());
}

}  // namespace
}  // namespace sirocco::daemon
