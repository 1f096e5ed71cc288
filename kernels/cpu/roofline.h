// What this machine can do at most, for benchmarks to print beside what the kernels do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sirocco::cpu::SIROCCO_ISA {

// Reads `bytes` (a multiple of 1024) as fast as one thread can; a checksum, so that nothing is left out.
std::uint64_t read_memory(const std::byte* p, std::size_t bytes);

// `rounds` rounds of independent integer dot products in registers, as the linear kernels use them (vpdpbusd,
// vpmaddubsw + vpmaddwd + vpaddd, sdot). Returns a checksum; each round is kPeakMultiplies multiplications and as many
// additions.
std::uint64_t integer_peak(std::size_t rounds);

}  // namespace sirocco::cpu::SIROCCO_ISA
