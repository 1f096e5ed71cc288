// A server over a real Unix socket in a directory of its own, with a handler that the test scripts and questions.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ipc/client/client.h"
#include "ipc/server/server.h"
#include "tests/support/receive.h"
#include "tests/support/temporary_directory.h"

namespace sirocco::test {

using namespace std::chrono_literals;

// Answers as the test says, and keeps what it was asked. Its functions run on the I/O thread.
class FakeHandler : public Handler {
 public:
  struct Generated {
    RequestKey key;
    Peer peer;
    wire::Generate generate;
  };

  // What to do with a Generate; set before the server starts. Nothing: the request stays in flight.
  std::function<void(RequestKey, const wire::Generate&)> answer;
  // What to answer to Tokenize.
  std::vector<std::int32_t> ids{1, 2, 3};
  Server* server = nullptr;
  // What a client may have, and whether it may connect at all.
  tl::expected<PeerLimits, std::string> limits = PeerLimits{};

  tl::expected<PeerLimits, std::string> on_connect(const Peer&) override { return limits; }
  wire::Welcome on_hello(const Peer&, const wire::Hello&) override {
    return {.daemon_version = "test", .state = wire::State::ready};
  }
  void on_generate(RequestKey key, const Peer& peer, wire::Generate generate) override {
    note([&] { generated_.push_back({key, peer, generate}); });
    if (answer) answer(key, generate);
  }
  void on_tokenize(RequestKey key, const Peer&, wire::Tokenize) override {
    server->send(key, wire::Tokenized{ids});
    note([&] { tokenized_.push_back(key); });
  }
  void on_detokenize(RequestKey key, const Peer&, wire::Detokenize) override {
    server->send(key, wire::Detokenized{"text"});
  }
  void on_status(RequestKey key, const Peer&) override {
    server->send(key, wire::StatusReport{.daemon_version = "test", .state = wire::State::ready, .connections = 1});
  }
  void on_session(RequestKey key, const Peer&, wire::Session session) override {
    server->send(key, wire::SessionReport{{{.name = session.name}}});
  }
  void on_set_budget(RequestKey key, const Peer&, wire::SetBudget budget) override {
    server->send(key, wire::BudgetReport{.bytes = budget.bytes});
  }
  void on_drain(RequestKey key, const Peer&, wire::Drain drain) override {
    server->send(key, wire::DrainReport{.draining = !drain.undo});
  }
  void on_reload(RequestKey key, const Peer&, wire::Reload) override {
    server->send(key, wire::ReloadReport{.loaded = true});
  }
  void on_evict(RequestKey key, const Peer&) override { server->send(key, wire::EvictReport{.experts = 3}); }
  void on_cancel(RequestKey key) override {
    note([&] { cancelled_.push_back(key); });
  }
  void on_ended(RequestKey key, wire::ErrorCode code) override {
    note([&] { ended_.emplace_back(key, code); });
  }
  void on_disconnect(ConnectionId connection) override {
    note([&] { disconnected_.push_back(connection); });
  }

  // The first `count` of each, once there are so many.
  std::vector<Generated> generated(std::size_t count) { return wait_for(generated_, count); }
  std::vector<RequestKey> tokenized(std::size_t count) { return wait_for(tokenized_, count); }
  std::vector<RequestKey> cancelled(std::size_t count) { return wait_for(cancelled_, count); }
  std::vector<std::pair<RequestKey, wire::ErrorCode>> ended(std::size_t count) { return wait_for(ended_, count); }
  std::vector<ConnectionId> disconnected(std::size_t count) { return wait_for(disconnected_, count); }
  std::size_t cancelled_now() {
    const std::lock_guard lock(mutex_);
    return cancelled_.size();
  }

 private:
  template <class Change>
  void note(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  template <class T>
  std::vector<T> wait_for(const std::vector<T>& list, std::size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return list.size() >= count; }));
    return list;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Generated> generated_;
  std::vector<RequestKey> tokenized_;
  std::vector<RequestKey> cancelled_;
  std::vector<std::pair<RequestKey, wire::ErrorCode>> ended_;
  std::vector<ConnectionId> disconnected_;
};

class Serving : public testing::Test {
 protected:
  void start(const ServerLimits& limits = {}, bool any_admin = false) {
    auto socket = ListeningSocket::bind({.path = path(), .mode = 0600, .group = ""});
    ASSERT_TRUE(socket) << socket.error();
    auto admin = ListeningSocket::bind({.path = admin_path(), .mode = 0666, .group = ""});
    ASSERT_TRUE(admin) << admin.error();
    server.emplace(*std::move(socket), limits, handler, AdminSocket{.socket = *std::move(admin), .anybody = any_admin});
    handler.server = &*server;
    server->start();
  }

  std::string path() const { return (directory.path() / "socket").string(); }
  std::string admin_path() const { return path() + "-admin"; }

  Client connect() {
    auto client = Client::connect(path(), {.timeout = kPatience, .answer_timeout = kPatience});
    EXPECT_TRUE(client) << client.error().message;
    return *std::move(client);
  }

  static void expect_closed(Client& client) {
    const auto received = client.receive(kPatience);
    ASSERT_FALSE(received);
    EXPECT_EQ(received.error().kind, ClientError::Kind::disconnected);
  }

  static wire::Generate prompt(std::string text) { return {.prompt = wire::TextPrompt{std::move(text)}}; }

  static void send(Client& client, std::uint64_t id, const wire::Message& message) {
    const auto sent = client.send(id, message);
    EXPECT_TRUE(sent) << sent.error().message;
  }

  TemporaryDirectory directory;
  FakeHandler handler;
  std::optional<Server> server;  // before the handler's end
};

}  // namespace sirocco::test
