// A GPU that fails under the daemon: who was being answered is told, it is set up again once, then the processor goes
// on or the daemon ends. Over sockets, with all that is in between.
#include <cuda_emulator_control.h>

#include <thread>

#include "daemon/daemon.h"
#include "daemon/device_recovery.h"
#include "ipc/client/client.h"
#include "tests/support/receive.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco::daemon {
namespace {

using cudaemu::Mends;
using testing::ElementsAre;
using testing::HasSubstr;

class RunningDaemon {
 public:
  explicit RunningDaemon(const std::function<void(Config&)>& change) {
    config_.model.path = (test::golden_dir() / "model" / "quant-moe-q4_0-q5_1.gguf").string();
    config_.engine = {.backend = "cuda", .threads = 1, .max_rows_per_step = 32};
    config_.memory.kv_tokens = 128;
    config_.server.socket = (folder_.path() / "socket").string();
    config_.log.file = (folder_.path() / "log").string();
    change(config_);
    thread_ = std::thread([this] {
      ended_ = run(
          config_, [this] { return config_; }, supervisor_, false);
    });
    status();  // waits for the model
  }
  ~RunningDaemon() {
    if (thread_.joinable()) stop();
  }

  Result<void> wait() {
    thread_.join();
    return *ended_;
  }
  Result<void> stop() {
    EXPECT_TRUE(admin().drain({.stop = true}));
    return wait();
  }
  void reload() { EXPECT_TRUE(admin().reload({})); }

