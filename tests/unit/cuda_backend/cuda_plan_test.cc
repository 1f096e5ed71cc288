// What is planned for a device, and what is refused before anything is allocated.
#include <cuda_emulator_control.h>

#include "engine/engine.h"
#include "tests/support/golden_models.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/cuda_backend/slot_support.h"

namespace sirocco {
namespace {

using testing::HasSubstr;

constexpr const char* kModel = "quant-moe-q4_0-q5_1.gguf";

std::string refusal(const std::shared_ptr<const Model>& model, EngineOptions options) {
  options.backend = "cuda";
  const auto plan = plan_engine(model, options);
  EXPECT_FALSE(plan);
  return plan ? "" : plan.error().message();
}

const MemoryPlan::Line& line(const EnginePlan& plan, std::string_view name) {
  return *std::find_if(plan.memory.lines.begin(), plan.memory.lines.end(),
                       [&](const MemoryPlan::Line& l) { return l.name == name; });
}

TEST(CudaPlan, WeightsAndCacheAreOnTheDeviceAndNotCharged) {
  const auto model = test::open_golden(kModel);
  const EnginePlan plan = plan_engine(model, {}).value();
  EXPECT_EQ(plan.backend.backend, "cuda");  // of auto
  EXPECT_EQ(plan.residency.slots, 0U);
  EXPECT_TRUE(plan.warnings.empty());
  const std::uint64_t in_file = model->sizes().dense_bytes + model->sizes().expert_bytes;
  EXPECT_GE(line(plan, "device weights").bytes, in_file);
  EXPECT_FALSE(line(plan, "device weights").charged);
  EXPECT_FALSE(line(plan, "device KV cache").charged);
}

// What the lines of a plan take on the device.
std::uint64_t device_bytes(const EnginePlan& plan) {
  std::uint64_t bytes = 0;
  for (const MemoryPlan::Line& one : plan.memory.lines)
    if (one.name.starts_with("device ")) bytes += one.bytes;
  return bytes;
}

TEST(CudaPlan, WhatDoesNotFitIsRefusedWithTheMemoryThatWouldDo) {
  for (const char* name : {kModel, "quant-q8_0.gguf"}) {
    const auto model = test::open_golden(name);
    EngineOptions options = {.backend = "cuda", .kv_tokens = 64, .device_memory = 1};
    const std::string message = refusal(model, options);
    EXPECT_THAT(message, HasSubstr("raise device.memory"));
    std::uint64_t refused = 1;
    std::uint64_t enough = device_bytes(plan_engine(model, {.backend = "cuda", .kv_tokens = 64}).value());
    while (enough - refused > 1) {
      options.device_memory = refused + (enough - refused) / 2;
      (plan_engine(model, options) ? enough : refused) = options.device_memory;
    }
    options.device_memory = enough;
    EXPECT_EQ(device_bytes(plan_engine(model, options).value()), enough) << name;
    EXPECT_THAT(message, HasSubstr(format_bytes(enough))) << name;
  }
}

TEST(CudaPlan, WhatIsLeftBuysSlotsForExperts) {
  const test::TemporaryDirectory folder;
  const auto model = test::larger_model(folder.path(), 3);
  EngineOptions options = {.backend = "cuda", .kv_tokens = 64};
  const EnginePlan all = plan_engine(model, options).value();
  options.device_memory = device_bytes(all);
  EXPECT_EQ(device_bytes(plan_engine(model, options).value()), options.device_memory);
  --options.device_memory;
  const EnginePlan some = plan_engine(model, options).value();
  EXPECT_LE(device_bytes(some), options.device_memory);
  EXPECT_LT(line(some, "device weights").bytes, line(all, "device weights").bytes);
  const std::string note = line(some, "device experts").note;
  const std::size_t experts = std::size_t{model->spec().layers} * model->spec().moe->experts;
  EXPECT_THAT(note, HasSubstr(fmt::format("of {} (", experts)));
  EXPECT_GE(std::stoul(note), 2U);
  EXPECT_LT(std::stoul(note), experts);
  EXPECT_EQ(some.device_slots, std::stoul(note));
  // The others are computed with on the host, from its memory.
  EXPECT_EQ(line(some, "experts").bytes, model->sizes().expert_bytes);
}

TEST(CudaPlan, AutoComputesOnTheCpuWhatTheDeviceCannotAndSaysWhy) {
  const EnginePlan plan = plan_engine(test::open_golden(kModel), {.device_memory = 1}).value();
  EXPECT_EQ(plan.backend.backend, "cpu");
  ASSERT_EQ(plan.warnings.size(), 1U);
  EXPECT_THAT(plan.warnings.front(), HasSubstr("the GPU is not used"));
}

TEST(CudaPlan, OnAnIntegratedDeviceTheBudgetIsChargedForAll) {
  cudaemu::play({.integrated = true});
  const EnginePlan plan = plan_engine(test::open_golden(kModel), {}).value();
  cudaemu::play({});
  EXPECT_EQ(plan.backend.backend, "cuda");
  EXPECT_TRUE(line(plan, "device weights").charged);
}

TEST(CudaPlan, OnAnIntegratedDeviceExpertsThatDoNotFitAreInTheHostsSlots) {
  const test::TemporaryDirectory folder;
  const auto model = test::larger_model(folder.path(), 3);
  cudaemu::play({.integrated = true});
  EngineOptions options = {.backend = "cuda", .max_rows_per_step = 64, .kv_tokens = 64};
  options.memory_budget = plan_engine(model, options).value().memory.charged();
  const EnginePlan all = plan_engine(model, options).value();
  EXPECT_EQ(all.residency.slots, 0U);
  --options.memory_budget;
  const EnginePlan some = plan_engine(model, options).value();
  EngineOptions less = options;
  less.device_memory = device_bytes(some) + line(some, "expert slots").bytes / 2;
  const EnginePlan half = plan_engine(model, less).value();
  less.device_memory = device_bytes(some);
  const std::string message = refusal(model, less);
  cudaemu::play({});
  EXPECT_LE(some.memory.charged(), options.memory_budget);
  EXPECT_TRUE(some.residency.shared);
  EXPECT_EQ(some.device_slots, 0U);
  EXPECT_GE(some.residency.slots, 2U);
  EXPECT_LT(some.residency.slots, std::size_t{model->spec().layers} * model->spec().moe->experts);
  EXPECT_EQ(line(some, "expert slots").bytes, some.residency.slots * some.residency.slot_bytes);
  EXPECT_THAT(line(some, "expert slots").note, HasSubstr("which the device computes in"));
  for (const MemoryPlan::Line& one : some.memory.lines) EXPECT_NE(one.name, "dense weights");  // the device has them
  EXPECT_LT(half.residency.slots, some.residency.slots);
  EXPECT_THAT(message, HasSubstr("raise memory.budget"));
}

TEST(CudaPlan, TypesThatTheKernelsDoNotComputeAreNamed) {
  const auto model = test::open_golden("quant-q8_0.gguf");
  ModelWeights weights = model->weights();
  weights.layers[0].down.type = TensorType::tq1_0;
  EXPECT_THAT(refusal(model->with_weights(weights, nullptr), {}), HasSubstr("blk.0.ffn_down.weight is TQ1_0"));
  const auto experts = test::open_golden(kModel);
  weights = experts->weights();
  weights.layers[0].experts[1].up.type = TensorType::q8_0;
  EXPECT_THAT(refusal(experts->with_weights(weights, nullptr), {}), HasSubstr("experts of layer 0 are of different"));
}

TEST(CudaPlan, NumbersThatTheKernelsDoNotComputeAreRefused) {
  EXPECT_THAT(refusal(test::open_golden("tiny-mistral.gguf"), {}), HasSubstr("heads of 24 dimensions"));
  EXPECT_THAT(refusal(test::open_golden(kModel), {.kv_type = TensorType::f32}), HasSubstr("a KV cache in F32"));
  EXPECT_THAT(refusal(test::open_golden(kModel), {.isa = "avx2"}), HasSubstr("isa"));
}

TEST(CudaPlan, WithoutADeviceTheReasonIsTold) {
  cudaemu::play({.devices = 0});
  const std::string message = refusal(test::open_golden(kModel), {});
  const EnginePlan plan = plan_engine(test::open_golden(kModel), {}).value();
  cudaemu::play({});
  EXPECT_THAT(message, HasSubstr("no NVIDIA driver is installed"));
  EXPECT_EQ(plan.backend.backend, "cpu");
  EXPECT_TRUE(plan.warnings.empty());  // nobody misses it
}

TEST(CudaPlan, ADriverThatDoesNotWorkIsNotPassedOverInSilence) {
  cudaemu::fail_call("cudaGetDeviceCount", 1, cudaErrorInsufficientDriver);
  EXPECT_THAT(refusal(test::open_golden(kModel), {}), HasSubstr("nvidia-smi"));
  cudaemu::fail_call("cudaGetDeviceCount", 1, cudaErrorInsufficientDriver);
  const EnginePlan plan = plan_engine(test::open_golden(kModel), {}).value();
  EXPECT_EQ(plan.backend.backend, "cpu");
  ASSERT_EQ(plan.warnings.size(), 1U);
  EXPECT_THAT(plan.warnings.front(), HasSubstr("the GPU is not used"));
}

}  // namespace
}  // namespace sirocco
