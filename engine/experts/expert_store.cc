#include "engine/experts/expert_store.h"

#include <algorithm>
#include <tuple>

namespace sirocco {
namespace {

std::uint64_t enclosing_bytes(const FilePlace& place) {
  return place.after_last_block() - place.first_block();
}

ExpertStore::Layout lay_out(const ModelFiles& files, const ExpertWeights& weights) {
  struct Part {
    FilePlace place;
    std::size_t projection;
  };
  std::array<Part, kProjections> parts = {
      {{files.place(weights.gate), 0}, {files.place(weights.up), 1}, {files.place(weights.down), 2}}};
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return std::tie(a.place.part, a.place.offset) < std::tie(b.place.part, b.place.offset);
  });
  ExpertStore::Layout layout;
  for (const auto& [place, projection] : parts) {
    const bool first = layout.count == 0;
    ExpertStore::Extent* extent = first ? nullptr : &layout.extents.at(layout.count - 1);
    if (!first && extent->place.part == place.part && extent->place.offset + extent->place.bytes == place.offset) {
      extent->place.bytes += place.bytes;
    } else {
      const std::uint64_t at = first ? 0 : extent->in_slot + enclosing_bytes(extent->place);
      extent = &layout.extents.at(layout.count++);
      *extent = {.place = place, .in_slot = at};
    }
    layout.extent.at(projection) = layout.count - 1;
    layout.in_slot.at(projection) = extent->in_slot + place.offset - extent->place.first_block();
  }
  return layout;
}

}  // namespace

Result<std::unique_ptr<ExpertStore>> ExpertStore::create(std::shared_ptr<const Model> model,
                                                         std::shared_ptr<const ModelFiles> files,
                                                         std::uint64_t least_slot_bytes) {
  if (!model->spec().moe) return fail(ErrorCode::unsupported, "the model has no experts to keep on disk");
  return std::unique_ptr<ExpertStore>(new ExpertStore(std::move(model), std::move(files), least_slot_bytes));
}

ExpertStore::ExpertStore(std::shared_ptr<const Model> model, std::shared_ptr<const ModelFiles> files,
                         std::uint64_t least_slot_bytes)
    : model_(std::move(model)),
      files_(std::move(files)),
      slot_bytes_((least_slot_bytes + kDirectBlock - 1) / kDirectBlock * kDirectBlock) {
  layers_ = model_->spec().layers;
  experts_ = model_->spec().moe->experts;
  layouts_.reserve(std::size_t{layers_} * experts_);
  for (const LayerWeights& layer : model_->weights().layers) {
    for (const ExpertWeights& expert : layer.experts) {
      layouts_.push_back(lay_out(*files_, expert));
      const Extent& last = layouts_.back().extents.at(layouts_.back().count - 1);
      slot_bytes_ = std::max(slot_bytes_, last.in_slot + enclosing_bytes(last.place));
    }
    layouts_.resize((static_cast<std::size_t>(&layer - model_->weights().layers.data()) + 1) * experts_);
  }
}

ExpertWeights ExpertStore::weights(ExpertId expert, const std::byte* slot) const {
  const Layout& where = layout(expert);
  ExpertWeights weights = model_->weights().layers[expert.layer].experts[expert.index];
  weights.gate.data = slot + where.in_slot[0];
  weights.up.data = slot + where.in_slot[1];
  weights.down.data = slot + where.in_slot[2];
  return weights;
}

}  // namespace sirocco
