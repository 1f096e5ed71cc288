#include "cli/answer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sirocco {
namespace {

Answer answer() {
  Answer answer;
  answer.text = "Bonjour";
  answer.ids = {1, 22, 333};
  answer.done = {.reason = wire::DoneReason::max_tokens,
                 .stop_string = {},
                 .prompt_tokens = 10,
                 .generated_tokens = 3,
                 .queued_us = 5,
                 .prefill_us = 1'000'000,
                 .decode_us = 1'500'000,
                 .lossy_experts = 0};
  return answer;
}

TEST(AnswerJson, CarriesTextIdsReasonUsageAndTimings) {
  EXPECT_EQ(answer_json(answer()), nlohmann::ordered_json::parse(R"({
    "text": "Bonjour", "ids": [1, 22, 333], "reason": "MAX_TOKENS",
    "usage": {"prompt_tokens": 10, "cached_tokens": 0, "generated_tokens": 3},
    "timings": {"queued_us": 5, "prefill_us": 1000000, "decode_us": 1500000,
                "prefill_tokens_per_s": 10.0, "decode_tokens_per_s": 2.0}})"));
}

TEST(AnswerJson, NamesTheStopStringThatEndedIt) {
  Answer stopped = answer();
  stopped.done.reason = wire::DoneReason::stop_string;
  stopped.done.stop_string = "\n\n";
  EXPECT_EQ(answer_json(stopped).at("stop_string"), "\n\n");
  EXPECT_FALSE(answer_json(answer()).contains("stop_string"));
}

TEST(AnswerJson, SaysHowManyExpertsTheAnswerDidWithout) {
  Answer lossy = answer();
  lossy.done.lossy_experts = 5'000'000'000;
  EXPECT_EQ(answer_json(lossy).at("lossy_experts"), 5'000'000'000);
  EXPECT_FALSE(answer_json(answer()).contains("lossy_experts"));
}

TEST(AnswerSpeed, AnAnswerThatTookNoTimeHasNoSpeed) {
  wire::Done done = answer().done;
  done.decode_us = 0;
  EXPECT_EQ(answer_speed(done), "10 tokens of prompt, 3 of answer; 10.0 and 0.0 tokens/s");
}

}  // namespace
}  // namespace sirocco
