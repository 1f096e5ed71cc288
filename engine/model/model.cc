#include "engine/model/model.h"

#include <sys/mman.h>

#include <new>

#include "engine/base/printable.h"
#include "engine/model/architecture.h"

namespace sirocco {
namespace {

std::uint64_t matrix_bytes(const Matrix& m) {
  return m.data == nullptr ? 0 : m.outputs * row_bytes(m.type, m.inputs);
}
std::uint64_t expert_bytes(const ExpertWeights& e) {
  return matrix_bytes(e.gate) + matrix_bytes(e.up) + matrix_bytes(e.down);
}
std::uint64_t expert_parameters(const ExpertWeights& e) {
  return e.gate.inputs * e.gate.outputs + e.up.inputs * e.up.outputs + e.down.inputs * e.down.outputs;
}

// How the mapped parts are read next; a hint.
void advise(const GgufFile& file, int advice) {
  for (const GgufFile::Part& part : file.parts()) {
    if (part.descriptor >= 0) madvise(const_cast<std::byte*>(part.mapping.data()), part.mapping.size(), advice);
  }
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::open(const std::filesystem::path& path) {
  SIROCCO_TRY(const std::shared_ptr<const GgufFile> file, GgufFile::open(path));
  return bind(file);
}

Result<std::shared_ptr<const Model>> Model::bind(const std::shared_ptr<const GgufFile>& file) {
  const std::string where = file->path().filename().string();
  // The few KiB of each norm are copied. Each would make the kernel read MiB around it: on a disk with a read-ahead of
  // 8 MiB, a second for 48 layers.
  try {
    advise(*file, MADV_RANDOM);
    auto model = bind_tensors(file, where);
    advise(*file, MADV_NORMAL);
    return model;
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::out_of_memory, "{}: not enough memory for the table of its tensors", where);
  }
}

Result<std::shared_ptr<const Model>> Model::bind_tensors(std::shared_ptr<const GgufFile> file,
                                                         const std::string& where) {
  const auto name = file->metadata().string("general.architecture");
  if (!name) return fail(name.error().at(where));
  const Architecture* architecture = find_architecture(*name);
  if (architecture == nullptr)
    return fail(ErrorCode::unsupported, "{}: architecture \"{}\" is not one this build computes ({})", where,
                printable(*name), fmt::join(architecture_names(), ", "));
  auto spec = architecture->read_spec(*file);
  if (!spec) return fail(spec.error().at(where));

  const std::shared_ptr<Model> model(new Model());
  model->spec_ = *std::move(spec);
  ModelWeights& weights = model->weights_;
  TensorTable table(*file);
  const std::uint64_t width = model->spec_.width;
  table.need("token_embd.weight", {width, model->spec_.vocabulary}, weights.embedding);
  weights.output = weights.embedding;  // tied, unless the file has its own
  table.optional("output.weight", {width, model->spec_.vocabulary}, weights.output);
  table.need("output_norm.weight", width, weights.output_norm);
  table.optional("rope_freqs.weight", model->spec_.rope.rotated / 2, weights.rope_factors);
  weights.layers.resize(model->spec_.layers);
  for (std::uint32_t layer = 0; layer < model->spec_.layers; ++layer)
    architecture->bind_layer(model->spec_, layer, table, weights.layers[layer]);
  if (const auto bound = table.finish(); !bound) return fail(bound.error().at(where));
  model->file_ = std::move(file);
  model->measure();
  return model;
}

std::shared_ptr<const Model> Model::with_weights(ModelWeights weights, std::shared_ptr<const void> memory) const {
  const std::shared_ptr<Model> model(new Model(*this));
  model->weights_ = std::move(weights);
  model->memory_ = std::move(memory);
  return model;
}

void Model::measure() {
  for (const GgufTensor& tensor : file_->tensors()) {
    sizes_.dense_bytes += tensor.bytes;
    sizes_.parameters += tensor.elements();
  }
  const std::uint64_t embedding = weights_.embedding.inputs * weights_.embedding.outputs;
  const bool tied = weights_.embedding.data == weights_.output.data;
  sizes_.active_parameters = sizes_.parameters;
  sizes_.layer_parameters = sizes_.parameters - (tied ? 1 : 2) * embedding;
  if (!spec_.moe) return;
  for (const LayerWeights& layer : weights_.layers) {
    for (const ExpertWeights& expert : layer.experts) sizes_.expert_bytes += expert_bytes(expert);
    const std::uint64_t idle = (spec_.moe->experts - spec_.moe->used) * expert_parameters(layer.experts.front());
    sizes_.active_parameters -= idle;
    sizes_.layer_parameters -= idle;
  }
  sizes_.dense_bytes -= sizes_.expert_bytes;
}

std::uint64_t Model::bytes_per_token() const {
  std::uint64_t bytes = sizes_.dense_bytes;
  // Of an untied embedding one row is read, of a tied one all of it, as the output matrix.
  if (weights_.embedding.data != weights_.output.data) bytes -= matrix_bytes(weights_.embedding);
  if (spec_.moe) bytes += sizes_.expert_bytes / spec_.moe->experts * spec_.moe->used;
  return bytes;
}

}  // namespace sirocco
