// A model whose weights are not all numbers has no logits and no speed worth printing.
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

constexpr std::uint64_t kRowBytes = 64 * sizeof(float);  // of tiny-llama's embedding, which is its output matrix too

class DamagedModel : public testing::Test {
 protected:
  DamagedModel() { test::copy_golden("model/tiny-llama.gguf", path_); }

  // "MODEL: logits of position 2 are not numbers; run `sirocco model verify MODEL`"
  std::string message(int position) const {
    return fmt::format("sirocco: {0}: logits of position {1} are not numbers; run `sirocco model verify {0}`\n",
                       path_.string(), position);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "m.gguf";
};

TEST_F(DamagedModel, LogitsThatAreNotNumbersAreAnErrorThatNamesThePosition) {
  test::patch_tensor(path_, "output_norm.weight", 0, std::numeric_limits<float>::quiet_NaN());
  for (const char* form : {"--json", "--all"}) {
    const auto ran = test::run_sirocco({"logits", "--model", path_, "--tokens", "1,5,9", form});
    EXPECT_EQ(ran.code, 1);
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err, message(form == std::string("--all") ? 0 : 2));
  }
}

TEST_F(DamagedModel, OneInfiniteLogitIsEnough) {
  test::patch_tensor(path_, "token_embd.weight", 300 * kRowBytes, std::numeric_limits<float>::infinity());
  EXPECT_EQ(test::run_sirocco({"logits", "--model", path_, "--tokens", "1"}).err, message(0));
}

TEST_F(DamagedModel, ItsSpeedIsNotMeasured) {
  test::patch_tensor(path_, "blk.1.ffn_norm.weight", 4, std::numeric_limits<float>::quiet_NaN());
  const auto ran = test::run_sirocco({"bench", "--model", path_, "--prompt", "3", "--generate", "2", "--repeat", "1"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_EQ(ran.err, message(2));
}

}  // namespace
}  // namespace sirocco
