// Sessions against the whole conversation sent as one prompt, in an engine whose answers follow from every token that
// the blocks hold.
#include "engine/sessions.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/fake_chat.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

using test::Events;
using test::FakeEngine;
using test::message;

constexpr std::uint32_t kUid = 1000;

void talkative(EngineParts& parts) {
  static_cast<test::FakeBackend&>(*parts.backend).remembers = true;
  parts.chat = std::make_shared<test::FakeChat>();
  parts.context = 200;
}

class SessionsTest : public testing::Test {
 protected:
  void start(const std::function<void(EngineParts&)>& change = {}) {
    fake.emplace([&](EngineParts& parts) {
      talkative(parts);
      if (change) change(parts);
    });
  }
  Sessions& sessions() { return fake->engine->sessions(); }

  static GenerateRequest ask(Prompt prompt, const std::string& session = {}, std::uint32_t max_tokens = 5) {
    GenerateRequest request;
    request.prompt = std::move(prompt);
    request.session = session;
    request.max_tokens = max_tokens;
    request.uid = kUid;
    return request;
  }
  static Conversation said(std::vector<ChatMessage> messages) { return {.messages = std::move(messages), .tools = {}}; }
  static Conversation user(std::string text) { return said({message(Role::user, std::move(text))}); }
  Events::Answer answer(const GenerateRequest& request) {
    const auto submitted = fake->engine->submit(request);
    EXPECT_TRUE(submitted) << submitted.error().message();
    return submitted ? fake->events.wait(submitted->id) : Events::Answer();
  }
  ErrorCode refusal(const GenerateRequest& request) {
    const auto submitted = fake->engine->submit(request);
    EXPECT_FALSE(submitted);
    return submitted ? ErrorCode::internal : submitted.error().code();
  }
  // As an engine without a cache answers it.
  static std::string alone(const Prompt& prompt, std::uint32_t max_tokens = 5) {
    FakeEngine other([](EngineParts& parts) {
      talkative(parts);
      parts.cache_share = CacheShare::off;
    });
    return other.events.wait(other.engine->submit(ask(prompt, {}, max_tokens)).value().id).text;
  }

  std::optional<FakeEngine> fake;
};

TEST_F(SessionsTest, EachTurnIsAnsweredAsTheWholeConversationAndOnlyWhatIsNewIsComputed) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  Conversation whole = said({message(Role::system, "brief"), message(Role::user, "questionone")});
  Conversation next = whole;
  for (const char* const question : {"questiontwo", "questionthree", "x"}) {
    const auto turn = answer(ask(next, "s"));
    EXPECT_EQ(turn.text, alone(whole));
    EXPECT_EQ(turn.done->prompt_tokens - turn.done->cached_tokens,
              whole.messages.size() == 2 ? turn.done->prompt_tokens : next.messages[0].content.size() + 5);
    whole.messages.push_back(message(Role::assistant, turn.text));
    whole.messages.push_back(message(Role::user, question));
    next = user(question);
  }
  EXPECT_EQ(sessions().list(kUid).at(0).turns, 3U);
}

TEST_F(SessionsTest, APlainTextGoesOnFromItsTokens) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  const auto first = answer(ask(TextPrompt{.text = "onceupon"}, "s"));
  const auto second = answer(ask(TextPrompt{.text = "atime"}, "s"));
  EXPECT_EQ(second.text, alone(TextPrompt{.text = "onceupon" + first.text + "atime"}));
  EXPECT_EQ(second.done->prompt_tokens - second.done->cached_tokens, 1U + 5U);  // the last of the answer was never read
  EXPECT_EQ(refusal(ask(user("chat"), "s")), ErrorCode::invalid_argument);
  EXPECT_EQ(sessions().rewind(kUid, "s", 1)->turns, 1U);
  EXPECT_EQ(answer(ask(TextPrompt{.text = "b"}, "s")).text, alone(TextPrompt{.text = "onceupon" + first.text + "b"}));
}

TEST_F(SessionsTest, AForkBeginsWithAllThatWasSaidAndBothGoOnAlone) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  const std::string first = answer(ask(user("one"), "s")).text;
  ASSERT_TRUE(sessions().fork(kUid, "s", "t"));
  for (const std::string name : {"s", "t"}) {
    const auto turn = answer(ask(user("two" + name), name));
    EXPECT_EQ(
        turn.text,
        alone(said({message(Role::user, "one"), message(Role::assistant, first), message(Role::user, "two" + name)})));
    EXPECT_GE(turn.done->cached_tokens, 9U);
  }
  EXPECT_EQ(sessions().fork(kUid, "s", "t").error().code(), ErrorCode::invalid_argument);
}

