// Any bytes: either refused, or every promise of GgufFile holds for them.
#include <cstdint>
#include <cstdlib>

#include "engine/gguf/gguf_file.h"

namespace sirocco {
namespace {

volatile std::byte touched;  // keeps the compiler from dropping the reads

void require(bool promise) {
  if (!promise) std::abort();
}

void use_metadata(const GgufMetadata& metadata) {
  for (const auto& [key, value] : metadata.values()) {
    require(metadata.contains(key));
    // The getters must answer or refuse, whatever the type.
    const bool answered = metadata.integer(key) || metadata.number(key) || metadata.boolean(key) ||
                          metadata.string(key) || metadata.strings(key) || metadata.integers(key) ||
                          metadata.numbers(key);
    const auto* const array = std::get_if<GgufArray>(&value);
    const bool is_bool_array = array != nullptr && std::holds_alternative<std::vector<bool>>(*array);
    const bool has_large = array != nullptr && std::holds_alternative<std::vector<std::uint64_t>>(*array);
    require(answered || is_bool_array || has_large);
  }
}

void use_tensors(const GgufFile& file, Bytes bytes) {
  std::uint64_t total = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    const TensorTypeInfo* const info = tensor_type_info(tensor.type);
    require(info != nullptr && file.find(tensor.name) == &tensor && tensor.bytes > 0);
    require(tensor.elements() / info->block_size * info->block_bytes == tensor.bytes);
    require(tensor.offset % file.alignment() == 0);
    const Bytes data = file.data(tensor);
    require(data.data() >= bytes.data() && data.data() + data.size() <= bytes.data() + bytes.size());
    touched = data.front() ^ data.back();
    total += data.size();
  }
  require(total <= bytes.size());  // no byte belongs to two tensors
}

}  // namespace
}  // namespace sirocco

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const sirocco::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (const auto file = sirocco::GgufFile::parse(bytes)) {
    sirocco::use_metadata((*file)->metadata());
    sirocco::use_tensors(**file, bytes);
  }
  return 0;
}
