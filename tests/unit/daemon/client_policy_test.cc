#include "daemon/client_policy.h"

#include <gtest/gtest.h>

#include "daemon/token_quota.h"

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

ClientRule rule(std::string name, std::string user, std::string group, std::uint32_t weight) {
  return {.name = std::move(name), .user = std::move(user), .group = std::move(group), .policy = {.weight = weight}};
}

TEST(ClientPolicies, TheFirstRuleThatFitsCounts) {
  const auto policies = ClientPolicies::resolve({.others = {.weight = 9},
                                                 .rules = {rule("both", "1000", "50", 1), rule("user", "1000", "", 2),
                                                           rule("group", "", "50", 3), rule("late", "7", "", 4)}})
                            .value();
  const auto weight = [&](const Peer& peer) { return policies.find(peer).policy.weight; };
  EXPECT_EQ(weight({.uid = 1000, .gid = 50}), 1U);
  EXPECT_EQ(weight({.uid = 1000, .gid = 1, .groups = {4, 50}}), 1U);
  EXPECT_EQ(weight({.uid = 1000, .gid = 1, .groups = {4}}), 2U);
  EXPECT_EQ(weight({.uid = 7, .gid = 1, .groups = {50}}), 3U);
  EXPECT_EQ(weight({.uid = 7, .gid = 1}), 4U);
  EXPECT_EQ(weight({.uid = 8, .gid = 1}), 9U);
  EXPECT_EQ(policies.find({.uid = 8}).where, "clients.default");
  EXPECT_EQ(policies.find({.uid = 7}).where, "clients.rules.late");
}

TEST(ClientPolicies, NamesBecomeNumbersAndWhatDoesNotExistIsAnError) {
  const auto root = ClientPolicies::resolve({.others = {}, .rules = {rule("r", "root", "root", 5)}}).value();
  EXPECT_EQ(root.find({.uid = 0, .gid = 0}).policy.weight, 5U);
  const auto user = ClientPolicies::resolve({.others = {}, .rules = {rule("r", "no-such-user", "", 1)}});
  ASSERT_FALSE(user);
  EXPECT_NE(user.error().message().find("clients.rules.r.user: there is no user \"no-such-user\""), std::string::npos);
  const auto group = ClientPolicies::resolve({.others = {}, .rules = {rule("r", "", "no-such-group", 1)}});
  ASSERT_FALSE(group);
  EXPECT_NE(group.error().message().find("there is no group \"no-such-group\""), std::string::npos);
}

TEST(ClientPolicies, ClassesAreToldByName) {
  const ClientPolicy policy = {.realtime = false};
  EXPECT_FALSE(policy.allows(wire::Priority::realtime));
  EXPECT_TRUE(policy.allows(wire::Priority::interactive));
  EXPECT_TRUE(policy.allows(wire::Priority::batch));
  EXPECT_EQ(policy.classes(), "interactive, batch");
}

TEST(TokenQuota, ABucketMayBeOverdrawnAndFillsByTheSecond) {
  TokenQuota quota;
  const TokenQuota::Time start{};
  EXPECT_EQ(quota.wait_ms(1, 600, start), 0U);
  quota.take(1, 600, 599, start);
  EXPECT_EQ(quota.wait_ms(1, 600, start), 0U);
  quota.take(1, 600, 21, start);                   // 20 too many, at ten a second
  EXPECT_EQ(quota.wait_ms(1, 600, start), 2100U);  // until there is one
  EXPECT_EQ(quota.wait_ms(2, 600, start), 0U);     // another user's is his own
  EXPECT_EQ(quota.wait_ms(1, 600, start + 2s), 100U);
  EXPECT_EQ(quota.wait_ms(1, 600, start + 2100ms), 0U);
  quota.take(1, 600, 601, start + 1h);  // it holds no more than a minute's worth
  EXPECT_EQ(quota.wait_ms(1, 600, start + 1h), 200U);
}

}  // namespace
}  // namespace sirocco::daemon
