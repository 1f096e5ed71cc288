#include "engine/gguf/mapping_guard.h"

#include <sys/mman.h>
#include <sys/stat.h>
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
  // Not for the handler:
  int descriptor = -1;  // of the file, or -1: it is not watched
  timespec written{};   // when it was last written to, as of its mapping
};

enum Loss : int { none, being_recorded, cut_short, overwritten };

std::array<GuardedMapping, kMappings> mappings;
std::size_t mappings_touched = 0;  // entries from here on were never used
std::mutex registration;           // of entries; never taken by the handler
std::atomic<int> loss{none};
PathText lost_path{};  // valid once `loss` is `cut_short` or `overwritten`
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

// The first loss is kept. Async-signal-safe.
void record_loss(Loss kind, const PathText& path) {
  int expected = none;
  if (!loss.compare_exchange_strong(expected, being_recorded)) return;
  lost_path = path;
  loss.store(kind, std::memory_order_release);
}

// Async-signal-safe: atomics, one mmap system call, no allocation, errno kept.
void on_bus_error(int signal, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  const bool is_fault = info->si_code > 0;  // raised by the kernel, not sent with kill()
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  GuardedMapping* const mapping = is_fault ? mapping_at(address) : nullptr;
  void* const page = reinterpret_cast<void*>(address / page_bytes * page_bytes);
  if (mapping != nullptr && mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
    record_loss(cut_short, mapping->path);
    errno = saved_errno;
    return;  // the faulting instruction runs again and reads zeros
  }
  sigaction(SIGBUS, &previous_action, nullptr);
  if (!is_fault) raise(signal);  // a fault repeats by itself, a sent signal does not
  errno = saved_errno;
}

// Pages that are still there raise no signal when their file is written to: its size and time of writing tell. (Not
// st_ctime, which deleting or renaming a file changes, too, and that does no harm.)
void look_at_files() {
  const std::lock_guard lock(registration);
  for (std::size_t i = 0; i < mappings_touched; ++i) {
    const GuardedMapping& mapping = mappings[i];
    struct stat now {};
    if (mapping.begin == 0 || mapping.descriptor < 0 || fstat(mapping.descriptor, &now) != 0) continue;
    const auto size = static_cast<off_t>(mapping.end - mapping.begin);
    const bool same_time =
        now.st_mtim.tv_sec == mapping.written.tv_sec && now.st_mtim.tv_nsec == mapping.written.tv_nsec;
    if (now.st_size == size && same_time) continue;
    return record_loss(now.st_size < size ? cut_short : overwritten, mapping.path);
  }
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

bool guard_mapping(Bytes mapping, int descriptor, const std::string& path) {
  struct stat status {};
  if (descriptor >= 0 && fstat(descriptor, &status) != 0) descriptor = -1;
  const std::lock_guard lock(registration);
  const auto free = std::find_if(mappings.begin(), mappings.end(), [](const auto& entry) { return entry.begin == 0; });
  if (free == mappings.end()) return false;
  mappings_touched = std::max(mappings_touched, static_cast<std::size_t>(free - mappings.begin()) + 1);
  free->descriptor = descriptor;
  free->written = status.st_mtim;
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
  if (loss.load(std::memory_order_acquire) == none) look_at_files();
  switch (loss.load(std::memory_order_acquire)) {
    case cut_short:
      return fmt::format(
          "{}: the file was cut short, or its disk failed, while it was in use; restore it and start again",
          lost_path.data());
    case overwritten:
      return fmt::format(
          "{}: the file was written to while it was in use; start again to use what it holds now (a new model takes "
          "the "
          "place of one in use by renaming: mv, not cp)",
          lost_path.data());
    default:
      return std::nullopt;
  }
}

}  // namespace sirocco
