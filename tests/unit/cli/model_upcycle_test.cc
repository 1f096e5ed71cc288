// `sirocco model upcycle`: as many different experts as asked for, and the dense model's answers.
#include "cli/model_upcycle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/model/model.h"
#include "tests/support/changed_model.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

std::vector<float> logits(const std::string& path) {
  const auto ran =
      test::run_sirocco({"logits", "--model", path, "--tokens", "1,5,200,17", "--all", "--backend", "ref", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const nlohmann::json document = nlohmann::json::parse(ran.out);  // outlives the loop over a part of it
  std::vector<float> all;
  for (const auto& row : document["rows"]) {
    const auto values = row["logits"].get<std::vector<float>>();
    all.insert(all.end(), values.begin(), values.end());
  }
  EXPECT_EQ(all.size(), 4 * document["vocab"].get<std::size_t>());
  return all;
}

class ModelUpcycle : public testing::Test {
 protected:
  test::Ran upcycle(const std::string& input, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"model", "upcycle", input, output_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_sirocco(arguments);
  }
  static std::string golden(const std::string& name) { return test::golden_dir() / "model" / name; }

  test::TemporaryFolder folder_;
  std::string output_ = folder_ / "out.gguf";
};

TEST(ExpertOrders, AreAllDifferentAsLongAsThereAreSoMany) {
  for (const auto& [experts, groups] :
       {std::pair(24U, 4U), std::pair(120U, 5U), std::pair(6U, 3U), std::pair(64U, 48U)}) {
    SplitMix64 random(1);
    const auto orders = expert_orders(experts, groups, random);
    const std::set<std::vector<std::uint32_t>> distinct(orders.begin(), orders.end());
    EXPECT_EQ(distinct.size(), experts);
    for (std::vector<std::uint32_t> order : orders) {
      std::sort(order.begin(), order.end());
      for (std::uint32_t i = 0; i < groups; ++i) EXPECT_EQ(order[i], i);
    }
  }
}

TEST(ExpertOrders, ComeAgainWhereThereAreFewer) {
  SplitMix64 random(1);
  const auto orders = expert_orders(8, 2, random);
  EXPECT_EQ(orders.size(), 8U);
  EXPECT_EQ((std::set<std::vector<std::uint32_t>>(orders.begin(), orders.end()).size()), 2U);
}

TEST_F(ModelUpcycle, OnePlainExpertGivesTheDenseModelsLogitsExactly) {
  ASSERT_EQ(upcycle(golden("tiny-llama.gguf"), {"--experts", "3", "--used", "1", "--permute", "no"}).code, 0);
  EXPECT_EQ(logits(output_), logits(golden("tiny-llama.gguf")));
}

TEST_F(ModelUpcycle, PermutedExpertsHaveDifferentBytesAndGiveTheDenseModelsLogits) {
  for (const char* model : {"tiny-llama.gguf", "quant-q4_0.gguf"}) {
    const auto ran = upcycle(golden(model), {"--experts", "2", "--used", "2", "--force"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.err, "");
    const auto dense = logits(golden(model));
    const auto moe = logits(output_);
    ASSERT_EQ(moe.size(), dense.size());
    for (std::size_t i = 0; i < moe.size(); ++i) ASSERT_NEAR(moe[i], dense[i], 1e-3F) << model;

    const auto file = GgufFile::open(output_).value();
    for (const char* part : {"gate", "up", "down"}) {
      const Bytes bytes = file->data(*file->find(fmt::format("blk.0.ffn_{}_exps.weight", part)));
      const Bytes first = bytes.first(bytes.size() / 2);
      EXPECT_FALSE(std::equal(first.begin(), first.end(), bytes.begin() + static_cast<std::ptrdiff_t>(first.size())));
    }
    EXPECT_EQ(test::run_sirocco({"model", "verify", output_}).code, 0);
  }
}

TEST_F(ModelUpcycle, ExpertsThatMustBeTheSameBytesAreMentioned) {
  const auto ran = upcycle(golden("quant-q4_0.gguf"), {"--experts", "4", "--used", "2"});  // 64 channels, blocks of 32
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(
      ran.err,
      "sirocco: layer 0: 64 inner channels in blocks of 32 have only 2 orders; some of the 4 experts are the same "
      "bytes\n");
}

TEST_F(ModelUpcycle, AWidthOfExpertsInTheDenseModelIsNotTakenOver) {
  const auto set = [](GgufMetadata& metadata) { metadata.set("llama.expert_feed_forward_length", std::uint32_t{7}); };
  test::change_model("tiny-llama.gguf", folder_ / "in.gguf", {.metadata = set});
  const auto ran = upcycle(folder_ / "in.gguf", {"--experts", "2", "--used", "1"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(Model::open(output_));
}

TEST_F(ModelUpcycle, WhatCouldNotBeLoadedAfterwardsIsNotMade) {
  const auto rename = [](GgufWriter::TensorDeclaration& tensor) {
    if (tensor.name == "blk.1.attn_norm.weight") tensor.name = "blk.1.attn_q.bias";
    return true;
  };
  test::change_model("tiny-llama.gguf", folder_ / "in.gguf", {.keep = rename});
  test::write_file(output_, "the old one");
  const auto ran = upcycle(folder_ / "in.gguf", {"--experts", "2", "--used", "1", "--force"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.err.find("sirocco: in.gguf: tensor blk.1.attn_norm.weight is missing"), 0U) << ran.err;
  EXPECT_EQ(test::read_file(output_), "the old one");
  EXPECT_FALSE(std::filesystem::exists(output_ + ".part"));
}

TEST_F(ModelUpcycle, ModelsThatAreNotDenseLlamaAreRefused) {
  EXPECT_EQ(upcycle(golden("tiny-mixtral.gguf"), {"--experts", "2", "--used", "1"}).err,
            "sirocco: " + golden("tiny-mixtral.gguf") + ": the model already has experts (llama.expert_count)\n");
  EXPECT_EQ(upcycle(golden("tiny-qwen3moe.gguf"), {"--experts", "2", "--used", "1"}).err,
            "sirocco: " + golden("tiny-qwen3moe.gguf") +
                ": architecture qwen3moe; only dense llama models can be upcycled\n");
}

}  // namespace
}  // namespace sirocco