TEST_F(SessionsTest, WhatIsRewoundWasNeverSaid) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  const std::string first = answer(ask(said({message(Role::system, "sys"), message(Role::user, "one")}), "s")).text;
  answer(ask(user("two"), "s"));
  answer(ask(user("three"), "s"));
  EXPECT_EQ(sessions().rewind(kUid, "s", 2)->turns, 1U);
  EXPECT_EQ(sessions().rewind(kUid, "s", 2).error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(answer(ask(user("four"), "s")).text,
            alone(said({message(Role::system, "sys"), message(Role::user, "one"), message(Role::assistant, first),
                        message(Role::user, "four")})));
}

TEST_F(SessionsTest, ATextLongerThanTheContextFailsOrForgetsItsOldestTurns) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "fails", SessionOverflow::fail));
  ASSERT_TRUE(sessions().open(kUid, "drops", SessionOverflow::drop_oldest));
  Conversation whole = said({message(Role::system, "sys")});
  std::uint32_t dropped = 0;
  std::uint32_t failed = 0;
  for (int i = 0; i < 12; ++i) {
    Conversation next = user(std::string(30, static_cast<char>('d' + i)));
    if (i == 0) next.messages.insert(next.messages.begin(), message(Role::system, "sys"));
    whole.messages.push_back(next.messages.back());
    const auto turn = answer(ask(next, "drops"));
    ASSERT_TRUE(turn.done);
    dropped += turn.done->dropped_turns;
    for (std::uint32_t turns = turn.done->dropped_turns; turns > 0; --turns)
      whole.messages.erase(whole.messages.begin() + 1, whole.messages.begin() + 3);
    EXPECT_EQ(turn.text, alone(whole));
    whole.messages.push_back(message(Role::assistant, turn.text));
    if (const auto submitted = fake->engine->submit(ask(next, "fails"))) {
      EXPECT_EQ(fake->events.wait(submitted->id).done->dropped_turns, 0U);
    } else {
      EXPECT_EQ(submitted.error().code(), ErrorCode::context_overflow);
      ++failed;
    }
  }
  EXPECT_GE(dropped, 6U);
  EXPECT_GE(failed, 6U);
}

TEST_F(SessionsTest, ASessionIsItsUsersAloneAndHasOneRequestAtATime) {
  test::Gate gate;
  start([](EngineParts& parts) { parts.sessions.max_per_uid = 2; });
  fake->backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  EXPECT_EQ(refusal(ask(user("one"), "s")), ErrorCode::not_found);
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  GenerateRequest of_another = ask(user("one"), "s");
  of_another.uid = kUid + 1;
  EXPECT_EQ(refusal(of_another), ErrorCode::not_found);
  const RequestId id = fake->engine->submit(ask(user("one"), "s")).value().id;
  EXPECT_EQ(refusal(ask(user("two"), "s")), ErrorCode::busy);
  EXPECT_EQ(sessions().rewind(kUid, "s", 0).error().code(), ErrorCode::busy);
  EXPECT_EQ(sessions().close(kUid, "s", false).error().code(), ErrorCode::busy);
  EXPECT_TRUE(sessions().list(kUid).at(0).busy);
  gate.open();
  fake->events.wait(id);
  EXPECT_TRUE(sessions().open(kUid, "s", SessionOverflow::drop_oldest));  // the one that is there
  EXPECT_TRUE(sessions().open(kUid, "t", SessionOverflow::fail));
  EXPECT_EQ(sessions().open(kUid, "u", SessionOverflow::fail).error().code(), ErrorCode::busy);
  EXPECT_TRUE(sessions().open(kUid + 1, "u", SessionOverflow::fail));
  EXPECT_EQ(sessions().list(kUid).size(), 2U);
  EXPECT_EQ(sessions().list({}).size(), 3U);
  EXPECT_TRUE(sessions().close(kUid, "s", false));
  EXPECT_EQ(sessions().close(kUid, "s", false).error().code(), ErrorCode::not_found);
}

