// NVIDIA's management library (NVML), loaded while the program runs, since machines without its driver have none: what
// CUDA does not tell of a GPU. From any thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/backend/backend.h"

namespace sirocco::cuda {

class Nvml {
 public:
  // pci_bus_id: of the GPU, "0000:01:00.0". library: tests bring their own. Error: it is not there, or does not know
  // this GPU.
  static Result<std::unique_ptr<Nvml>> load(const std::string& pci_bus_id, const char* library = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // Driver, memory in use, clocks, temperature, throttling; each as far as it can be known.
  void fill(DeviceState& state) const;
  // The number of the last Xid (the driver's word for what went wrong) that was reported since the last time.
  std::optional<std::uint64_t> take_xid() const;

 private:
  struct Library;
  explicit Nvml(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace sirocco::cuda
