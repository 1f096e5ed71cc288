// The forward pass against an independent one: logits of tiny random models as transformers computes them
// (tests/golden/model/make_tiny.py), within 1e-3; and the rules that are exact, with ==.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/evaluate.h"
#include "engine/experts/mapped_experts.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

struct Golden {
  std::string model;
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // [tokens, vocabulary]
};

// tiny.json: architectures and layouts in F32; quant.json: a model of each tensor type.
std::vector<Golden> goldens() {
  const auto dir = test::golden_dir() / "model";
  std::ifstream tiny(dir / "tiny.json");
  std::ifstream quant(dir / "quant.json");
  nlohmann::json index = nlohmann::json::parse(tiny);
  for (const auto& entry : nlohmann::json::parse(quant)) index.push_back(entry);
  std::vector<Golden> all;
  for (const auto& entry : index) {
    Golden golden{.model = entry.at("model"), .tokens = entry.at("tokens"), .logits = {}};
    golden.logits.resize(golden.tokens.size() * entry.at("vocab").get<std::size_t>());
    std::ifstream in(dir / entry.at("file").get<std::string>(), std::ios::binary);
    in.read(reinterpret_cast<char*>(golden.logits.data()),
            static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
    EXPECT_TRUE(in.good()) << golden.model;
    all.push_back(std::move(golden));
  }
  return all;
}

std::shared_ptr<const Model> open_model(const std::string& name) {
  auto model = Model::open(test::golden_dir() / "model" / name);
  EXPECT_TRUE(model) << (model ? "" : model.error().message());
  return model ? *model : nullptr;
}

std::vector<float> all_logits(const std::shared_ptr<const Model>& model, std::span<const TokenId> tokens,
                              const EvaluateOptions& options, std::mt19937* cut = nullptr) {
  auto evaluation = Evaluation::create(model, options).value();
  std::vector<float> all;
  while (!tokens.empty()) {
    const std::size_t rows =
        cut == nullptr ? tokens.size() : std::uniform_int_distribution<std::size_t>(1, tokens.size())(*cut);
    const auto done = evaluation.extend(tokens.first(rows), true, [&](std::uint32_t, std::span<const float> row) {
      all.insert(all.end(), row.begin(), row.end());
    });
    EXPECT_TRUE(done);
    tokens = tokens.subspan(rows);
  }
  return all;
}

class Goldens : public testing::TestWithParam<Golden> {};

TEST_P(Goldens, LogitsAreThoseOfTransformers) {
  const Golden& golden = GetParam();
  const auto model = open_model(golden.model);
  ASSERT_TRUE(model);
  const auto logits = all_logits(model, golden.tokens, {.backend = "ref", .context = 24, .kv_type = TensorType::f32});
  ASSERT_EQ(logits.size(), golden.logits.size());
  float worst = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - golden.logits[i]));
  EXPECT_LT(worst, 1e-3F);
  RecordProperty("worst", std::to_string(worst));
}

// Of every backend and instruction set that this machine can run.
std::vector<EvaluateOptions> implementations() {
  std::vector<EvaluateOptions> all = {{.backend = "ref"}};
  for (const std::string_view isa : isa_names()) all.push_back({.backend = "cpu", .isa = std::string(isa)});
  return all;
}

TEST_P(Goldens, RowsDoNotDependOnChunksOrThreads) {
  const Golden& golden = GetParam();
  const auto model = open_model(golden.model);
  ASSERT_TRUE(model);
  std::mt19937 random(7);
  for (EvaluateOptions options : implementations()) {
    options.context = 24;
    options.threads = 1;
    const auto whole = all_logits(model, golden.tokens, options);
    for (const std::size_t threads : {1, 2, 5}) {
      for (const std::uint32_t rows : {1U, 3U, 64U}) {
        options.threads = threads;
        options.rows_per_step = rows;
        EXPECT_EQ(all_logits(model, golden.tokens, options, &random), whole) << options.backend << " " << options.isa;
      }
    }
  }
}

float median(std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What int8 activations may cost: far less than what tells tokens apart, but where a near-tied expert flips single
// positions move by whole logits, so the median is judged, against the median size of a logit.
TEST_P(Goldens, IntegerKernelsStayNear) {
  const Golden& golden = GetParam();
  const auto model = open_model(golden.model);
  ASSERT_TRUE(model);
  std::vector<std::vector<float>> of_isa;
  for (const EvaluateOptions& which : implementations()) {
    if (which.backend == "ref") continue;
    EvaluateOptions options = which;
    options.context = 24;
    of_isa.push_back(all_logits(model, golden.tokens, options));
    std::vector<float> differences;
    std::vector<float> sizes;
    for (std::size_t i = 0; i < golden.logits.size(); ++i) {
      differences.push_back(std::abs(of_isa.back()[i] - golden.logits[i]));
      sizes.push_back(std::abs(golden.logits[i]));
    }
    EXPECT_LT(median(differences) / median(sizes), 0.03F) << options.isa;
    EXPECT_EQ(of_isa.back(), of_isa.front()) << options.isa;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Goldens, testing::ValuesIn(goldens()), [](const auto& golden) {
  std::string name = golden.param.model.substr(0, golden.param.model.find('.'));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Goldens, AreAllThere) {
  EXPECT_EQ(goldens().size(), 9U + 17U);
}

TEST(Mixtral, LayoutsOfTheSameExpertsGiveTheSameBits) {
  const auto merged = open_model("tiny-mixtral.gguf");
  const std::vector<TokenId> tokens = {1, 200, 92, 68, 129, 233, 189, 97};
  const auto expected = all_logits(merged, tokens, {.context = 8});
  for (const char* other : {"tiny-mixtral-per-expert.gguf", "tiny-mixtral-fused.gguf"})
    EXPECT_EQ(all_logits(open_model(other), tokens, {.context = 8}), expected) << other;
}

TEST(Backend, RowsDoNotDependOnTheOtherSequencesOfTheStep) {
  const auto model = open_model("tiny-mixtral.gguf");
  const std::size_t vocabulary = model->spec().vocabulary;
  std::vector<std::vector<TokenId>> texts = {{1, 5, 9, 13}, {1, 200, 92, 68, 129, 233}, {1, 7}};
  for (TokenId i = 0; i < 40; ++i) texts[0].push_back(i * 37 % 200);  // into the second block
  for (TokenId i = 0; i < 50; ++i) texts[1].push_back(i * 41 % 200);
  const EvaluateOptions options = {.context = 64};

  // All three in one step, their blocks in no order.
  MappedExperts experts(model);
  const auto backend =
      make_backend(model, experts,
                   {.threads = 2, .limits = {.rows = 128, .logit_rows = 128, .context = 64}, .kv_blocks = 6})
          .value();
  const std::vector<std::vector<BlockId>> tables = {{5, 0}, {3, 1}, {2}};
  std::vector<StepSequence> sequences;
  for (std::size_t i = 0; i < texts.size(); ++i)
    sequences.push_back({.tokens = texts[i], .position = 0, .block_table = tables[i], .logits = WantLogits::all});
  std::vector<float> together((44 + 56 + 2) * vocabulary);
  ASSERT_TRUE(backend->step_all({.sequences = sequences}, together));

  std::vector<float> alone;
  for (const auto& text : texts) {
    const auto rows = all_logits(model, text, options);
    alone.insert(alone.end(), rows.begin(), rows.end());
  }
  EXPECT_EQ(together, alone);
}

}  // namespace
}  // namespace sirocco
