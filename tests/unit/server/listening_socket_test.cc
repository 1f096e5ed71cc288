#include "ipc/server/listening_socket.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>

#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

class ListeningSocketTest : public testing::Test {
 protected:
  std::string path() const { return (directory_.path() / "socket").string(); }
  ListenOptions options() const { return {.path = path(), .mode = 0660, .group = ""}; }
  bool answers() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = ::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    ::close(descriptor);
    return connected;
  }
  // A socket of somebody who does not take the lock.
  int listen_without_lock() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(descriptor, 1), 0);
    return descriptor;
  }
  std::string error_of(const ListenOptions& options) const {
    const auto socket = ListeningSocket::bind(options);
    return socket ? "no error" : socket.error();
  }
  std::string served_by_us() const {
    return "another siroccod is serving " + path() + " (pid " + std::to_string(::getpid()) +
           "): stop it, or choose another path with --socket";
  }

 private:
  test::TemporaryDirectory directory_;
};

TEST_F(ListeningSocketTest, SocketHasItsModeAndGroupAndIsRemovedAtTheEnd) {
  {
    ListenOptions chosen = options();
    chosen.group = ::getgrgid(::getgid())->gr_name;
    const auto socket = ListeningSocket::bind(chosen);
    ASSERT_TRUE(socket) << socket.error();
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0660U);
    EXPECT_EQ(status.st_gid, ::getgid());
    EXPECT_TRUE(answers());
  }
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(ListeningSocketTest, SecondDaemonIsRefusedByNameAndTheFirstGoesOn) {
  const auto first = ListeningSocket::bind(options());
  ASSERT_TRUE(first);
  EXPECT_EQ(error_of(options()), served_by_us());
  EXPECT_TRUE(answers());
}

TEST_F(ListeningSocketTest, SocketOfSomebodyWithoutTheLockIsRespected) {
  const int other = listen_without_lock();
  EXPECT_EQ(error_of(options()), served_by_us());
  EXPECT_TRUE(answers());
  ::close(other);
}

TEST_F(ListeningSocketTest, StaleSocketIsReplaced) {
  ::close(listen_without_lock());
  ASSERT_TRUE(std::filesystem::exists(path()));
  const auto socket = ListeningSocket::bind(options());
  ASSERT_TRUE(socket) << socket.error();
  EXPECT_TRUE(answers());
}

TEST_F(ListeningSocketTest, NextDaemonMayServeAfterTheFirstHasGone) {
  ASSERT_TRUE(ListeningSocket::bind(options()));
  EXPECT_TRUE(ListeningSocket::bind(options()));
}

TEST_F(ListeningSocketTest, FileInTheWayIsKeptAndNamed) {
  std::ofstream(path()) << "precious";
  EXPECT_EQ(error_of(options()),
            path() + ": is in the way and no socket: remove it, or choose another path with --socket");
  EXPECT_EQ(std::filesystem::file_size(path()), 8U);
  EXPECT_FALSE(std::filesystem::exists(path() + ".lock"));
}

TEST_F(ListeningSocketTest, MissingDirectoryIsNamed) {
  const std::string inside = path() + "/deeper/socket";
  EXPECT_EQ(
      error_of({.path = inside, .mode = 0660, .group = ""}),
      inside + ": its directory " + path() + "/deeper does not exist: create it, or choose another path with --socket");
}

TEST_F(ListeningSocketTest, PathLongerThanASocketsMayBeIsNamed) {
  const std::string path(108, 'x');
  EXPECT_EQ(error_of({.path = path, .mode = 0660, .group = ""}),
            path + ": a socket's path has at most 107 bytes, this has 108: choose a shorter one");
}

TEST_F(ListeningSocketTest, UnknownGroupIsNamedAndLeavesNothingBehind) {
  EXPECT_EQ(error_of({.path = path(), .mode = 0660, .group = "no-such-group"}),
            path() + ": there is no group \"no-such-group\": create it (groupadd --system no-such-group)");
  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_FALSE(std::filesystem::exists(path() + ".lock"));
}

TEST_F(ListeningSocketTest, DirectoryThatMayNotBeWrittenSaysWhatToDo) {
  if (::geteuid() == 0) {  // for whom nothing is forbidden: this thread looks at files as nobody
    ::chmod(std::filesystem::path(path()).parent_path().c_str(), 0755);
    ::setfsuid(65534);
  } else {
    ::chmod(std::filesystem::path(path()).parent_path().c_str(), 0555);
  }
  const std::string error = error_of(options());
  if (::geteuid() == 0) ::setfsuid(0);
  EXPECT_EQ(error, path() +
                       ".lock: cannot be opened: Permission denied: run as a user who may write there, or choose "
                       "another path with --socket");
}

TEST_F(ListeningSocketTest, DescriptorThatDoesNotListenIsNotAdopted) {
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto socket = ListeningSocket::adopt(descriptor);
  ASSERT_FALSE(socket);
  EXPECT_EQ(socket.error(),
            "descriptor " + std::to_string(descriptor) +
                ": is no listening Unix stream socket: check the socket unit (ListenStream=, Accept=no)");
  ::close(descriptor);
  EXPECT_FALSE(ListeningSocket::adopt(-1));
}

TEST_F(ListeningSocketTest, AdoptedSocketServesAndItsFileStays) {
  test::FakeHandler handler;
  {
    auto socket = ListeningSocket::adopt(listen_without_lock());
    ASSERT_TRUE(socket) << socket.error();
    Server server(*std::move(socket), {}, handler);
    handler.server = &server;
    server.start();
    auto client = Client::connect(path(), {.timeout = test::kPatience});
    ASSERT_TRUE(client) << client.error().message;
    EXPECT_TRUE(client->status());
  }
  EXPECT_TRUE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace sirocco
