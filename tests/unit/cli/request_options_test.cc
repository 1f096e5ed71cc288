#include "cli/request_options.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace sirocco {
namespace {

struct Parsed {
  RequestOptions options;
  std::string socket;
  bool accepted = true;
};

Parsed parse(const std::string& line) {
  Parsed parsed;
  CLI::App app;
  add_request_options(app, parsed.options);
  add_socket_option(app, parsed.socket);
  try {
    app.parse(line);
  } catch (const CLI::ParseError&) {
    parsed.accepted = false;
  }
  return parsed;
}

TEST(RequestOptions, EveryFlagReachesTheRequest) {
  const Parsed parsed = parse(
      "--max-tokens 9 --temperature 0.5 --top-k 40 --top-p 0.9 --min-p 0.05 --seed 18446744073709551615 --stop a "
      "--stop b "
      "--repetition-penalty 1.1 --frequency-penalty 0.5 --presence-penalty -0.25 --logit-bias 7=-100 --logit-bias "
      "8=2.5 "
      "--priority interactive --deadline-ms 250 --session robot");
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
  expected.priority = wire::Priority::interactive;
  expected.deadline_ms = 250;
  expected.session = "robot";
  EXPECT_EQ(make_request(parsed.options, wire::TextPrompt{.text = "hello"}), expected);
}

TEST(RequestOptions, ImpossibleValuesAreWrongUsage) {
  for (const char* line : {"--temperature -1", "--top-p 1.5", "--min-p -0.1", "--top-k x", "--priority urgent",
                           "--max-tokens -1", "--max-tokens 5000000000", "--deadline-ms", "--unknown", "--logit-bias 7",
                           "--logit-bias =2", "--logit-bias 7=", "--logit-bias 7=x", "--logit-bias 7=1x",
                           "--logit-bias 99999999999=1", "--repetition-penalty x"})
    EXPECT_FALSE(parse(line).accepted) << line;
}

TEST(SocketOption, FlagBeforeEnvironmentBeforeDefault) {
  unsetenv("SIROCCO_SOCKET");
  EXPECT_EQ(parse("").socket, "/run/sirocco/sirocco.sock");
  setenv("SIROCCO_SOCKET", "/tmp/from-environment.sock", 1);
  EXPECT_EQ(parse("").socket, "/tmp/from-environment.sock");
  EXPECT_EQ(parse("--socket /tmp/from-flag.sock").socket, "/tmp/from-flag.sock");
  unsetenv("SIROCCO_SOCKET");
}

}  // namespace
}  // namespace sirocco