TEST_F(SessionsTest, ATurnThatFailsOrHasNoAnswerLeavesTheSessionAsItWas) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  const std::string first = answer(ask(user("one"), "s")).text;
  bool fails = true;
  fake->backend->before = [&](const Step&) -> Result<void> {
    if (std::exchange(fails, false)) return fail(ErrorCode::io, "the disk is gone");
    return {};
  };
  EXPECT_TRUE(answer(ask(user("two"), "s")).error);
  EXPECT_EQ(refusal(ask(user(std::string(300, 'a')), "s")), ErrorCode::context_overflow);
  EXPECT_EQ(answer(ask(user("three"), "s")).text,
            alone(said({message(Role::user, "one"), message(Role::assistant, first), message(Role::user, "three")})));
}

TEST_F(SessionsTest, WhatIsAppendedIsComputedAndFoundByRequestsOfTheUserWithoutTheSession) {
  start();
  ASSERT_TRUE(sessions().open(kUid, "tools", SessionOverflow::fail));
  GenerateRequest append = ask(said({message(Role::system, "alonginstruction")}), "tools");
  append.prefill_only = true;
  const auto appended = answer(append);
  EXPECT_EQ(appended.done->generated_tokens, 0U);
  EXPECT_TRUE(appended.ids.empty());
  const Conversation whole = said({message(Role::system, "alonginstruction"), message(Role::user, "hm")});
  const auto without = answer(ask(whole));
  EXPECT_EQ(without.done->cached_tokens, appended.done->prompt_tokens);
  EXPECT_EQ(answer(ask(user("hm"), "tools")).text, alone(whole));
  EXPECT_EQ(without.text, alone(whole));
}

TEST_F(SessionsTest, WhereRequestsDoNotShareASessionStillFindsItsOwn) {
  start([](EngineParts& parts) { parts.cache_share = CacheShare::off; });
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  const std::string first = answer(ask(user("one"), "s")).text;
  EXPECT_EQ(answer(ask(user("one"))).done->cached_tokens, 0U);
  ASSERT_TRUE(sessions().fork(kUid, "s", "t"));
  EXPECT_GE(answer(ask(user("two"), "t")).done->cached_tokens, 9U);
}

// --- on disk

class SavedSessionsTest : public SessionsTest {
 protected:
  // A daemon that finds what the one before has saved.
  void restart(const std::function<void(EngineParts&)>& change = {}) {
    if (fake) {
      fake->engine->close();
      EXPECT_TRUE(sessions().save_all(true).empty());
    }
    start([&](EngineParts& parts) {
      parts.session_store =
          std::make_unique<SessionStore>(SessionStore::open({.folder = directory.path(),
                                                             .bytes_per_uid = 1 * MiB,
                                                             .model = "fake",
                                                             .kv_layout = "fake",
                                                             .block_tokens = parts.kv_block_tokens,
                                                             .block_bytes = parts.backend->block_bytes()})
                                             .value());
      if (change) change(parts);
    });
  }
  test::TemporaryDirectory directory;
};

TEST_F(SavedSessionsTest, AConversationGoesOnAfterARestartAndOnlyWhatIsNewIsComputed) {
  restart();
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  const std::string first = answer(ask(user("questionone"), "s")).text;
  restart();
  EXPECT_EQ(sessions().list(kUid).at(0).turns, 0U);  // it has not been read
  const auto second = answer(ask(user("two"), "s"));
  EXPECT_EQ(
      second.text,
      alone(said({message(Role::user, "questionone"), message(Role::assistant, first), message(Role::user, "two")})));
  EXPECT_EQ(second.done->prompt_tokens - second.done->cached_tokens, 3U + 5U);
  EXPECT_EQ(fake->backend->rows(), 3U + 5U + 4U);
  EXPECT_EQ(sessions().list(kUid).at(0).turns, 2U);
}

TEST_F(SavedSessionsTest, ASessionThatIsClosedIsGoneOrOnDiskAsAsked) {
  restart();
  for (const std::string name : {"kept", "gone"}) {
    ASSERT_TRUE(sessions().open(kUid, name, SessionOverflow::fail));
    answer(ask(user("one"), name));
  }
  ASSERT_TRUE(sessions().close(kUid, "kept", true));
  ASSERT_TRUE(sessions().close(kUid, "gone", false));
  EXPECT_EQ(fake->engine->status().sessions, 0U);
  EXPECT_EQ(sessions().list(kUid).size(), 1U);
  restart();
  EXPECT_EQ(refusal(ask(user("two"), "gone")), ErrorCode::not_found);
  EXPECT_EQ(sessions().rewind(kUid, "kept", 0)->turns, 1U);
  ASSERT_TRUE(sessions().close(kUid, "kept", false));
  restart();
  EXPECT_TRUE(sessions().list({}).empty());
}

