// Where each expert's bytes are on disk and how they lie in a slot of memory. Immutable; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/ids.h"
#include "engine/experts/model_files.h"
#include "engine/model/model.h"

namespace sirocco {

// The projections of an expert, in the order in which they are computed.
enum class Projection : std::uint8_t { gate, up, down };
inline constexpr std::size_t kProjections = 3;

class ExpertStore {
 public:
  // least_slot_bytes: where a slot's user wants more than the file's bytes. Error: a model without experts.
  static Result<std::unique_ptr<ExpertStore>> create(std::shared_ptr<const Model> model,
                                                     std::shared_ptr<const ModelFiles> files,
                                                     std::uint64_t least_slot_bytes = 0);

  // One projection in the file, or several that adjoin; read as the whole blocks that enclose it.
  struct Extent {
    FilePlace place;
    std::uint64_t in_slot = 0;  // where its first block goes, a multiple of kDirectBlock
  };
  struct Layout {
    std::array<Extent, kProjections> extents;
    std::uint32_t count = 0;                              // of extents
    std::array<std::uint32_t, kProjections> extent = {};  // in which each projection is
    std::array<std::uint64_t, kProjections> in_slot = {};
  };

  std::uint64_t slot_bytes() const { return slot_bytes_; }  // that the largest expert takes, whole blocks
  std::uint32_t layers() const { return layers_; }
  std::uint32_t experts() const { return experts_; }  // of a layer
  std::uint32_t used() const { return model_->spec().moe->used; }
  std::string path() const { return model_->file().path().string(); }
  const ModelFiles& files() const { return *files_; }
  const Layout& layout(ExpertId expert) const { return layouts_[std::size_t{expert.layer} * experts_ + expert.index]; }

  // The expert's weights where `slot` holds them.
  ExpertWeights weights(ExpertId expert, const std::byte* slot) const;

 private:
  ExpertStore(std::shared_ptr<const Model> model, std::shared_ptr<const ModelFiles> files,
              std::uint64_t least_slot_bytes);

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const ModelFiles> files_;
  std::uint32_t layers_ = 0;
  std::uint32_t experts_ = 0;
  std::uint64_t slot_bytes_ = 0;
  std::vector<Layout> layouts_;  // [layers * experts]
};

}  // namespace sirocco
