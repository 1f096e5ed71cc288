#include "cli/model_fit.h"

#include <gtest/gtest.h>

#include "tests/support/source_dir.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

const std::string kModel = test::golden_dir() / "model" / "tiny-mixtral.gguf";

TEST(ModelFit, AModelThatFitsIsAllThere) {
  const test::Ran ran = test::run_sirocco({"model", "fit", kModel, "--memory", "4GiB", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json.at("slots"), 0);
  EXPECT_EQ(json.at("experts_in_memory"), 1);
  EXPECT_GT(json.at("bound").at(0).at("tokens_per_s"), 0);
  const test::Ran text = test::run_sirocco({"model", "fit", kModel, "--memory", "4GiB"});
  EXPECT_NE(text.out.find("all of it fits"), std::string::npos) << text.out;
}

TEST(ModelFit, ABudgetTooSmallIsAFailureThatSaysHowMuchIsNeeded) {
  const test::Ran ran = test::run_sirocco({"model", "fit", kModel, "--memory", "1MiB"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.err.find("the memory budget is 1.00 MiB"), std::string::npos) << ran.err;
}

TEST(ModelFit, FewerExpertsInMemoryAreSlower) {
  FitReport report;
  report.model = Model::open(kModel).value();
  report.memory = 30e9;
  report.disk = 1e9;
  const double all = report.tokens_per_s(1);
  EXPECT_GT(all, report.tokens_per_s(0.9));
  EXPECT_GT(report.tokens_per_s(0.9), report.tokens_per_s(0.5));
  EXPECT_DOUBLE_EQ(all, report.memory / static_cast<double>(report.model->bytes_per_token()));
}

// The host computes what is not in the device's slots, at the pace of its own memory; a device that shares the host's
// memory moves what arrives.
TEST(ModelFit, ExpertsThatTheDeviceHasNotCostWhatTheyCostThere) {
  FitReport report;
  report.model = Model::open(kModel).value();
  report.memory = 300e9;
  report.host_memory = 30e9;
  const auto bytes = static_cast<double>(report.model->bytes_per_token());
  const auto& moe = *report.model->spec().moe;
  const std::size_t all = std::size_t{report.model->spec().layers} * moe.experts;
  const double experts = static_cast<double>(report.model->sizes().expert_bytes) * moe.used / moe.experts;
  report.plan.device_slots = all / 2;
  EXPECT_EQ(report.share(), static_cast<double>(all / 2) / static_cast<double>(all));
  EXPECT_DOUBLE_EQ(report.tokens_per_s(1), 300e9 / bytes);
  EXPECT_DOUBLE_EQ(report.tokens_per_s(0), 1 / ((bytes - experts) / 300e9 + experts / 30e9));
  EXPECT_NE(fit_text(report).find("found on the device"), std::string::npos);
  report.plan.device_slots = 0;
  report.plan.residency.slots = all / 2;
  const double mapped = report.tokens_per_s(0.5);
  report.plan.residency.shared = true;
  EXPECT_LT(report.tokens_per_s(0.5), mapped);
  EXPECT_DOUBLE_EQ(report.tokens_per_s(0.5), 300e9 / (bytes + 5 * experts / 2));
}

TEST(ModelFit, FavouredExpertsAreFoundMoreOften) {
  EXPECT_EQ(favoured_hit_rate(0), 0);
  EXPECT_EQ(favoured_hit_rate(1), 1);
  double before = 0;
  for (double share = 0.01; share < 1; share += 0.01) {
    EXPECT_GE(favoured_hit_rate(share), share);
    EXPECT_GT(favoured_hit_rate(share), before);
    before = favoured_hit_rate(share);
  }
}

}  // namespace
}  // namespace sirocco
