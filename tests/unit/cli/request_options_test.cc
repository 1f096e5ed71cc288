#include "cli/request_options.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace sirocco {
namespace {

struct Parsed {
  RequestOptions options;
  std::string socket;
  bool accepted = true;
  std::string message = {};  // if not
};

Parsed parse(const std::string& line) {
  Parsed parsed;
  CLI::App app;
  add_request_options(app, parsed.options);
  add_socket_option(app, parsed.socket);
  try {
    app.parse(line);
  } catch (const CLI::ParseError& error) {
    parsed.accepted = false;
    parsed.message = error.what();
  }
  return parsed;
}

TEST(RequestOptions, EveryFlagReachesTheRequest) {
  const Parsed parsed = parse(
      "--max-tokens 9 --temperature 0.5 --top-k 40 --top-p 0.9 --min-p 0.05 --seed 18446744073709551615 --stop a "
      "--stop b "
      "--repetition-penalty 1.1 --frequency-penalty 0.5 --presence-penalty -0.25 --logit-bias 7=-100 --logit-bias "
      "8=2.5 "
      "--priority realtime --deadline-ms 250 --partial --max-queue-ms 40 --latest-wins-key arm --session robot");
  ASSERT_TRUE(parsed.accepted);
  wire::Generate expected;
  expected.prompt = wire::TextPrompt{.text = "hello"};
  expected.sampling = {.temperature = 0.5F,
                       .top_k = 40,
                       .top_p = 0.9F,
                       .min_p = 0.05F,
                       .repetition_penalty = 1.1F,
                       .frequency_penalty = 0.5F,
                       .presence_penalty = -0.25F,
                       .seed = 18446744073709551615U,
                       .logit_bias = {{7, -100.0F}, {8, 2.5F}}};
  expected.stop = {"a", "b"};
  expected.max_tokens = 9;
  expected.priority = wire::Priority::realtime;
  expected.deadline_ms = 250;
  expected.partial = true;
  expected.max_queue_ms = 40;
  expected.latest_wins_key = "arm";
  expected.session = "robot";
  EXPECT_EQ(make_request(parsed.options, wire::TextPrompt{.text = "hello"}), expected);
}

TEST(RequestOptions, ImpossibleValuesAreWrongUsage) {
  for (const char* line : {"--temperature -1",
                           "--temperature nan",
                           "--temperature 101",
                           "--temperature abc",
                           "--temperature 1e50",
                           "--top-p 1.5",
                           "--top-p 0",
                           "--top-p nan",
                           "--min-p -0.1",
                           "--min-p nan",
                           "--top-k x",
                           "--top-k -1",
                           "--priority urgent",
                           "--max-tokens -1",
                           "--max-tokens 5000000000",
                           "--max-tokens 2000000000",
                           "--seed -1",
                           "--stop ''",
                           "--session 'x y'",
                           "--session ''",
                           "--deadline-ms",
                           "--partial",
                           "--latest-wins-key 'x y'",
                           "--deadline-ms 100000000",
                           "--unknown",
                           "--logit-bias 7",
                           "--logit-bias =2",
                           "--logit-bias 7=",
                           "--logit-bias 7=x",
                           "--logit-bias 7=1x",
                           "--logit-bias 99999999999=1",
                           "--repetition-penalty x",
                           "--repetition-penalty nan"})
    EXPECT_FALSE(parse(line).accepted) << line;
}

TEST(RequestOptions, TheMessageNamesTheFlagAndTheRange) {
  EXPECT_EQ(parse("--temperature 101").message, "--temperature: 101 is not within 0 to 100");
  EXPECT_EQ(parse("--temperature abc").message, "--temperature: \"abc\" is not a number");
  EXPECT_EQ(parse("--top-p 0").message, "--top-p: 0 leaves no token; 1 is off");
  EXPECT_EQ(parse("--max-tokens 2000000000").message, "--max-tokens: 2000000000, at most 1073741824");
  EXPECT_EQ(parse("--priority high").message, "--priority: \"high\" is not one of realtime, interactive, batch");
}

TEST(SocketOption, FlagBeforeEnvironmentBeforeDefault) {
  unsetenv("SIROCCO_SOCKET");
  EXPECT_EQ(parse("").socket, "/run/sirocco/sirocco.sock");
  setenv("SIROCCO_SOCKET", "/tmp/from-environment.sock", 1);
  EXPECT_EQ(parse("").socket, "/tmp/from-environment.sock");
  EXPECT_EQ(parse("--socket /tmp/from-flag.sock").socket, "/tmp/from-flag.sock");
  EXPECT_FALSE(parse("--socket ''").accepted);
  unsetenv("SIROCCO_SOCKET");
}

}  // namespace
}  // namespace sirocco
