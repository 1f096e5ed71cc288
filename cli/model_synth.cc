#include "cli/model_synth.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "cli/model_progress.h"
#include "engine/gguf/random_blocks.h"

namespace sirocco {
namespace {

constexpr std::uint64_t kPoolBytes = 8 * MiB;

// Random blocks of one type and scale. Making random numbers is slower than a fast disk, so a few MiB are made once and
// every tensor is a walk through them from random places.
class BlockPool {
 public:
  BlockPool(TensorType type, float deviation, std::uint64_t needed, SplitMix64& random)
      : block_bytes_(tensor_type_info(type)->block_bytes) {
    blocks_.resize(std::min(needed, kPoolBytes) / block_bytes_ * block_bytes_);
    fill_random_blocks(type, deviation, random, blocks_);
  }

  // At most `bytes` bytes from a random block on.
  Bytes window(std::uint64_t bytes, SplitMix64& random) const {
    const std::uint64_t start = random.below(blocks_.size() / block_bytes_) * block_bytes_;
    return Bytes(blocks_).subspan(start, std::min(bytes, blocks_.size() - start));
  }

 private:
  std::uint64_t block_bytes_;
  std::vector<std::byte> blocks_;
};

// The deviation that keeps activations of size 1 at size 1: 1/sqrt(inputs) for what multiplies and sums them.
float deviation_of(const SynthTensor& tensor) {
  if (tensor.kind == SynthTensor::Kind::embedding) return 1.0F;
  return 1.0F / std::sqrt(static_cast<float>(tensor.declaration.shape[0]));
}

// Norm weights: near 1, all different.
std::vector<std::byte> norm_weights(std::uint64_t bytes, SplitMix64& random) {
  std::vector<std::byte> weights;
  for (std::uint64_t i = 0; i < bytes / sizeof(float); ++i) {
    const float weight = 1.0F + 0.1F * random.uniform();
    const auto raw = std::as_bytes(std::span(&weight, 1));
    weights.insert(weights.end(), raw.begin(), raw.end());
  }
  return weights;
}

class Synthesis {
 public:
  Synthesis(GgufWriter& writer, ModelProgress& progress, std::uint64_t seed)
      : writer_(writer), progress_(progress), random_(seed) {}

  Result<void> write(const SynthTensor& tensor) {
    const std::uint64_t bytes = writer_.current_bytes();
    if (tensor.kind == SynthTensor::Kind::norm) return writer_.append(norm_weights(bytes, random_));
    const auto& shape = tensor.declaration.shape;
    const std::uint64_t experts = shape.size() == 3 ? shape[2] : 1;
    for (std::uint64_t i = 0; i < experts; ++i) SIROCCO_CHECK(write_matrix(tensor, bytes / experts));
    return {};
  }

 private:
  Result<void> write_matrix(const SynthTensor& tensor, std::uint64_t bytes) {
    const float deviation = deviation_of(tensor);
    const auto key = std::pair(tensor.declaration.type, deviation);
    const auto [pool, is_new] = pools_.try_emplace(key, key.first, deviation, 4 * bytes, random_);
    while (bytes > 0) {
      const Bytes window = pool->second.window(bytes, random_);
      SIROCCO_CHECK(writer_.append(window));
      SIROCCO_CHECK(progress_.advance(window.size()));
      bytes -= window.size();
    }
    return {};
  }

  GgufWriter& writer_;
  ModelProgress& progress_;
  SplitMix64 random_;
  std::map<std::pair<TensorType, float>, BlockPool> pools_;
};

}  // namespace

Result<void> synth_model(const std::filesystem::path& output, const ModelPreset& preset, TensorType type,
                         std::uint64_t seed) {
  const std::vector<SynthTensor> tensors = synth_tensors(preset, type);
  std::vector<GgufWriter::TensorDeclaration> declarations;
  for (const SynthTensor& tensor : tensors) declarations.push_back(tensor.declaration);
  ModelProgress progress("writing " + output.string());
  SIROCCO_TRY(GgufWriter writer, GgufWriter::create(output, synth_metadata(preset), std::move(declarations)));
  progress.expect(writer.file_bytes());
  Synthesis synthesis(writer, progress, seed);
  for (const SynthTensor& tensor : tensors) SIROCCO_CHECK(synthesis.write(tensor));
  return writer.finish();
}

std::vector<std::string> synth_notes(const ModelPreset& preset, TensorType type) {
  std::vector<std::string> notes;
  std::set<std::string> seen;
  for (const SynthTensor& tensor : synth_tensors(preset, type)) {
    const auto& [name, actual, shape] = tensor.declaration;
    const std::string part = name.starts_with("blk.") ? name.substr(name.find('.', 4) + 1) : name;
    const TensorTypeInfo& wanted = *tensor_type_info(type);
    if (tensor.kind == SynthTensor::Kind::norm || tensor.kind == SynthTensor::Kind::router) continue;
    if (shape[0] % wanted.block_size == 0 || !seen.insert(part).second) continue;
    notes.push_back(fmt::format("{}: rows of {} are no whole number of {} blocks of {}; written as {}", part, shape[0],
                                wanted.name, wanted.block_size, tensor_type_info(actual)->name));
  }
  return notes;
}

}  // namespace sirocco
