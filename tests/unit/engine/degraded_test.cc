// What is chosen because something better cannot be had is said: the reasons that an opened engine is DEGRADED by.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A device that this machine has not, or has and cannot use.
class Device final : public BackendKind {
 public:
  ErrorCode why = ErrorCode::not_found;

  std::string_view name() const override { return "device"; }  // "cuda" stays unknown to this program
  Result<void> available(const BackendOptions&) const override { return fail(why, "the driver is too old"); }
  Result<void> check(const Model&, const BackendOptions&) const override { return {}; }
  std::uint32_t rows_per_step() const override { return 1; }
  bool holds_weights() const override { return true; }
  std::size_t kv_block_bytes(const ModelSpec&, const BackendOptions&) const override { return 1; }
  Result<std::uint64_t> kv_budget(const Model&, const BackendOptions&, std::uint64_t) const override { return 1; }
  Result<HostWeights> plan(const Model&, const BackendOptions&, MemoryPlan&) const override { return HostWeights{}; }
  Result<std::unique_ptr<Backend>> make(std::shared_ptr<const Model>, ExpertSource&,
                                        const BackendOptions&) const override {
    return fail(ErrorCode::internal, "nobody makes it");
  }
};

Device& device() {
  static Device device;
  static const bool registered = [] {
    register_device_backend(device);
    return true;
  }();
  (void)registered;
  return device;
}

std::vector<std::string> reasons(EngineOptions options) {
  options.model = test::golden_dir() / "model" / "tiny-qwen3moe.gguf";
  options.threads = 1;
  const auto prepared = prepare_model(options).value();
  return Engine::open(prepared, [](RequestId, Event&&) {}, {}).value()->status().degraded;
}

TEST(Degraded, AGpuThatCannotBeUsedIsAReasonAndOneThatIsNotThereIsNone) {
  device().why = ErrorCode::not_found;
  EXPECT_THAT(reasons({}), IsEmpty());
  device().why = ErrorCode::unsupported;
  EXPECT_THAT(reasons({}),
              ElementsAre("the GPU is not used: the driver is too old; backend: cpu says that this is meant "
                          "to be"));
  EXPECT_THAT(reasons({.backend = "cpu"}), IsEmpty());
  EXPECT_THAT(reasons({.backend = "ref"}), IsEmpty());  // asked for, too
  device().why = ErrorCode::not_found;
}

TEST(Degraded, SlowerInstructionsThanTheProcessorHasAreAReason) {
  const std::vector<std::string_view> isas = isa_names();
  if (isas.size() < 2) GTEST_SKIP() << "this processor has one instruction set to choose";
  EXPECT_THAT(reasons({.backend = "cpu", .isa = std::string(isas.front())}), IsEmpty());
  EXPECT_THAT(reasons({.backend = "cpu", .isa = std::string(isas.back())}),
              ElementsAre(HasSubstr(std::string(isas.back()) + " is used (engine.isa)")));
}

}  // namespace
}  // namespace sirocco