TEST_F(SavedSessionsTest, WhatDoesNotFitTheCacheIsComputedAgain) {
  restart();
  for (const std::string name : {"s", "t", "u"}) {
    ASSERT_TRUE(sessions().open(kUid, name, SessionOverflow::fail));
    answer(ask(user(name + std::string(100, 'e')), name));
  }
  restart([](EngineParts& parts) {
    parts.kv_blocks = 50;  // fewer than two of them have
    parts.context = 200;
  });
  for (const std::string name : {"s", "t", "u"}) {
    const auto turn = answer(ask(user("two"), name));
    std::string first = alone(user(name + std::string(100, 'e')));
    EXPECT_EQ(turn.text, alone(said({message(Role::user, name + std::string(100, 'e')), message(Role::assistant, first),
                                     message(Role::user, "two")})));
  }
}

TEST_F(SavedSessionsTest, ADamagedFileLosesOnlyItsSession) {
  restart();
  for (const std::string name : {"s", "t"}) {
    ASSERT_TRUE(sessions().open(kUid, name, SessionOverflow::fail));
    answer(ask(user("one"), name));
  }
  fake->engine->close();
  ASSERT_TRUE(sessions().save_all(true).empty());
  std::filesystem::resize_file(directory.path() / "1000-s.session", 30);
  restart();
  EXPECT_EQ(refusal(ask(user("two"), "s")), ErrorCode::corrupt);
  EXPECT_EQ(sessions().open(kUid, "s", SessionOverflow::fail).error().code(), ErrorCode::corrupt);
  EXPECT_EQ(answer(ask(user("two"), "t")).done->generated_tokens, 5U);
  ASSERT_TRUE(sessions().close(kUid, "s", false));
  EXPECT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
}

TEST_F(SavedSessionsTest, SessionsGoToDiskAndComeBackWhileOthersAreAnswered) {
  restart([](EngineParts& parts) { parts.kv_blocks = 110; });
  std::vector<ChatMessage> messages;
  ASSERT_TRUE(sessions().open(kUid, "s", SessionOverflow::fail));
  for (int i = 0; i < 8; ++i) {
    GenerateRequest request = ask(TextPrompt{.text = std::string(30, static_cast<char>('d' + i))}, {}, 100);
    const RequestId other = fake->engine->submit(request).value().id;
    messages.push_back(message(Role::user, "q" + std::string(static_cast<std::size_t>(i), 'r')));
    const auto turn = answer(ask(user(messages.back().content), "s"));
    ASSERT_EQ(turn.text, alone(said(messages)));
    messages.push_back(message(Role::assistant, turn.text));
    ASSERT_TRUE(sessions().close(kUid, "s", true));
    EXPECT_EQ(fake->events.wait(other).text, alone(request.prompt, 100));
  }
}

// More than the blocks hold: what has left the cache is computed again.
TEST_F(SessionsTest, RandomSessionsAreAnsweredAsWholeConversations) {
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    std::mt19937 random(seed);
    start([](EngineParts& parts) { parts.kv_blocks = 60; });
    std::map<std::string, std::vector<ChatMessage>> expected;
    for (const std::string name : {"a", "b", "c"}) {
      ASSERT_TRUE(sessions().open(kUid, name, SessionOverflow::fail));
      expected[name];
    }
    for (int i = 0; i < 30; ++i) {
      auto at = expected.begin();
      std::advance(at, static_cast<int>(random() % expected.size()));
      auto& [name, messages] = *at;
      if (random() % 8 == 0) {
        const std::string other = name + "f";
        if (expected.contains(other)) continue;
        ASSERT_TRUE(sessions().fork(kUid, name, other));
        expected[other] = messages;
      } else if (random() % 6 == 0 && messages.size() >= 2) {
        ASSERT_TRUE(sessions().rewind(kUid, name, 1));
        messages.resize(messages.size() - 2);
      } else if (messages.size() < 10) {
        messages.push_back(message(Role::user, std::string(1 + random() % 20, static_cast<char>('d' + random() % 20))));
        const auto turn = answer(ask(user(messages.back().content), name));
        ASSERT_EQ(turn.text, alone(said(messages))) << "seed " << seed;
        messages.push_back(message(Role::assistant, turn.text));
      }
    }
  }
}

}  // namespace
}  // namespace sirocco
