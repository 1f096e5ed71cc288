// `sirocco model synth`: files that this build loads, at the dimensions of the models they are named after.
#include "cli/model_synth.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/model/model.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

std::uint64_t parameters(std::string_view preset) {
  std::uint64_t sum = 0;
  for (const SynthTensor& tensor : synth_tensors(*find_model_preset(preset), TensorType::q4_k)) {
    std::uint64_t elements = 1;
    for (const std::uint64_t extent : tensor.declaration.shape) elements *= extent;
    sum += elements;
  }
  return sum;
}

// As the models' own repositories count them (safetensors, "Model size").
TEST(SynthPresets, HaveTheParametersOfTheRealModels) {
  EXPECT_EQ(parameters("mixtral-8x7b"), 46'702'792'704U);
  EXPECT_EQ(parameters("mixtral-8x22b"), 140'630'071'296U);  // with the 32768 tokens of v0.3
  EXPECT_EQ(parameters("mistral-7b"), 7'248'023'552U);       // v0.3
  EXPECT_EQ(parameters("qwen3-30b-a3b"), 30'532'122'624U);
}

// A layer and two experts of each, as a header before zeros: every tensor has the name and shape that the loader wants.
TEST(SynthPresets, AreLoadedByTheirArchitecture) {
  const test::TemporaryFolder folder;
  for (ModelPreset preset : model_presets()) {
    preset.layers = 1;
    preset.experts = std::min(preset.experts, 2U);
    preset.experts_used = std::min(preset.experts_used, preset.experts);
    std::vector<GgufWriter::TensorDeclaration> declarations;
    for (const SynthTensor& tensor : synth_tensors(preset, TensorType::q2_k))
      declarations.push_back(tensor.declaration);
    auto writer = GgufWriter::create(folder / "m.gguf", synth_metadata(preset), std::move(declarations))
                      .value();  // takes the space
    ASSERT_TRUE(writer.flush());
    const auto model = Model::open(writer.part_path());
    ASSERT_TRUE(model) << preset.name << ": " << model.error().message();
    EXPECT_EQ((*model)->spec().width, preset.width);
    EXPECT_EQ((*model)->spec().vocabulary, preset.vocabulary);
    EXPECT_EQ((*model)->spec().moe.has_value(), preset.experts > 0);
    EXPECT_EQ((*model)->file().metadata().strings("tokenizer.ggml.tokens").value().size(), preset.vocabulary);
  }
}

TEST(ModelSynth, EveryTypeMakesAModelThatVerifies) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "m.gguf";
  for (const TensorTypeInfo& info : tensor_types()) {
    const auto ran = test::run_sirocco(
        {"model", "synth", path, "--preset", "tiny-moe", "--layers", "1", "--type", std::string(info.name), "--force"});
    ASSERT_EQ(ran.code, info.computable ? 0 : 2) << ran.err;
    if (!info.computable) continue;
    const auto verified = test::run_sirocco({"model", "verify", path});
    EXPECT_EQ(verified.code, 0) << info.name << ": " << verified.err;
    EXPECT_EQ(test::run_sirocco({"logits", "--model", path, "--tokens", "1,2,3"}).code, 0) << info.name;
  }
}

TEST(ModelSynth, ExpertsDifferAndTheSeedDecides) {
  const test::TemporaryFolder folder;
  for (const auto& [name, seed] : {std::pair("a", "5"), std::pair("b", "5"), std::pair("c", "6")})
    ASSERT_EQ(test::run_sirocco({"model", "synth", folder / name, "--preset", "tiny-moe", "--seed", seed}).code, 0);
  EXPECT_EQ(test::read_file(folder / "a"), test::read_file(folder / "b"));
  EXPECT_NE(test::read_file(folder / "a"), test::read_file(folder / "c"));

  const auto file = GgufFile::open(folder / "a").value();
  const GgufTensor& experts = *file->find("blk.0.ffn_gate_exps.weight");
  std::set<std::string> distinct;
  for (std::uint64_t e = 0; e < experts.shape[2]; ++e) {
    const Bytes bytes = file->data(experts).subspan(e * experts.bytes / 4, experts.bytes / 4);
    distinct.emplace(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  EXPECT_EQ(distinct.size(), 4U);
}

}  // namespace
}  // namespace sirocco
