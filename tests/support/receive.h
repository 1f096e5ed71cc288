// What a client receives next, for tests: nothing, or another message than the one expected, fails the test.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <utility>
#include <variant>

#include "ipc/client/client.h"

namespace sirocco::test {

// Long enough for a loaded machine: a test that waits this long has failed.
inline constexpr std::chrono::seconds kPatience{20};

inline Client::Received receive(Client& client) {
  auto received = client.receive(kPatience);
  EXPECT_TRUE(received) << received.error().message;
  EXPECT_TRUE(received && *received) << "nothing came";
  return received && *received ? **std::move(received) : Client::Received{};
}

// The next message, which must be of type T and of that request.
template <class T>
T receive(Client& client, std::uint64_t request_id) {
  const Client::Received received = receive(client);
  EXPECT_EQ(received.request_id, request_id);
  const T* message = std::get_if<T>(&received.message);
  EXPECT_NE(message, nullptr) << wire::message_name(wire::message_type(received.message));
  return message == nullptr ? T{} : *message;
}

}  // namespace sirocco::test
