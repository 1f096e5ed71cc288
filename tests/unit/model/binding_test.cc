// What is missing or misshapen in a model file is told together, before anything is computed.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sirocco
