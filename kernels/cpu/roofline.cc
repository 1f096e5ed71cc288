#include "kernels/cpu/roofline.h"

#include "kernels/cpu/simd.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

SIROCCO_INLINE std::uint64_t checksum(Ints16 x) {
  std::int32_t lanes[16];
  store_ints(lanes, x);
  std::uint64_t sum = 0;
  for (const std::int32_t lane : lanes) sum += static_cast<std::uint32_t>(lane);
  return sum;
}

}  // namespace

std::uint64_t read_memory(const std::byte* p, std::size_t bytes) {
  constexpr std::size_t kStreams = 4;
  Ints16 sums[kStreams];
  for (Ints16& sum : sums) sum = zero_ints();
  for (std::size_t at = 0; at < bytes; at += 1024) {
    prefetch(p + at + 4096);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 16; ++i) {
      Ints16& sum = sums[i % kStreams];
      sum = add(sum, load_ints(reinterpret_cast<const std::int32_t*>(p + at + 64 * i)));
    }
  }
  return checksum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

std::uint64_t integer_peak(std::size_t rounds) {
  constexpr std::size_t kSums = kTileRows < 6 ? kTileRows : 12;  // as many as the registers hold
  Ints16 sums[kSums];
  Bytes64 w = broadcast_byte(static_cast<std::uint8_t>(rounds % 100));
  const Bytes64 x = broadcast_byte(3);
  // Each begins with another number that is not known here: g++ copies registers all the time that began as the same.
#pragma GCC unroll 12
  for (std::size_t i = 0; i < kSums; ++i) sums[i] = broadcast_int(static_cast<std::int32_t>(rounds + i));
  for (std::size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 1
    for (std::size_t i = 0; i < 12; i += kSums) {
#pragma GCC unroll 12
      for (std::size_t j = 0; j < kSums; ++j) {
        hide(w);  // or products would be taken together
        sums[j] = dot(sums[j], w, x);
      }
    }
  }
  Ints16 sum = zero_ints();
#pragma GCC unroll 12
  for (std::size_t i = 0; i < kSums; ++i) sum = add(sum, sums[i]);
  return checksum(sum);
}

}  // namespace sirocco::cpu::SIROCCO_ISA
