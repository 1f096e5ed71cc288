// A golden model whose metadata says something else: refused, or a spec within its own bounds. The input is changes,
// each a byte for the key, one for the type and eight for the value.
#include <cstdlib>
#include <cstring>

#include "engine/model/model.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

class ChangedFile final : public GgufFile {
 public:
  explicit ChangedFile(const GgufFile& file) : GgufFile(file) {}
  GgufMetadata& changing() { return metadata_; }
};

// Keys that no golden model has, without the architecture in front.
constexpr std::array<std::string_view, 12> kMore = {
    "rope.scaling.type",        "rope.scaling.factor",         "rope.scaling.original_context_length",
    "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_attn_factor",
    "rope.scale_linear",        "attention.sliding_window",    "attention.scale",
    "expert_weights_scale",     "expert_weights_norm",         "attention.value_length"};

template <class T>
T as(const std::uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

GgufValue value_of(std::uint8_t type, const std::uint8_t* bytes) {
  switch (type % 8) {
    case 0:
      return as<std::uint32_t>(bytes);
    case 1:
      return as<std::int32_t>(bytes);
    case 2:
      return as<float>(bytes);
    case 3:
      return as<std::uint64_t>(bytes);
    case 4:
      return as<double>(bytes);
    case 5:
      return bytes[0] % 2 == 1;
    case 6:
      return GgufArray(std::vector<std::int32_t>{as<std::int32_t>(bytes), as<std::int32_t>(bytes + 4)});
    default:
      return std::string(bytes[0] % 2 == 1 ? "yarn" : "linear");
  }
}

void use(const Model& model) {
  const ModelSpec& spec = model.spec();
  require(spec.layers > 0 && spec.layers == model.weights().layers.size());
  require(spec.width > 0 && spec.vocabulary > 0 && spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0);
  require(spec.rope.rotated <= spec.head_dim && spec.rope.rotated % 2 == 0);
  require(!spec.moe || (spec.moe->used > 0 && spec.moe->used <= spec.moe->experts && spec.moe->width > 0));
  require(model.bytes_per_token() > 0);
}

}  // namespace
}  // namespace sirocco

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco;
  static const std::array<std::shared_ptr<const GgufFile>, 3> models = {
      GgufFile::open(test::golden_dir() / "model" / "tiny-mixtral.gguf").value(),
      GgufFile::open(test::golden_dir() / "model" / "tiny-qwen3moe.gguf").value(),
      GgufFile::open(test::golden_dir() / "model" / "tiny-yarn.gguf").value()};
  if (size == 0) return 0;
  const GgufFile& original = *models.at(data[0] % models.size());
  const auto file = std::make_shared<ChangedFile>(original);
  std::vector<std::string> keys;
  for (const auto& [key, value] : original.metadata().values()) keys.push_back(key);
  const std::string architecture = original.metadata().string("general.architecture").value();
  for (const std::string_view key : kMore) keys.push_back(fmt::format("{}.{}", architecture, key));

  constexpr std::size_t change = 10;
  for (std::size_t at = 1; at + change <= size; at += change) {
    const std::string& key = keys.at(data[at] % keys.size());
    if (data[at + 1] == 0xFF) {
      file->changing().erase(key);
    } else {
      file->changing().set(key, value_of(data[at + 1], data + at + 2));
    }
  }
  if (const auto model = Model::bind(file)) use(**model);
  return 0;
}
