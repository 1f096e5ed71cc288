// `sirocco model verify` finds what a checksum of the file as it was written cannot: numbers that are none, and a file
// that is whole and still no model.
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/support/changed_model.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// sha256sum of tests/golden/model/tiny-llama.gguf and gguf/split-00002-of-00003.gguf
constexpr const char* kTinyLlamaSha256 = "1621ebfcd2d1e4d3773f0a2a06043ed668382516c5fbee0a7ec0e07aaeb916f6";
constexpr const char* kSplitSha256 = "2f085b9854f0e6fe6cad00d8c90be065b2802b028340637278bce53accc2fff5";

class ModelVerify : public testing::Test {
 protected:
  test::Ran verify() const { return test::run_sirocco({"model", "verify", path_}); }
  nlohmann::json verify_json() const {
    return nlohmann::json::parse(test::run_sirocco({"model", "verify", path_, "--json"}).out);
  }
  std::string line(const std::string& text) const { return "sirocco: " + path_.string() + ": " + text + "\n"; }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "m.gguf";
};

TEST_F(ModelVerify, AWholeModelIsSaidToBeWhole) {
  for (const char* model : {"model/tiny-llama.gguf", "model/tiny-qwen3moe.gguf", "model/quant-moe-mxfp4-q8_0.gguf"}) {
    test::copy_golden(model, path_);
    const auto ran = verify();
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.err, "");
    EXPECT_NE(ran.out.find(" tensors, all whole and finite\n"), std::string::npos) << ran.out;
    EXPECT_EQ(verify_json()["ok"], true);
  }
}

TEST_F(ModelVerify, ValueThatIsNoNumberIsFoundWithItsExpertRowAndPlace) {
  test::copy_golden("model/tiny-mixtral.gguf", path_);
  // down of expert 5: [20, 32] each, row 17, element 3
  test::patch_tensor(path_, "blk.2.ffn_down_exps.weight", ((5 * 32 + 17) * 20 + 3) * sizeof(float), kNaN);
  test::patch_tensor(path_, "blk.0.attn_q.weight", 33 * sizeof(float), -std::numeric_limits<float>::infinity());
  const auto ran = verify();
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, line("tensor blk.0.attn_q.weight: row 1, element 1: the value is infinite or not a number") +
                         line("tensor blk.2.ffn_down_exps.weight: expert 5, row 17, element 3: the value is infinite "
                              "or not a number"));
  const nlohmann::json json = verify_json();
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["bad"], nlohmann::json::parse(R"([{"tensor": "blk.0.attn_q.weight", "row": 1, "block": 1},
      {"tensor": "blk.2.ffn_down_exps.weight", "row": 177, "block": 3}])"));
}

TEST_F(ModelVerify, ScaleThatIsNoNumberIsFoundWithItsBlock) {
  test::copy_golden("model/quant-q5_1.gguf", path_);
  // Rows of 64 are two blocks of 24 bytes: the minimum of row 3, block 1.
  test::patch_tensor(path_, "blk.0.ffn_up.weight", (3 * 2 + 1) * 24 + 2, std::uint16_t{0x7C00});
  EXPECT_EQ(verify().err, line("tensor blk.0.ffn_up.weight: row 3, block 1: the scale is infinite or not a number"));
}

TEST_F(ModelVerify, Sha256IsThatOfTheFileNamed) {
  test::copy_golden("model/tiny-llama.gguf", path_);
  const auto with = [&](const std::string& sha256) {
    return test::run_sirocco({"model", "verify", path_, "--sha256", sha256});
  };
  std::string upper = kTinyLlamaSha256;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  for (const std::string& right : {std::string(kTinyLlamaSha256), upper}) {
    const auto ran = with(right);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("all whole and finite, SHA-256 as expected\n"), std::string::npos) << ran.out;
  }
  const auto wrong = with(std::string(64, '0'));
  EXPECT_EQ(wrong.code, 1);
  EXPECT_EQ(wrong.err, line(fmt::format("SHA-256 is {}, expected {:0>64}; fetch the file again", kTinyLlamaSha256, 0)));
  EXPECT_EQ(with("abc").code, 2);
  EXPECT_EQ(with(std::string(64, 'z')).code, 2);

  const auto part = test::golden_dir() / "gguf" / "split-00002-of-00003.gguf";
  const auto split = test::run_sirocco({"model", "verify", part, "--sha256", kSplitSha256, "--json"});
  EXPECT_EQ(nlohmann::json::parse(split.out)["sha256"], kSplitSha256);
}

TEST_F(ModelVerify, AFileThatCannotBeLoadedIsNotPassed) {
  const auto keep = [](GgufWriter::TensorDeclaration& tensor) { return tensor.name != "blk.1.attn_q.weight"; };
  test::change_model("tiny-mixtral.gguf", path_, {.keep = keep});
  const auto ran = verify();
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.err, line("it cannot be loaded: m.gguf: tensor blk.1.attn_q.weight is missing, expected [32, 32]"));
  EXPECT_EQ(verify_json()["problems"].size(), 1U);
}

TEST_F(ModelVerify, WhatIsNotOursToLoadIsNoFailure) {
  test::copy_golden("text/tekken-20k.vocab.gguf", path_);
  EXPECT_EQ(verify().code, 0);
  const auto other = [](GgufMetadata& metadata) { metadata.set("general.architecture", std::string("mamba")); };
  test::change_model("tiny-mixtral.gguf", path_, {.metadata = other});
  EXPECT_EQ(verify().code, 0);
}

TEST_F(ModelVerify, BytesAfterTheLastTensorAreMentioned) {
  test::copy_golden("model/tiny-llama.gguf", path_);
  EXPECT_EQ(verify_json()["trailing_bytes"], 0);
  std::ofstream(path_, std::ios::app) << std::string(5000, 'x');
  const auto ran = verify();
  EXPECT_EQ(ran.code, 0);
  EXPECT_NE(ran.out.find(": 5000 bytes after the last tensor belong to nothing\n"), std::string::npos) << ran.out;
  EXPECT_EQ(verify_json()["trailing_bytes"], 5000);
}

}  // namespace
}  // namespace sirocco
