// `sirocco model inspect` says what is in a file, and what the engine will say to it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/changed_model.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

nlohmann::json inspect(const std::filesystem::path& path) {
  const auto ran = test::run_sirocco({"model", "inspect", "--json", path});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
  return nlohmann::json::parse(ran.out);
}

std::filesystem::path golden(const std::string& name) {
  return test::golden_dir() / name;
}

class ChangedModel : public testing::Test {
 protected:
  nlohmann::json inspect_with(const std::string& key, GgufValue value) {
    const auto set = [&](GgufMetadata& metadata) { metadata.set(key, std::move(value)); };
    test::change_model("tiny-mixtral.gguf", path_, {.metadata = set});
    return inspect(path_);
  }
  std::string text() { return test::run_sirocco({"model", "inspect", path_}).out; }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "m.gguf";
};

TEST(ModelInspect, TellsSizesExpertsAndTypes) {
  const nlohmann::json json = inspect(golden("model/tiny-mixtral.gguf"));
  EXPECT_EQ(json["architecture"], "llama");
  EXPECT_EQ(json["name"], "tiny mixtral, random weights");
  EXPECT_EQ(json["block_count"], 3);
  EXPECT_EQ(json["expert_count"], 8);
  EXPECT_EQ(json["expert_used_count"], 2);
  EXPECT_EQ(json["context_length"], 256);
  EXPECT_EQ(json["sliding_window"], nullptr);
  EXPECT_EQ(json["rope"]["freq_base"], 1e6);
  EXPECT_EQ(json["tokenizer"]["tokens"], 320);
  EXPECT_EQ(json["bits_per_weight"], 32.0);
  EXPECT_EQ(json["types"][0]["type"], "F32");
  EXPECT_EQ(json["file_bytes"], std::filesystem::file_size(golden("model/tiny-mixtral.gguf")));
  EXPECT_EQ(json["can_be_served"], true);

  std::uint64_t parameters = 0;
  std::uint64_t experts = 0;
  for (const auto& group : json["groups"]) {
    parameters += group["parameters"].get<std::uint64_t>();
    if (group["group"] == "experts") experts = group["parameters"];
  }
  EXPECT_EQ(experts, 3U * 8 * 3 * 32 * 20);  // layers, experts, projections, width, feed-forward
  EXPECT_EQ(json["parameters"]["total"], parameters);
  EXPECT_EQ(json["parameters"]["active"], parameters - experts + experts / 8 * 2);
}

TEST(ModelInspect, EveryPartOfASplitModelIsTheWholeModel) {
  for (const char* part : {"1", "2", "3"}) {
    const nlohmann::json json = inspect(golden(fmt::format("gguf/split-0000{}-of-00003.gguf", part)));
    EXPECT_EQ(json["parts"].size(), 3U);
    EXPECT_EQ(json["block_count"], 2);
  }
}

TEST_F(ChangedModel, ChatFormatIsTheOneThatTheEngineWillUse) {
  EXPECT_EQ(
      inspect_with("tokenizer.chat_template", std::string("{{ bos_token }}[INST] {{ m }} [/INST]"))["chat_format"],
      "mistral-v1");
  EXPECT_NE(text().find("chat format    mistral-v1\n"), std::string::npos) << text();
  // It writes ChatML, but the vocabulary has no such control tokens: the engine refuses it.
  const auto json =
      inspect_with("tokenizer.chat_template", std::string("<|im_start|>assistant\n{{ m }}\x1B[31m<|im_end|>"));
  EXPECT_EQ(json["chat_format"], "");
  EXPECT_EQ(json["can_be_served"], true);
  EXPECT_EQ(json["chat_problem"].get<std::string>().find(
                "tokenizer.chat_template: \"<|im_start|>assistant {{ m }} [31m<|im_end|>\": "),
            0U);
  EXPECT_NE(text().find("chat format    none: tokenizer.chat_template: "), std::string::npos) << text();
}

TEST_F(ChangedModel, WhatKeepsItFromBeingServedIsTold) {
  EXPECT_EQ(inspect_with("llama.attention.causal", false)["problems"][0],
            "m.gguf: llama.attention.causal is 0; this build computes only 1, and the result would be wrong");
  EXPECT_NE(text().find("can be served  no: m.gguf: llama.attention.causal"), std::string::npos) << text();
  const auto json = inspect_with("tokenizer.ggml.model", std::string("word2vec"));
  EXPECT_EQ(json["can_be_served"], false);
  EXPECT_EQ(json["chat_problem"], "the tokenizer cannot be used");
  const nlohmann::json vocabulary = inspect(golden("text/tekken-20k.vocab.gguf"));
  EXPECT_EQ(vocabulary["problems"], nlohmann::json({"it holds a vocabulary and no weights"}));
}

TEST_F(ChangedModel, NothingInTheFileReachesTheTerminalAsACommand) {
  EXPECT_EQ(inspect_with("general.name", std::string("x\x1B[31mred\xC2\x9B"
                                                     "31m\xFF"))["name"],
            "x [31mred 31m\uFFFD");
  EXPECT_EQ(text().find('\x1B'), std::string::npos);
  EXPECT_EQ(inspect_with("general.architecture", std::string("\x1B]0;title\a"))["architecture"], " ]0;title ");
  EXPECT_EQ(text().find('\x1B'), std::string::npos);
}

}  // namespace
}  // namespace sirocco
