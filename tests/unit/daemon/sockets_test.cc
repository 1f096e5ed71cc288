#include "daemon/sockets.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <sstream>
#include <vector>

#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

using Names = std::vector<std::string>;

class SocketsTest : public testing::Test {
 protected:
  SocketsTest() {
    config.socket = path("bound");
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
  }
  ~SocketsTest() override { spdlog::set_default_logger(before_); }

  std::string path(const std::string& name) const { return directory_.path() / name; }

  // As systemd makes it.
  int passed_socket(const std::string& at) const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, at.c_str(), at.size() + 1);
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(descriptor, 8), 0);
    return descriptor;
  }

  ServerConfig config;
  std::ostringstream log;

 private:
  test::TemporaryDirectory directory_;
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST(PassedSockets, AreKnownByTheirNames) {
  const auto both = passed_sockets(Names{"admin", "client"}, 3).value();
  EXPECT_EQ(both.admin, 3);
  EXPECT_EQ(both.client, 4);
  const auto one = passed_sockets(Names{"client"}, 3).value();
  EXPECT_EQ(one.client, 3);
  EXPECT_FALSE(one.admin);
  const auto none = passed_sockets(Names{}, 3).value();
  EXPECT_FALSE(none.client || none.admin);
}

TEST(PassedSockets, OneWithAnotherNameOrTwoWithTheSameAreErrors) {
  EXPECT_EQ(passed_sockets(Names{"client", "sirocco.socket"}, 3).error().message(),
            "systemd has passed a socket named \"sirocco.socket\"; allowed: client, admin (FileDescriptorName= in the "
            "socket unit)");
  EXPECT_EQ(passed_sockets(Names{"client", "client"}, 3).error().message(),
            "systemd has passed two sockets named \"client\"; allowed: one (ListenStream= once in each socket unit)");
}

TEST_F(SocketsTest, WhatIsNotPassedIsMadeAsConfigured) {
  {
    const auto sockets = open_sockets(config, {}).value();
    EXPECT_EQ(sockets.path, path("bound"));
    EXPECT_TRUE(sockets.admin);
    EXPECT_TRUE(std::filesystem::exists(path("bound")));
    EXPECT_TRUE(std::filesystem::exists(path("bound-admin")));
  }
  EXPECT_FALSE(std::filesystem::exists(path("bound")));
  const auto sockets = open_sockets(config, {.client = passed_socket(path("passed")), .admin = {}}).value();
  EXPECT_FALSE(std::filesystem::exists(path("bound")));
  EXPECT_TRUE(std::filesystem::exists(path("bound-admin")));
  config.admin_socket = "";
  EXPECT_FALSE(open_sockets(config, {.client = passed_socket(path("passed2")), .admin = {}}).value().admin);
}

TEST_F(SocketsTest, APassedSocketKeepsItsFileAndIsKnownByItsPath) {
  {
    const auto sockets =
        open_sockets(config, {.client = passed_socket(path("c")), .admin = passed_socket(path("a"))}).value();
    EXPECT_EQ(sockets.path, path("c"));
    ASSERT_TRUE(sockets.admin);
    EXPECT_FALSE(sockets.admin->anybody);
  }
  EXPECT_TRUE(std::filesystem::exists(path("c")));
  EXPECT_TRUE(std::filesystem::exists(path("a")));
  EXPECT_FALSE(std::filesystem::exists(path("bound")));
  EXPECT_EQ(log.str(), "");
}

TEST_F(SocketsTest, ModeAndGroupThatAreConfiguredForAPassedSocketAreSaidToChangeNothing) {
  config.group = "no-such-group";
  config.admin_mode = 0660;
  const auto sockets = open_sockets(config, {.client = passed_socket(path("c")), .admin = passed_socket(path("a"))});
  ASSERT_TRUE(sockets) << sockets.error().message();
  EXPECT_NE(log.str().find("server.mode and server.group change nothing"), std::string::npos) << log.str();
  EXPECT_NE(log.str().find("server.admin_mode changes nothing"), std::string::npos) << log.str();
}

TEST_F(SocketsTest, WhatIsNoListeningUnixStreamSocketIsAnErrorThatSaysSo) {
  const int datagram = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int unlistened = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int internet = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::listen(internet, 1), 0);
  for (const int wrong : {datagram, unlistened, internet}) {
    EXPECT_EQ(open_sockets(config, {.client = wrong, .admin = {}}).error().message(),
              "the socket \"client\" from systemd: descriptor " + std::to_string(wrong) +
                  ": is no listening Unix stream socket: check the socket unit (ListenStream=, Accept=no)");
    ::close(wrong);
  }
}

}  // namespace
}  // namespace sirocco::daemon
