#include "kernels/cpu/kernels.h"

#include <algorithm>
#include <array>

#include "kernels/cpu/kernels_isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace sirocco::cpu {
namespace {

struct Candidate {
  const Kernels* table;
  bool runs;
};

#if defined(__x86_64__)
// What clang 14's __builtin_cpu_supports has no name for.
bool has_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool has_avx_vnni() {
  constexpr unsigned kAvxVnni = 1U << 4;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
}

std::array<Candidate, 3> candidates() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  return {{{&avx512_vnni::kTable, avx2 && avx512}, {&avx_vnni::kTable, avx2 && has_avx_vnni()}, {&avx2::kTable, avx2}}};
}
#elif defined(__aarch64__)
std::array<Candidate, 1> candidates() {
  return {{{&neon_dotprod::kTable, (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0}}};
}
#else
std::array<Candidate, 0> candidates() {
  return {};
}
#endif

struct Found {
  std::array<const Kernels*, 4> tables = {};
  std::size_t count = 0;
};

const Found& found() {
  static const Found result = [] {
    Found those;
    for (const Candidate& candidate : candidates())
      if (candidate.runs) those.tables[those.count++] = candidate.table;
    return those;
  }();
  return result;
}

}  // namespace

std::span<const Kernels* const> kernels() {
  return std::span(found().tables).first(found().count);
}

const Kernels* find_kernels(std::string_view isa) {
  for (const Kernels* table : kernels())
    if (table->isa == isa) return table;
  return nullptr;
}

}  // namespace sirocco::cpu