  // Once it is neither starting nor between two engines.
  wire::StatusReport status() {
    for (;;) {
      auto status = client().status();
      if (!status) {
        ADD_FAILURE() << status.error().message;
        return {};
      }
      if (status->state == wire::State::ready || status->state == wire::State::degraded) return *std::move(status);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  struct Answer {
    std::vector<std::int32_t> ids;
    std::optional<wire::Error> error = {};
  };
  Answer ask() {
    Client asking = client();
    Answer answer;
    const auto done = asking.generate(
        {.prompt = wire::TextPrompt{"abc def"}, .raw = true, .sampling = {.temperature = 0}, .max_tokens = 12},
        {.batch = [&](const wire::TokenBatch& batch) {
          answer.ids.insert(answer.ids.end(), batch.ids.begin(), batch.ids.end());
          return true;
        }});
    if (!done) answer.error = wire::Error{done.error().code, done.error().message, done.error().retry_after_ms};
    return answer;
  }

 private:
  static Client connect(const std::string& socket) {
    const auto deadline = std::chrono::steady_clock::now() + test::kPatience;
    for (;;) {
      auto client = Client::connect(socket, {.timeout = test::kPatience, .answer_timeout = test::kPatience});
      if (client || std::chrono::steady_clock::now() > deadline) return *std::move(client);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  Client client() const { return connect(config_.server.socket); }
  Client admin() const { return connect(wire::admin_socket(config_.server.socket)); }

  test::TemporaryDirectory folder_;
  Config config_;
  Supervisor supervisor_ = Supervisor::create().value();
  std::optional<Result<void>> ended_;
  std::thread thread_;
};

// In the middle of the next answer.
void break_device(Mends mends) {
  cudaemu::break_device("cudaMemcpyAsync", 9, cudaErrorLaunchFailure, mends);
}

void expect_failure(const RunningDaemon::Answer& answer) {
  ASSERT_TRUE(answer.error);
  EXPECT_EQ(answer.error->code, wire::ErrorCode::device_failed);
  EXPECT_THAT(answer.error->message, HasSubstr("the GPU failed"));
  EXPECT_THAT(answer.error->message, HasSubstr("cudaErrorLaunchFailure"));
  EXPECT_GT(answer.error->retry_after_ms, 0U);
}

std::vector<std::int32_t> processors_answer() {
  RunningDaemon daemon([](Config& config) { config.engine.backend = "cpu"; });
  return daemon.ask().ids;
}

class DeviceLost : public testing::Test {
 protected:
  ~DeviceLost() override { cudaemu::play({}); }
};

TEST_F(DeviceLost, ItIsSetUpAgainOnceThenTheProcessorComputesUntilAReload) {
  const std::vector<std::int32_t> on_cpu = processors_answer();
  const std::size_t objects = cudaemu::live_objects();
  RunningDaemon daemon([](Config&) {});
  const std::vector<std::int32_t> on_gpu = daemon.ask().ids;
  EXPECT_EQ(on_gpu.size(), 12U);

  break_device(Mends::by_reset);
  expect_failure(daemon.ask());
  EXPECT_EQ(daemon.status().state, wire::State::ready);
  EXPECT_EQ(daemon.status().backend, "cuda");
  EXPECT_EQ(daemon.ask().ids, on_gpu);

  break_device(Mends::by_reset);
  expect_failure(daemon.ask());
  const wire::StatusReport status = daemon.status();
  EXPECT_EQ(status.state, wire::State::degraded);
  EXPECT_EQ(status.backend, "cpu");
  EXPECT_THAT(status.reasons, ElementsAre(HasSubstr("the processor computes instead of the GPU")));
  EXPECT_EQ(daemon.ask().ids, on_cpu);
  EXPECT_EQ(cudaemu::live_objects(), objects);

  daemon.reload();
  EXPECT_EQ(daemon.status().state, wire::State::ready);
  EXPECT_EQ(daemon.status().backend, "cuda");
  EXPECT_EQ(daemon.ask().ids, on_gpu);
  EXPECT_TRUE(daemon.stop());
}

TEST_F(DeviceLost, ForGoodTheProcessorComputesAlsoWhereTheBackendIsChosenByItself) {
  const std::vector<std::int32_t> on_cpu = processors_answer();
  RunningDaemon daemon([](Config& config) { config.engine.backend = "auto"; });
  EXPECT_EQ(daemon.status().backend, "cuda");
  break_device(Mends::never);
  expect_failure(daemon.ask());
  const wire::StatusReport status = daemon.status();
  EXPECT_EQ(status.state, wire::State::degraded);
  EXPECT_EQ(status.backend, "cpu");
  EXPECT_THAT(status.reasons, ElementsAre(HasSubstr("it could not be set up again")));
  EXPECT_EQ(daemon.ask().ids, on_cpu);
}

TEST_F(DeviceLost, ForGoodTheDaemonEndsWhereTheProcessorIsNotToCompute) {
  RunningDaemon daemon([](Config& config) { config.device.on_failure = DeviceFailure::fail; });
  break_device(Mends::never);
  expect_failure(daemon.ask());
  const auto ended = daemon.wait();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code(), ErrorCode::device_failed);
  EXPECT_THAT(ended.error().message(), HasSubstr("it could not be set up again"));
}

TEST(DeviceRecovery, IsTriedAgainOnceAnHour) {
  using Recovery = ModelHost::Recovery;
  DeviceRecovery recovery;
  const auto start = DeviceRecovery::Clock::now();
  const auto after = [&](std::chrono::minutes minutes, DeviceFailure otherwise) {
    return recovery.after_failure(start + minutes, otherwise);
  };
  using std::chrono::minutes;
  EXPECT_EQ(after(minutes(0), DeviceFailure::fail), (Recovery{.again = true, .processor = false}));
  EXPECT_EQ(after(minutes(59), DeviceFailure::fail), (Recovery{.again = false, .processor = false}));
  EXPECT_EQ(after(minutes(59), DeviceFailure::cpu), (Recovery{.again = false, .processor = true}));
  EXPECT_EQ(after(minutes(61), DeviceFailure::cpu), (Recovery{.again = true, .processor = true}));
  EXPECT_EQ(after(minutes(70), DeviceFailure::cpu), (Recovery{.again = false, .processor = true}));
}

}  // namespace
}  // namespace sirocco::daemon
