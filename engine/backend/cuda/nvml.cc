#include "engine/backend/cuda/nvml.h"

#include <dlfcn.h>

#include <array>
#include <utility>

namespace sirocco::cuda {
namespace {

// What of NVML's interface is used, by its own numbers: it is stable, and its header comes with the driver alone.
using Device = void*;
using Events = void*;
constexpr int kSuccess = 0;
constexpr int kClockOfSms = 1;
constexpr int kTemperatureOfGpu = 0;
constexpr unsigned long long kXidEvent = 0x8;

struct Memory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
struct EventData {
  Device device;
  unsigned long long type;
  unsigned long long data;
  unsigned gpu_instance;
  unsigned compute_instance;
};

// Reasons for which clocks are held down; an idle GPU, and clocks that somebody has chosen, are none.
constexpr std::array<std::pair<unsigned long long, const char*>, 6> kReasons = {{{0x04, "its power limit"},
                                                                                 {0x08, "the hardware"},
                                                                                 {0x20, "heat"},
                                                                                 {0x40, "heat, by the hardware"},
                                                                                 {0x80, "the power supply"},
                                                                                 {0x10, "the other GPUs"}}};

}  // namespace

struct Nvml::Library {
  void* handle = nullptr;
  bool initialised = false;
  Device device = nullptr;
  Events events = nullptr;

  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*device_by_pci)(const char*, Device*) = nullptr;
  int (*clock)(Device, int, unsigned*) = nullptr;
  int (*max_clock)(Device, int, unsigned*) = nullptr;
  int (*temperature)(Device, int, unsigned*) = nullptr;
  int (*memory)(Device, void*) = nullptr;  // Memory
  int (*throttle_reasons)(Device, unsigned long long*) = nullptr;
  int (*event_set_create)(Events*) = nullptr;
  int (*register_events)(Device, unsigned long long, Events) = nullptr;
  int (*event_wait)(Events, void*, unsigned) = nullptr;  // EventData
  int (*event_set_free)(Events) = nullptr;

  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (events != nullptr) event_set_free(events);
    if (initialised) shutdown();
    if (handle != nullptr) dlclose(handle);
  }

  template <class Function>
  bool find(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(handle, name));
    return function != nullptr;
  }
};

Nvml::Nvml(std::unique_ptr<Library> library) : library_(std::move(library)) {}
Nvml::~Nvml() = default;

Result<std::unique_ptr<Nvml>> Nvml::load(const std::string& pci_bus_id, const char* library) {
  auto l = std::make_unique<Library>();
  l->handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (l->handle == nullptr) return fail(ErrorCode::not_found, "NVML cannot be loaded ({})", dlerror());
  const bool complete =
      l->find(l->init, "nvmlInit_v2") && l->find(l->shutdown, "nvmlShutdown") &&
      l->find(l->error_string, "nvmlErrorString") && l->find(l->driver_version, "nvmlSystemGetDriverVersion") &&
      l->find(l->device_by_pci, "nvmlDeviceGetHandleByPciBusId_v2") && l->find(l->clock, "nvmlDeviceGetClockInfo") &&
      l->find(l->max_clock, "nvmlDeviceGetMaxClockInfo") && l->find(l->temperature, "nvmlDeviceGetTemperature") &&
      l->find(l->memory, "nvmlDeviceGetMemoryInfo") &&
      l->find(l->throttle_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons") &&
      l->find(l->event_set_create, "nvmlEventSetCreate") && l->find(l->register_events, "nvmlDeviceRegisterEvents") &&
      l->find(l->event_wait, "nvmlEventSetWait_v2") && l->find(l->event_set_free, "nvmlEventSetFree");
  if (!complete) return fail(ErrorCode::unsupported, "{} lacks what is asked of NVML", library);
  if (const int status = l->init(); status != kSuccess)
    return fail(ErrorCode::unsupported, "NVML does not work: {}", l->error_string(status));
  l->initialised = true;
  if (const int status = l->device_by_pci(pci_bus_id.c_str(), &l->device); status != kSuccess)
    return fail(ErrorCode::unsupported, "NVML does not know the GPU {}: {}", pci_bus_id, l->error_string(status));
  // A GPU without Xid events only leaves the number out of a message.
  if (l->event_set_create(&l->events) != kSuccess) {
    l->events = nullptr;
  } else if (l->register_events(l->device, kXidEvent, l->events) != kSuccess) {
    l->event_set_free(std::exchange(l->events, nullptr));
  }
  return std::unique_ptr<Nvml>(new Nvml(std::move(l)));
}

void Nvml::fill(DeviceState& state) const {
  const Library& l = *library_;
  std::array<char, 96> driver = {};
  if (l.driver_version(driver.data(), static_cast<unsigned>(driver.size())) == kSuccess) state.driver = driver.data();
  Memory memory = {};
  if (l.memory(l.device, &memory) == kSuccess) {
    state.memory = memory.total;
    state.used = memory.used;
  }
  const auto number = [&](int (*get)(Device, int, unsigned*), int which) -> std::optional<std::uint32_t> {
    unsigned value = 0;
    return get(l.device, which, &value) == kSuccess ? std::optional<std::uint32_t>(value) : std::nullopt;
  };
  state.clock_mhz = number(l.clock, kClockOfSms);
  state.most_mhz = number(l.max_clock, kClockOfSms);
  if (const auto celsius = number(l.temperature, kTemperatureOfGpu)) state.celsius = *celsius;
  unsigned long long reasons = 0;
  if (l.throttle_reasons(l.device, &reasons) == kSuccess) {
    for (const auto& [bit, words] : kReasons)
      if ((reasons & bit) != 0) state.throttled += (state.throttled.empty() ? "" : ", ") + std::string(words);
  } else {
    state.unknown = "whether its clock is held down: the driver does not say";
  }
}

std::optional<std::uint64_t> Nvml::take_xid() const {
  if (library_->events == nullptr) return std::nullopt;
  std::optional<std::uint64_t> last;
  EventData event = {};
  while (library_->event_wait(library_->events, &event, 0) == kSuccess)
    if (event.type == kXidEvent) last = event.data;
  return last;
}

}  // namespace sirocco::cuda
