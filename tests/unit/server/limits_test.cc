// What one user, and all together, may have of a server.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

using test::receive;
using wire::Done;
using wire::ErrorCode;
using wire::TokenBatch;

using LimitsTest = test::Serving;

TEST_F(LimitsTest, ConnectionsOfOneUserAreLimited) {
  handler.limits = PeerLimits{.connections = 2};
  start();
  const Client first = connect();
  std::optional<Client> second = connect();
  const auto third = Client::connect(path(), {.timeout = test::kPatience});
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().kind, ClientError::Kind::refused);
  EXPECT_EQ(third.error().code, ErrorCode::too_many_connections);
  EXPECT_EQ(third.error().retry_after_ms, 1000U);

  second.reset();
  handler.disconnected(1);
  EXPECT_TRUE(Client::connect(path(), {.timeout = test::kPatience}));
}

TEST_F(LimitsTest, AClientThatIsNotAllowedIsToldWhyAndSentAway) {
  handler.limits = tl::unexpected<std::string>("user 7 may not");
  start();
  const auto refused = Client::connect(path(), {.timeout = test::kPatience});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::permission_denied);
  EXPECT_NE(refused.error().message.find("user 7 may not"), std::string::npos) << refused.error().message;
  EXPECT_EQ(refused.error().retry_after_ms, 0U);
  EXPECT_TRUE(Client::connect(admin_path(), {.timeout = test::kPatience}));  // it is not asked about administrators
}

TEST_F(LimitsTest, RequestsInFlightOfOneUserAreLimitedAcrossConnections) {
  handler.limits = PeerLimits{.in_flight = 3};
  start();
  Client first = connect();
  Client second = connect();
  send(first, 1, prompt("x"));
  send(first, 2, prompt("x"));
  handler.generated(2);
  send(second, 1, prompt("x"));
  const RequestKey key = handler.generated(3)[2].key;
  send(second, 2, wire::Status{});
  const auto error = receive<wire::Error>(second, 2);
  EXPECT_EQ(error.code, ErrorCode::too_many_requests);
  EXPECT_NE(error.message.find("3 requests in flight"), std::string::npos) << error.message;
  EXPECT_GT(error.retry_after_ms, 0U);
  EXPECT_TRUE(
      Client::connect(admin_path(), {.timeout = test::kPatience}).value().status());  // not counted with the others

  server->send(key, Done{});  // an ending makes room
  receive<Done>(second, 1);
  EXPECT_TRUE(second.status());
  {
    const Client gone = std::move(first);  // and so does who leaves
  }
  handler.disconnected(1);
  for (std::uint64_t id = 10; id < 13; ++id) send(second, id, prompt("x"));
  EXPECT_EQ(handler.generated(6).size(), 6U);
}

TEST_F(LimitsTest, FramesAreAsLargeAsTheLimitSays) {
  start({.frame_bytes = 1000});
  Client client = connect();
  handler.ids.assign(300, 7);
  const auto too_long = client.tokenize({.text = "a"});
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(too_long.error().message.find("a frame at most 1000"), std::string::npos) << too_long.error().message;
  handler.ids.assign(200, 7);
  EXPECT_EQ(client.tokenize({.text = "a"}).value().size(), 200U);
  const auto refused = client.tokenize({.text = std::string(2000, 'a')});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::frame_too_large);
}

TEST_F(LimitsTest, TextThatWaitsIsJoinedOnlyAsFarAsAFrameHolds) {
  start({.queued_bytes = 1 << 20, .frame_bytes = 1000});
  Client client = connect();
  handler.answer = {};
  send(client, 1, prompt("x"));
  const RequestKey key = handler.generated(1)[0].key;
  std::string sent;
  for (int i = 0; i < 400; ++i) {
    const std::string piece = std::to_string(i) + " ";
    sent += piece;
    server->send(key, TokenBatch{{1}, piece});
  }
  server->send(key, Done{});
  std::string text;
  for (;;) {
    const auto received = receive(client);
    const auto* batch = std::get_if<TokenBatch>(&received.message);
    if (batch == nullptr) break;
    EXPECT_LE(batch->text.size() + 4 * batch->ids.size(), 1000U);
    text += batch->text;
  }
  EXPECT_EQ(text, sent);
}

TEST_F(LimitsTest, ConnectionsInAllAreLimited) {
  start({.connections = 1});
  const Client first = connect();
  EXPECT_EQ(server->connections(), 1U);
  const auto second = Client::connect(path(), {.timeout = test::kPatience});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message, "the daemon has 1 connections, its limit (TOO_MANY_CONNECTIONS)");
}

TEST_F(LimitsTest, TheDaemonIsChangedOnTheSocketForAdministrationOnly) {
  start();
  Client client = connect();
  const auto refused = client.set_budget(1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::permission_denied);
  EXPECT_EQ(client.drain({}).error().code, ErrorCode::permission_denied);
  EXPECT_EQ(client.reload("/m").error().code, ErrorCode::permission_denied);
  EXPECT_EQ(client.evict().error().code, ErrorCode::permission_denied);
  EXPECT_EQ(client.tokenize({.text = "a"}).value(), handler.ids);  // it goes on
  Client admin = Client::connect(admin_path(), {.timeout = test::kPatience, .answer_timeout = test::kPatience}).value();
  EXPECT_EQ(admin.set_budget(12345).value().bytes, 12345U);
  EXPECT_TRUE(admin.drain({}).value().draining);
  EXPECT_TRUE(admin.reload("/m").value().loaded);
  EXPECT_EQ(admin.evict().value().experts, 3U);
  EXPECT_EQ(admin.tokenize({.text = "a"}).value(), handler.ids);
}

// The child is nobody; it says with its exit status what became of it. Needs root.
TEST_F(LimitsTest, OthersMayNotAdministerUnlessAGroupIsTrusted) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root: cannot become another user";
  for (const bool anybody : {false, true}) {
    start({}, anybody);
    std::filesystem::permissions(directory.path(), std::filesystem::perms::all);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setuid(65534) != 0) ::_exit(9);
      auto client = Client::connect(admin_path());
      if (!client) ::_exit(client.error().code == ErrorCode::permission_denied ? 1 : 2);
      ::_exit(client->set_budget(7) ? 0 : 3);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), anybody ? 0 : 1);
    server->stop();
    server.reset();
  }
}

TEST_F(LimitsTest, AnAdministratorGetsInWhenTheDaemonIsFull) {
  handler.limits = PeerLimits{.connections = 2};
  start({.connections = 2, .admin_connections = 1});
  const Client first = connect();
  const Client second = connect();
  EXPECT_FALSE(Client::connect(path()));
  Client admin = Client::connect(admin_path()).value();
  EXPECT_TRUE(admin.status());
  const auto another = Client::connect(admin_path());
  ASSERT_FALSE(another);
  EXPECT_EQ(another.error().code, ErrorCode::too_many_connections);
}

}  // namespace
}  // namespace sirocco
