// A GGUF model file (or the parts of a split one), mapped read-only and checked. Everything in the file is hostile
// until open() has returned: counts, lengths, offsets, overlaps, types, shapes and names are validated there, so that
// what reads tensors later trusts them. The format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//
// Immutable after open(), shared by std::shared_ptr; any thread may read. The file is held by its descriptor: deleting
// or replacing it does no harm. A file truncated or written to while mapped is noticed by mapping_guard.h.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/result.h"
#include "kernels/tensor_type.h"

namespace sirocco {

// A metadata value. Arrays of numbers keep their element type; nested arrays are refused on reading.
using GgufArray = std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                               std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                               std::vector<float>, std::vector<bool>, std::vector<std::string>,
                               std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;
using GgufValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                               float, bool, std::string, std::uint64_t, std::int64_t, double, GgufArray>;

// Metadata in key order. The getters name the key, the type found and the type wanted in their errors.
class GgufMetadata {
 public:
  using Map = std::map<std::string, GgufValue, std::less<>>;

  const GgufValue* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  void set(std::string key, GgufValue value) { values_.insert_or_assign(std::move(key), std::move(value)); }
  void erase(std::string_view key);
  const Map& values() const { return values_; }

  // Any integer type that holds a value in range will do for an integer, any number for a float.
  Result<std::uint64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::string> string(std::string_view key) const;
  Result<std::vector<std::string>> strings(std::string_view key) const;
  Result<std::vector<std::int64_t>> integers(std::string_view key) const;
  Result<std::vector<float>> numbers(std::string_view key) const;

 private:
  Map values_;
};

// shape is in the file's order: shape[0] is the width of a row (contiguous), unused dimensions are 1. A weight matrix
// that maps K inputs to N outputs has shape [K, N], experts [K, N, E].
struct GgufTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::array<std::uint64_t, 4> shape = {1, 1, 1, 1};
  std::uint32_t dimensions = 1;
  std::uint32_t part = 0;    // which file of a split model
  std::uint64_t offset = 0;  // of its first byte in that file
  std::uint64_t bytes = 0;

  std::uint64_t elements() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
};

// "[4096, 14336, 8]"
std::string shape_text(const GgufTensor& tensor);

class GgufFile {
 public:
  // `path` may be any part of a split model (NAME-00001-of-00003.gguf): all parts are opened as one.
  static Result<std::shared_ptr<const GgufFile>> open(const std::filesystem::path& path);

  // The same checks on bytes in memory, for fuzzing and tests: one part, held by the caller.
  static Result<std::shared_ptr<const GgufFile>> parse(Bytes bytes, std::string name = "memory");

  virtual ~GgufFile() = default;

  struct Part {
    std::filesystem::path path;
    int descriptor = -1;  // open for reading; -1 for parse()
    Bytes mapping;
    std::uint64_t data_offset = 0;
  };

  const std::filesystem::path& path() const { return path_; }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  const GgufMetadata& metadata() const { return metadata_; }
  std::span<const GgufTensor> tensors() const { return tensors_; }  // in file order
  const GgufTensor* find(std::string_view name) const;
  Bytes data(const GgufTensor& tensor) const;  // tensor.bytes mapped bytes
  std::span<const Part> parts() const { return parts_; }

 protected:
  GgufFile() = default;
  std::filesystem::path path_;
  std::uint32_t version_ = 3;
  std::uint64_t alignment_ = 32;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::vector<Part> parts_;
};

}  // namespace sirocco
