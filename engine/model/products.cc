#include "engine/model/products.h"

#include <algorithm>
#include <cassert>

#include "engine/base/bytes.h"
#include "kernels/ref/add.h"

namespace sirocco {
namespace {

// From so many rows on, weights are expanded for all of them instead of streamed for four at a time. Of 3, 4, 5, 6 and
// 9 the fastest for 16 sequences of a Mixture-of-Experts model (docs/measurements.md).
constexpr std::size_t kPanelRows = 5;
// Weights of a chunk: enough that taking one costs nothing, few enough that no thread waits long for another's last.
constexpr std::size_t kChunkBytes = 64 * KiB;
constexpr std::size_t kFewPanelRows = 32;  // up to so many, a chunk is several panels
constexpr std::size_t kRowGroup = 64;      // rows whose addresses are gathered at once
constexpr std::size_t kTileSlack = 12;     // rows that the last tile of a group may be larger than the group

std::size_t rounded(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

struct Sizes {
  std::size_t rows = 0;
  std::array<std::size_t, kActivationFormats> quantised = {};
  std::size_t tiles = 0;
  std::size_t tile_sets = 0;
  std::size_t scratch = 0;
};

Sizes sizes_of(const Kernels& kernels, std::span<const Products::Use> uses) {
  Sizes sizes;
  for (const Products::Use& use : uses) {
    const std::size_t met = std::max(use.met, use.rows);
    sizes.rows = std::max(sizes.rows, use.rows);
    bool packs = false;
    for (const ActivationFormat format : {ActivationFormat::q8_32, ActivationFormat::q8_256}) {
      if (!use.formats.has(format)) continue;
      std::size_t& bytes = sizes.quantised.at(static_cast<std::size_t>(format));
      bytes = std::max(bytes, use.rows * kernels.activation_bytes(format, use.inputs));
      packs = true;
    }
    if (packs && met >= kPanelRows) {
      // int8 with scales and sums: at most 1.4 bytes for each input.
      const std::size_t tile_rows = met + use.groups * kTileSlack;
      sizes.tiles = std::max(sizes.tiles, use.products * (tile_rows * use.inputs * 7 / 5 + use.groups * 64));
    }
    sizes.tile_sets = std::max(sizes.tile_sets, use.products * use.groups);
    sizes.scratch = std::max({sizes.scratch, row_scratch_floats(use.inputs) * sizeof(float), panel_scratch_bytes(met)});
  }
  sizes.scratch = rounded(sizes.scratch);
  return sizes;
}

}  // namespace

Products::Products(const Kernels& kernels, ThreadPool& pool, std::span<const Use> uses)
    : kernels_(kernels), pool_(pool) {
  const Sizes sizes = sizes_of(kernels, uses);
  f32_.resize(sizes.rows);
  for (std::size_t i = 0; i < kActivationFormats; ++i) quantised_[i].resize(sizes.quantised[i]);
  tile_memory_.resize(sizes.tiles);
  tiles_.reserve(sizes.tile_sets);
  tile_chunks_.reserve(sizes.tile_sets);
  tasks_.reserve(2 * sizes.tile_sets);
  scratch_.assign(pool.threads(), AlignedVector<std::byte>(sizes.scratch));
}

std::uint64_t Products::bytes(const Kernels& kernels, std::size_t threads, std::span<const Use> uses) {
  const Sizes sizes = sizes_of(kernels, uses);
  std::uint64_t bytes = sizes.rows * sizeof(float*) + sizes.tiles + threads * sizes.scratch;
  for (const std::size_t part : sizes.quantised) bytes += part;
  return bytes;
}

void Products::begin_prepare(std::size_t rows, std::size_t inputs, const FormatSet& formats) {
  assert(rows <= f32_.size());
  inputs_ = inputs;
  formats_ = formats;
  for (const ActivationFormat format : {ActivationFormat::q8_32, ActivationFormat::q8_256}) {
    if (!formats.has(format)) continue;
    const auto i = static_cast<std::size_t>(format);
    row_bytes_.at(i) = kernels_.activation_bytes(format, inputs);
    assert(rows * row_bytes_.at(i) <= quantised_.at(i).size());
  }
}

void Products::prepare_row(std::size_t i, const float* x) {
  f32_[i] = x;
  for (const ActivationFormat format : {ActivationFormat::q8_32, ActivationFormat::q8_256}) {
    if (!formats_.has(format)) continue;
    const auto f = static_cast<std::size_t>(format);
    kernels_.quantise(format, x, inputs_, quantised_.at(f).data() + i * row_bytes_.at(f));
  }
}

const std::byte* Products::row(ActivationFormat format, std::size_t i) const {
  assert(format == ActivationFormat::f32 || formats_.has(format));
  if (format == ActivationFormat::f32) return reinterpret_cast<const std::byte*>(f32_[i]);
  const auto f = static_cast<std::size_t>(format);
  return quantised_[f].data() + i * row_bytes_[f];
}

bool Products::by_panels(const Matrix& w, std::size_t rows) const {
  return rows >= kPanelRows && kernels_.linear(w.type).panel != nullptr;
}

// The rows packed for w's type; packed together with others by pack(), once for all matrices that want them so.
const std::byte* Products::tiles_for(const Matrix& w, std::span<const std::uint32_t> rows) {
  const LinearFunctions& linear = kernels_.linear(w.type);
  for (const Tiles& tiles : tiles_)
    if (tiles.linear == &linear && tiles.rows.data() == rows.data() && tiles.count() == rows.size())
      return tiles.memory;
  const std::size_t rest = rows.size() % kernels_.tile_rows;
  std::size_t bytes = rows.size() / kernels_.tile_rows * linear.tile_bytes(kernels_.tile_rows, w.inputs);
  if (rest != 0) bytes += linear.tile_bytes(rest, w.inputs);
  std::byte* const memory = tile_memory_.data() + tile_memory_used_;
  tile_memory_used_ += rounded(bytes);
  assert(tile_memory_used_ <= tile_memory_.size() && tiles_.size() < tiles_.capacity());
  tiles_.push_back({.linear = &linear,
                    .format = kernels_.activation_format(w.type),
                    .rows = rows,
                    .inputs = w.inputs,
                    .memory = memory});
  return memory;
}

void Products::pack() {
  tile_chunks_.clear();
  std::size_t chunks = 0;
  for (const Tiles& tiles : tiles_) {
    tile_chunks_.push_back(chunks);
    chunks += (tiles.count() + kernels_.tile_rows - 1) / kernels_.tile_rows;
  }
  pool_.run(chunks, [&](std::size_t chunk, std::size_t) {
    const auto after = std::upper_bound(tile_chunks_.begin(), tile_chunks_.end(), chunk);
    const auto at = static_cast<std::size_t>(after - tile_chunks_.begin()) - 1;
    const Tiles& tiles = tiles_[at];
    const std::size_t first = (chunk - tile_chunks_[at]) * kernels_.tile_rows;
    const std::size_t count = std::min(kernels_.tile_rows, tiles.count() - first);
    std::array<const std::byte*, kRowGroup> rows = {};
    assert(count <= rows.size());
    for (std::size_t i = 0; i < count; ++i) rows[i] = row(tiles.format, tiles.rows[first + i]);
    const std::size_t whole = tiles.linear->tile_bytes(kernels_.tile_rows, tiles.inputs);
    tiles.linear->pack(rows.data(), count, tiles.inputs, tiles.memory + first / kernels_.tile_rows * whole);
  });
}

std::size_t Products::chunk_outputs(const Product& product, bool panels) const {
  const std::size_t rows = product.rows.size();
  const std::size_t unit = panels ? kernels_.panel_outputs : kPanel;
  // A panel of many rows is enough work; with few it asks for the next one's weights ahead.
  const std::size_t bytes = !panels ? kChunkBytes : rows <= kFewPanelRows ? 4 * kChunkBytes : 0;
  const std::size_t units = bytes / (row_bytes(product.w->type, product.w->inputs) * unit);
  // But some chunks for each thread.
  const std::size_t share = product.w->outputs / (4 * pool_.threads() * unit);
  return unit * std::max<std::size_t>(std::min(units, share), 1);
}

void Products::run(std::span<const Product> products) {
  tiles_.clear();
  tile_memory_used_ = 0;
  tasks_.clear();
  std::size_t chunks = 0;
  for (const Product& product : products) {
    assert(product.w->inputs == inputs_ && tasks_.size() < tasks_.capacity());
    Task task = {.product = &product};
    if (by_panels(*product.w, product.rows.size())) task.tiles = tiles_for(*product.w, product.rows);
    if (product.up != nullptr && by_panels(*product.up, product.rows.size()))
      task.up_tiles = tiles_for(*product.up, product.rows);
    task.outputs = chunk_outputs(product, task.tiles != nullptr || task.up_tiles != nullptr);
    task.first_chunk = chunks;
    chunks += (product.w->outputs + task.outputs - 1) / task.outputs;
    tasks_.push_back(task);
  }
  if (!tiles_.empty()) pack();
  pool_.run(chunks, [&](std::size_t chunk, std::size_t thread) {
    const auto after = std::upper_bound(tasks_.begin(), tasks_.end(), chunk,
                                        [](std::size_t c, const Task& task) { return c < task.first_chunk; });
    compute(*(after - 1), chunk, thread);
  });
}

void Products::compute(const Task& task, std::size_t chunk, std::size_t thread) {
  const Product& product = *task.product;
  const std::size_t first = (chunk - task.first_chunk) * task.outputs;
  const std::size_t last = std::min(first + task.outputs, product.w->outputs);
  multiply(*product.w, product, task.tiles, first, last, product.y, thread);
  if (product.up != nullptr) multiply(*product.up, product, task.up_tiles, first, last, product.up_y, thread);
  for (std::size_t r = 0; r < product.rows.size(); ++r) {
    const std::size_t at = r * product.stride + first;
    if (product.up != nullptr) kernels_.swiglu(product.y + at, product.up_y + at, last - first, product.y + at);
    if (product.sum != nullptr)
      ref::add(std::span(product.y + at, last - first), std::span(product.sum + at, last - first));
  }
}

void Products::multiply(const Matrix& w, const Product& product, const std::byte* tiles, std::size_t first,
                        std::size_t last, float* y, std::size_t thread) {
  const LinearFunctions& linear = kernels_.linear(w.type);
  std::byte* const scratch = scratch_[thread].data();
  const std::size_t count = product.rows.size();
  if (tiles != nullptr) {
    linear.panel(w, tiles, count, first, last, y, product.stride, scratch);
    return;
  }
  // Panel by panel, so that the weights that several groups of rows meet come from memory once.
  const ActivationFormat format = kernels_.activation_format(w.type);
  const std::size_t step = count <= linear.max_rows ? last - first : kPanel;
  for (std::size_t output = first; output < last; output += step) {
    for (std::size_t r = 0; r < count; r += kRowGroup) {
      const std::size_t here = std::min(kRowGroup, count - r);
      std::array<const std::byte*, kRowGroup> rows = {};
      for (std::size_t i = 0; i < here; ++i) rows[i] = row(format, product.rows[r + i]);
      for (std::size_t i = 0; i < here; i += linear.max_rows)
        linear.rows(w, rows.data() + i, std::min(linear.max_rows, here - i), output, std::min(output + step, last),
                    y + (r + i) * product.stride, product.stride, reinterpret_cast<float*>(scratch));
    }
  }
}

}  // namespace sirocco
