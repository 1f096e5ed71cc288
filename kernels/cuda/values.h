// The unsigned (Q8_0: signed) value of one element of a quantised block, and what a block's scales are made of: what
// the repacking into tiles reads, on the host and on the device. One function for each type; see
// kernels/quant_blocks.h.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/quant_blocks.h"

namespace sirocco::cuda {

// Bytes of std::array are read through a pointer: its operator[] is not for device code.
template <class T>
SIROCCO_HOST_DEVICE inline const std::uint8_t* bytes_of(const T& field) {
  return reinterpret_cast<const std::uint8_t*>(&field);
}

// Of a nibble type in blocks of 32: elements 0 to 15 are the low nibbles, 16 to 31 the high ones.
SIROCCO_HOST_DEVICE inline unsigned nibble_of_32(const std::uint8_t* nibbles, unsigned i) {
  return nibbles[i % 16] >> (4 * (i / 16)) & 15U;
}
SIROCCO_HOST_DEVICE inline unsigned bit_of_32(const std::uint8_t* bits, unsigned i) {
  return bits[i / 8] >> (i % 8) & 1U;
}
// Of Q4_K and Q5_K: runs 2g and 2g + 1 of 32 elements are the low and the high nibbles of bytes 32 g to 32 g + 31.
SIROCCO_HOST_DEVICE inline unsigned nibble_of_256(const std::uint8_t* nibbles, unsigned i) {
  return nibbles[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15U;
}
// Of Q2_K and Q3_K: element 128 h + 32 s + l is bits 2s and 2s + 1 of byte 32 h + l.
SIROCCO_HOST_DEVICE inline unsigned pair_of_256(const std::uint8_t* pairs, unsigned i) {
  return pairs[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3U;
}

SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ4_0& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles), i);
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ4_1& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles), i);
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ5_0& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles), i) | bit_of_32(bytes_of(b.fifth_bits), i) << 4;
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ5_1& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles), i) | bit_of_32(bytes_of(b.fifth_bits), i) << 4;
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ8_0& b, unsigned i) {
  return bytes_of(b.q)[i];
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockIQ4_NL& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles), i);
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockMXFP4& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles), i);
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ2_K& b, unsigned i) {
  return pair_of_256(bytes_of(b.pairs), i);
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ3_K& b, unsigned i) {
  return pair_of_256(bytes_of(b.pairs), i) | (bytes_of(b.third_bits)[i % 32] >> (i / 32) & 1U) << 2;
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ4_K& b, unsigned i) {
  return nibble_of_256(bytes_of(b.nibbles), i);
}
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ5_K& b, unsigned i) {
  return nibble_of_256(bytes_of(b.nibbles), i) | (bytes_of(b.fifth_bits)[i % 32] >> (i / 32) & 1U) << 4;
}
// Of each half of 128: elements 0 to 63 are the low nibbles of 64 bytes, 64 to 127 the high ones; the upper two bits of
// element 32 s + l are bits 2s and 2s + 1 of byte l of 32.
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockQ6_K& b, unsigned i) {
  const unsigned half = i / 128;
  const unsigned j = i % 128;
  return (bytes_of(b.nibbles)[64 * half + j % 64] >> (4 * (j / 64)) & 15U) |
         (bytes_of(b.pairs)[32 * half + j % 32] >> (2 * (j / 32)) & 3U) << 4;
}
// Runs of 32: elements 0 to 15 the low nibbles of 16 bytes, the others the high ones.
SIROCCO_HOST_DEVICE inline unsigned value_of(const BlockIQ4_XS& b, unsigned i) {
  return nibble_of_32(bytes_of(b.nibbles) + 16 * (i / 32), i % 32);
}

}  // namespace sirocco::cuda
