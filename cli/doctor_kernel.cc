#include <charconv>
#include <fstream>

#include "cli/doctor_checks.h"
#include "engine/experts/transfer_queue.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

// Ubuntu 22.04's and JetPack 6's: the oldest that is tested.
constexpr int kOldestMajor = 5;
constexpr int kOldestMinor = 15;

std::optional<int> leading_number(std::string_view& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace

Finding check_kernel(std::string_view release) {
  const std::string found = fmt::format("Linux {}", release);
  const auto major = leading_number(release);
  if (major && release.starts_with('.')) {
    release.remove_prefix(1);
    const auto minor = leading_number(release);
    if (minor && std::pair(*major, *minor) >= std::pair(kOldestMajor, kOldestMinor)) return finding_ok("kernel", found);
  }
  return finding_warning(
      "kernel", found,
      fmt::format("older than {}.{}, the oldest that is tested: update the system", kOldestMajor, kOldestMinor));
}

Result<void> set_up_io_uring() {
  SIROCCO_TRY(const auto queue, make_uring_queue());
  return {};
}

Finding check_io_uring(const Result<void>& ring, const fs::path& root) {
  if (ring) return finding_ok("io_uring", "works");
  const std::string disabled = first_line(root / "proc/sys/kernel/io_uring_disabled");
  const std::string found = ring.error().message();
  constexpr std::string_view kOtherwise = "; without it reads go through threads, which is slower";
  if (disabled == "2")
    return finding_warning("io_uring", found,
                           fmt::format("sysctl kernel.io_uring_disabled=2 forbids it: set it to 0{}", kOtherwise));
  if (disabled == "1")
    return finding_warning(
        "io_uring", found,
        fmt::format("sysctl kernel.io_uring_disabled=1 allows it to the group in kernel.io_uring_group: put the "
                    "daemon's user into it, or set it to 0{}",
                    kOtherwise));
  return finding_warning(
      "io_uring", found,
      fmt::format("a seccomp filter (of a container, as a rule) forbids it: allow io_uring_setup, io_uring_enter and "
                  "io_uring_register{}",
                  kOtherwise));
}

Finding check_huge_pages(const fs::path& root) {
  const std::string line = first_line(root / "sys/kernel/mm/transparent_hugepage/enabled");
  if (line.empty())
    return finding_warning("huge pages", "this kernel has no transparent huge pages",
                           "experts are computed a little slower; nothing to do but another kernel");
  const auto begin = line.find('[');
  const auto end = line.find(']', begin);
  const std::string chosen =
      begin == std::string::npos || end == std::string::npos ? line : line.substr(begin + 1, end - begin - 1);
  if (chosen != "never") return finding_ok("huge pages", fmt::format("transparent, {}", chosen));
  return finding_warning(
      "huge pages", "transparent huge pages are off",
      "weights are computed a little slower: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

Finding check_processor(std::span<const std::string_view> isas) {
  if (isas.empty())
    return finding_warning(
        "processor", "has none of the instructions that sirocco has fast kernels for",
        "it computes with plain C++, many times slower: AVX2 (x86-64) or dot products (ARMv8.2) are needed");
  std::string found = fmt::format("computes with {}", isas.front());
  if (isas.size() > 1) found += fmt::format(" (also has {})", fmt::join(isas.subspan(1), ", "));
  return finding_ok("processor", found);
}

}  // namespace sirocco
