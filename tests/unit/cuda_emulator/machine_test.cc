// The machines that the emulator plays: integrated, several devices, none; what was copied, what was left, and
// failures.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "cuda_emulator_control.h"
#include "cuda_runtime.h"
#include "tests/unit/cuda/device.h"
#include "tests/unit/cuda_emulator/kernels.h"

namespace sirocco::test {

namespace {

class EmulatedMachine : public testing::Test {
 protected:
  void SetUp() override { cudaemu::play({}); }
  void TearDown() override { cudaemu::play({}); }
};

int attribute(cudaDeviceAttr which) {
  int value = -1;
  must(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute");
  return value;
}

TEST_F(EmulatedMachine, CountsTheBytesThatWereCopied) {
  DeviceBuffer<float> a(100);
  DeviceBuffer<float> b(100);
  a.upload(std::vector<float>(30, 1));
  must(cudaMemcpy(b.data(), a.data(), 50 * sizeof(float), cudaMemcpyDeviceToDevice), "copy");
  EXPECT_EQ(b.download().size(), 100U);
  const cudaemu::Copied copied = cudaemu::copied();
  EXPECT_EQ(copied.host_to_device, 30 * sizeof(float));
  EXPECT_EQ(copied.within_device, 50 * sizeof(float));
  EXPECT_EQ(copied.device_to_host, 100 * sizeof(float));
  EXPECT_EQ(copied.between_devices, 0U);
}

TEST_F(EmulatedMachine, IntegratedDevicesReadRegisteredMemoryWithoutACopy) {
  cudaemu::play({.integrated = true});
  EXPECT_EQ(attribute(cudaDevAttrIntegrated), 1);
  EXPECT_EQ(attribute(cudaDevAttrPageableMemoryAccess), 0);
  std::vector<float> x(64, 2);
  std::vector<float> y(64, 1);
  for (auto* v : {&x, &y}) {
    must(cudaHostRegister(v->data(), v->size() * sizeof(float), cudaHostRegisterMapped), "cudaHostRegister");
  }
  const Stream stream;
  must(add_scaled(x.data(), y.data(), 3, 64, stream), "add_scaled");
  stream.wait();
  EXPECT_EQ(y, std::vector<float>(64, 7));
  const cudaemu::Copied copied = cudaemu::copied();
  EXPECT_EQ(copied.host_to_device + copied.device_to_host, 0U);
  for (auto* v : {&x, &y}) must(cudaHostUnregister(v->data()), "cudaHostUnregister");
}

TEST_F(EmulatedMachine, PlainMemoryIsReadWhereTheMachineCan) {
  cudaemu::play({.integrated = true, .pageable_memory_access = true});
  std::vector<float> x(8, 2);
  std::vector<float> y(8, 1);
  const Stream stream;
  must(add_scaled(x.data(), y.data(), 3, 8, stream), "add_scaled");
  stream.wait();
  EXPECT_EQ(y, std::vector<float>(8, 7));
}

TEST_F(EmulatedMachine, RegistrationIsRefusedWhereItIsNotSupported) {
  cudaemu::play({.host_register = false});
  EXPECT_EQ(attribute(cudaDevAttrHostRegisterSupported), 0);
  std::vector<float> x(8);
  EXPECT_EQ(cudaHostRegister(x.data(), 32, cudaHostRegisterDefault), cudaErrorNotSupported);
}

TEST_F(EmulatedMachine, WithoutDevicesEveryCallSaysSo) {
  cudaemu::play({.devices = 0});
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 8), cudaErrorNoDevice);
  EXPECT_FALSE(has_device());
}

TEST_F(EmulatedMachine, MemoryEnds) {
  cudaemu::play({.memory = 1 << 20});
  const DeviceBuffer<char> most(900'000);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 200'000), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(EmulatedMachine, DevicesHaveMemoriesOfTheirOwn) {
  cudaemu::play({.devices = 2, .memory = 1 << 20});
  const std::vector<float> ones(256, 1);
  const DeviceBuffer<float> x(ones);
  must(cudaSetDevice(1), "cudaSetDevice");
  const DeviceBuffer<float> there(256);
  const DeviceBuffer<float> y(ones);
  std::size_t free = 0;
  std::size_t total = 0;
  must(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  EXPECT_EQ(total - free, 2 * 256 * sizeof(float));
  const Stream stream;
  must(cudaMemcpyPeerAsync(there.data(), 1, x.data(), 0, 256 * sizeof(float), stream), "copy");
  must(add_scaled(there.data(), y.data(), 4, 256, stream), "add_scaled");
  stream.wait();
  EXPECT_EQ(y.download(), std::vector<float>(256, 5));
  EXPECT_EQ(cudaemu::copied().between_devices, 256 * sizeof(float));
  must(cudaSetDevice(0), "cudaSetDevice");
  EXPECT_EQ(add_scaled(x.data(), x.data(), 1, 256, stream), cudaErrorInvalidResourceHandle)
      << "the other device's stream";
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
}

TEST_F(EmulatedMachine, APeersMemoryIsReachedOnlyAfterItWasEnabled) {
  cudaemu::play({.devices = 2});
  const DeviceBuffer<float> x(std::vector<float>(32, 1));
  must(cudaSetDevice(1), "cudaSetDevice");
  const DeviceBuffer<float> y(std::vector<float>(32, 1));
  const Stream stream;
  EXPECT_DEATH(
      {
        must(add_scaled(x.data(), y.data(), 1, 32, stream), "add_scaled");
        stream.wait();
      },
      "not mapped on this device");
  int can = 0;
  must(cudaDeviceCanAccessPeer(&can, 1, 0), "cudaDeviceCanAccessPeer");
  EXPECT_EQ(can, 1);
  must(cudaDeviceEnablePeerAccess(0, 0), "cudaDeviceEnablePeerAccess");
  must(add_scaled(x.data(), y.data(), 1, 32, stream), "add_scaled");
  EXPECT_EQ(y.download(), std::vector<float>(32, 2));
}

TEST_F(EmulatedMachine, LiveObjectsAreWhatIsNotYetFreed) {
  EXPECT_EQ(cudaemu::live_objects(), 0U);
  {
    const DeviceBuffer<float> buffer(8);
    const Stream stream;
    EXPECT_EQ(cudaemu::live_objects(), 2U);
  }
  EXPECT_EQ(cudaemu::live_objects(), 0U);
}

// A small program that gives up at the first failure, without a leak.
cudaError_t copy_and_add() {
  void* memory = nullptr;
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaMalloc(&memory, 64);
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaMemsetAsync(memory, 0, 64, stream);
  auto* floats = static_cast<float*>(memory);
  if (error == cudaSuccess) error = add_scaled(floats, floats, 1, 16, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (stream != nullptr) cudaStreamDestroy(stream);
  cudaFree(memory);
  return error;
}

TEST_F(EmulatedMachine, EveryCallFailsOnce) {
  std::vector<cudaError_t> errors;
  const int failed = cudaemu::for_each_failure([&] {
    errors.push_back(copy_and_add());
    EXPECT_EQ(cudaemu::live_objects(), 0U);
  });
  // Two of the calls are launch()'s own, which asks what the device can do.
  EXPECT_EQ(failed, 7);
  ASSERT_EQ(errors.size(), 8U);
  EXPECT_EQ(errors[0], cudaErrorMemoryAllocation);
  EXPECT_EQ(errors[2], cudaErrorUnknown);
  EXPECT_EQ(errors[7], cudaSuccess);
}

TEST_F(EmulatedMachine, TheChosenCallFails) {
  cudaemu::fail_call("cudaMalloc", 2, cudaErrorInvalidValue);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 8), cudaSuccess);
  void* q = nullptr;
  EXPECT_EQ(cudaMalloc(&q, 8), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

TEST_F(EmulatedMachine, AKernelThatWaitsForTheHostGoesOnWhenItHasAnswered) {
  DeviceBuffer<std::uint32_t> out(std::vector<std::uint32_t>(1));
  std::uint32_t* word = nullptr;
  must(cudaHostAlloc(reinterpret_cast<void**>(&word), sizeof *word, cudaHostAllocDefault), "cudaHostAlloc");
  *word = 0;
  {
    const Stream stream;
    must(wait_for_one(word, out.data(), stream), "wait_for_one");
    for (int turn = 0; turn < 50; ++turn) ASSERT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
    EXPECT_DEATH(stream.wait(), "the host waits for a stream that waits for the host");
    std::atomic_ref(*word).store(1, std::memory_order_release);
    stream.wait();
  }
  EXPECT_EQ(out.download()[0], 1U);
  must(cudaFreeHost(word), "cudaFreeHost");
}

}  // namespace

}  // namespace sirocco::test
