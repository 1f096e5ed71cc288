// What is missing or misshapen in a model file is told together, before anything is computed.
#include <gtest/gtest.h>

#include <chrono>

#include "engine/model/model.h"
#include "tests/support/changed_model.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco {
namespace {

using Declaration = GgufWriter::TensorDeclaration;

// Of tiny-mixtral with the tensors that `keep` leaves and changes.
Error error_with(const std::function<bool(Declaration&)>& keep) {
  const test::TemporaryFolder folder;
  const auto model = Model::bind(test::change_model("tiny-mixtral.gguf", folder / "m.gguf", {.keep = keep}));
  return model ? Error(ErrorCode::internal, "(accepted)") : model.error();
}

TEST(Binding, EverythingMissingAndMisshapenIsToldTogether) {
  const Error error = error_with([](Declaration& tensor) {
    if (tensor.name == "blk.1.attn_q.weight") tensor.shape = {32, 16};
    if (tensor.name == "blk.2.ffn_up_exps.weight") tensor.shape = {32, 20, 7};
    return tensor.name != "output_norm.weight" && tensor.name != "blk.0.ffn_gate_inp.weight";
  });
  EXPECT_EQ(error.code(), ErrorCode::corrupt);
  EXPECT_EQ(error.message(),
            "m.gguf: tensor output_norm.weight is missing, expected [32]; "
            "tensor blk.0.ffn_gate_inp.weight is missing, expected [32, 8]; "
            "tensor blk.1.attn_q.weight: shape [32, 16], expected [32, 32]; "
            "tensor blk.2.ffn_up_exps.weight: shape [32, 20, 7], expected [32, 20, 8]");
}

TEST(Binding, TypeThatIsNotComputedIsNamedWithItsTensor) {
  const Error error = error_with([](Declaration& tensor) {
    if (tensor.name == "blk.2.ffn_down_exps.weight") tensor.type = TensorType::i8;
    return true;
  });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.message(), "m.gguf: tensor blk.2.ffn_down_exps.weight: type I8 is not computed by this build");
}

TEST(Binding, TensorWithoutAPlaceIsRefused) {
  const Error error = error_with([](Declaration& tensor) {
    if (tensor.name == "output.weight") tensor.name = "output.bias";
    return true;
  });
  EXPECT_EQ(error.message(),
            "m.gguf: tensor output.bias has no place in this architecture: the result would be wrong without it");
}

TEST(Binding, ALongListIsCutAndCounted) {
  const Error error = error_with([](Declaration& tensor) { return tensor.name == "token_embd.weight"; });
  // Of three layers ten tensors each, and the norm before the output.
  EXPECT_TRUE(error.message().ends_with("; and 11 more")) << error.message();
}

// 92 KB that claimed four million experts took 3 GiB and 13 seconds to refuse.
TEST(Binding, MoreExpertsThanAnyFileHoldsAreRefusedAtOnce) {
  const test::TemporaryFolder folder;
  const auto claim = [](GgufMetadata& metadata) {
    metadata.set("llama.block_count", std::uint32_t{1024});
    metadata.set("llama.expert_count", std::uint32_t{4096});
  };
  const auto model = Model::bind(test::change_model("tiny-mixtral.gguf", folder / "m.gguf", {.metadata = claim}));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().message(),
            "m.gguf: 1024 layers of 4096 experts (llama.expert_count) are 4194304, at most 262144 are allowed");
}

TEST(Binding, ThousandsOfProblemsAreCountedNotKept) {
  const test::TemporaryFolder folder;
  const auto claim = [](GgufMetadata& metadata) {
    metadata.set("llama.block_count", std::uint32_t{64});
    metadata.set("llama.expert_count", std::uint32_t{4096});
  };
  // A tensor of each of its layers says that every expert has tensors of its own: 3 x 4096, of which a few are there.
  const auto file = test::change_model("tiny-mixtral-per-expert.gguf", folder / "m.gguf", {.metadata = claim});
  const auto start = std::chrono::steady_clock::now();
  const auto model = Model::bind(file);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  ASSERT_FALSE(model);
  EXPECT_LT(model.error().message().size(), 4096U);
  EXPECT_LT(elapsed.count(), 2.0);  // measured: 0.02 s
}

TEST(Binding, VocabularyBeyondReasonIsRefused) {
  const Error error = error_with([](Declaration& tensor) {
    if (tensor.name == "token_embd.weight") tensor = {tensor.name, TensorType::i8, {1, 2000000}};
    return true;
  });
  EXPECT_EQ(error.message(),
            "m.gguf: tensor token_embd.weight: a vocabulary of 2000000 tokens, at most 1048576 are allowed");
}

}  // namespace
}  // namespace sirocco
