// Stands for NVIDIA's management library, with the functions that are used of it: one GPU at 0000:01:00.0. FAKE_NVML in
// the environment says what is wrong: "broken" (nothing works), "silent" (it knows the GPU, and nothing of it).
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

constexpr int kNotSupported = 3;
constexpr int kNotFound = 6;
constexpr int kTimeout = 10;
int device = 0;
int xids = 2;  // to be told

bool is(std::string_view what) {
  const char* const said = std::getenv("FAKE_NVML");
  return said != nullptr && said == what;
}

int tell(unsigned* out, unsigned value) {
  if (is("silent")) return kNotSupported;
  *out = value;
  return 0;
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  return is("broken") ? 9 : 0;
}
int nvmlShutdown() {
  return 0;
}
const char* nvmlErrorString(int status) {
  return status == 9 ? "Driver Not Loaded" : "Not Found";
}
int nvmlSystemGetDriverVersion(char* version, unsigned length) {
  std::strncpy(version, "580.65.06", length);
  return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** handle) {
  if (std::string_view(id) != "0000:01:00.0") return kNotFound;
  *handle = &device;
  return 0;
}
int nvmlDeviceGetClockInfo(void*, int, unsigned* mhz) {
  return tell(mhz, 1200);
}
int nvmlDeviceGetMaxClockInfo(void*, int, unsigned* mhz) {
  return tell(mhz, 1980);
}
int nvmlDeviceGetTemperature(void*, int, unsigned* celsius) {
  return tell(celsius, 83);
}
int nvmlDeviceGetMemoryInfo(void*, void* memory) {
  if (is("silent")) return kNotSupported;
  const unsigned long long numbers[] = {1000, 400, 600};
  std::memcpy(memory, numbers, sizeof numbers);
  return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) {
  if (is("silent")) return kNotSupported;
  *reasons = 0x1 | 0x4 | 0x20;
  return 0;
}
int nvmlEventSetCreate(void** events) {
  *events = &xids;
  return 0;
}
int nvmlDeviceRegisterEvents(void*, unsigned long long, void*) {
  return is("silent") ? kNotSupported : 0;
}
int nvmlEventSetWait_v2(void*, void* event, unsigned) {
  if (xids == 0) return kTimeout;
  struct {
    void* device;
    unsigned long long type;
    unsigned long long data;
    unsigned instances[2];
  } told = {.device = &device, .type = 0x8, .data = xids == 2 ? 13U : 79U, .instances = {}};
  --xids;
  std::memcpy(event, &told, sizeof told);
  return 0;
}
int nvmlEventSetFree(void*) {
  return 0;
}

}  // extern "C"
