#include "engine/gguf/mapping_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

namespace sirocco {
namespace {

constexpr std::size_t kMappings = 256;
constexpr std::size_t kPathBytes = 512;  // a longer path is cut in the message

using PathText = std::array<char, kPathBytes>;  // ends in '\0'

// `begin` is 0 while the entry is free; it is stored last and cleared first, so that the handler, which takes no lock,
// sees whole entries.
struct GuardedMapping {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};
  PathText path{};
};

enum Loss : int { none, being_written, known };

std::array<GuardedMapping, kMappings> mappings;
std::mutex registration;  // of entries; never taken by the handler
std::atomic<int> loss{none};
PathText lost_path{};  // valid once `loss` is `known`
struct sigaction previous_action {};
std::uintptr_t page_bytes = 4096;

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "the handler must not block");

GuardedMapping* mapping_at(std::uintptr_t address) {
  for (GuardedMapping& mapping : mappings) {
    const std::uintptr_t begin = mapping.begin.load(std::memory_order_acquire);
    if (begin != 0 && address >= begin && address < mapping.end.load(std::memory_order_relaxed)) return &mapping;
  }
  return nullptr;
}

// Async-signal-safe: atomics, one mmap system call, no allocation, errno kept.
void on_bus_error(int signal, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  const bool is_fault = info->si_code > 0;  // raised by the kernel, not sent with kill()
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  GuardedMapping* const mapping = is_fault ? mapping_at(address) : nullptr;
  void* const page = reinterpret_cast<void*>(address / page_bytes * page_bytes);
  if (mapping != nullptr && mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
    int expected = none;
    if (loss.compare_exchange_strong(expected, being_written)) {
      lost_path = mapping->path;
      loss.store(known, std::memory_order_release);
    }
    errno = saved_errno;
    return;  // the faulting instruction runs again and reads zeros
  }
  sigaction(SIGBUS, &previous_action, nullptr);
  if (!is_fault) raise(signal);  // a fault repeats by itself, a sent signal does not
  errno = saved_errno;
}

}  // namespace

void install_mapping_guard() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous_action);
  });
}

bool guard_mapping(Bytes mapping, const std::string& path) {
  const std::lock_guard lock(registration);
  const auto free = std::find_if(mappings.begin(), mappings.end(), [](const auto& entry) { return entry.begin == 0; });
  if (free == mappings.end()) return false;
  free->path = {};
  std::copy_n(path.begin(), std::min(path.size(), kPathBytes - 1), free->path.begin());
  const auto begin = reinterpret_cast<std::uintptr_t>(mapping.data());
  free->end.store(begin + mapping.size(), std::memory_order_relaxed);
  free->begin.store(begin, std::memory_order_release);
  return true;
}

void unguard_mapping(Bytes mapping) {
  const std::lock_guard lock(registration);
  const auto begin = reinterpret_cast<std::uintptr_t>(mapping.data());
  const auto found = std::find_if(mappings.begin(), mappings.end(), [&](const auto& m) { return m.begin == begin; });
  if (found != mappings.end()) found->begin.store(0, std::memory_order_release);
}

std::optional<std::string> lost_mapping() {
  if (loss.load(std::memory_order_acquire) != known) return std::nullopt;
  return fmt::format("{}: the file was cut short, or its disk failed, while it was in use; restore it and start again",
                     lost_path.data());
}

}  // namespace sirocco
