// Everything in a GGUF file before its tensors' data, decoded and checked. One file at a time: gguf_file.cc joins the
// parts of a split model. Pure functions on bytes: no I/O, any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace sirocco {

// The limits of what is read, far above any published model and far below what would hurt.
struct GgufLimits {
  static constexpr std::uint64_t header_bytes = 512 * MiB;  // metadata and tensor table; a 256k vocabulary needs 20 MiB
  // What texts and arrays take once decoded, a string's own 32 bytes included: a file may be sparse, and 8 bytes of it
  // an empty string. A vocabulary of 256k tokens with its merges takes 40 MiB.
  static constexpr std::uint64_t decoded_bytes = 256 * MiB;
  static constexpr std::uint64_t keys = 65536;
  static constexpr std::uint64_t tensors = 1U << 20;   // 61 layers x 384 experts, one tensor each, are 70k
  static constexpr std::uint64_t key_bytes = 65535;    // of the format
  static constexpr std::uint64_t name_bytes = 128;     // the format says 64
  static constexpr std::uint64_t alignment_min = 8;    // of the format
  static constexpr std::uint64_t alignment_max = MiB;  // common are 32 and, for direct I/O, 4096
  static constexpr std::uint64_t parts = 256;          // of a split model; all are mapped at once
};

struct GgufHeader {
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // offsets count from the file's first byte
  std::uint64_t data_offset = 0;    // where tensor data begins; the end of the table, rounded up to `alignment`
};

// `file` is the whole file. Errors say what is wrong, not in which file: the caller adds the path.
Result<GgufHeader> parse_gguf_header(Bytes file);

// general.alignment, or the format's default of 32. An error unless it is a power of two within the limits.
Result<std::uint64_t> gguf_alignment(const GgufMetadata& metadata);

// "u32", "string", "array of f32": what messages call a value's type.
std::string_view type_text(const GgufValue& value);

}  // namespace sirocco
