// The dense weights of a model that is larger than its memory: read into anonymous memory at the speed of the disk, and
// locked there where that is permitted, since the page cache would give them away for every expert that is read.
#pragma once

#include <memory>

#include "engine/base/load_progress.h"
#include "engine/experts/model_files.h"
#include "engine/experts/read_shape.h"
#include "engine/model/model.h"

namespace sirocco {

struct ResidentWeights {
  std::shared_ptr<const Model> model;  // as the one given, but for where its dense weights are
  std::uint64_t bytes = 0;             // that they take, whole blocks of the file
  bool locked = false;
};

// What they will take.
std::uint64_t resident_weights_bytes(const Model& model, const ModelFiles& files);

// With `trial` they are read in its parts, and the queue keeps the shape that it chooses. `progress` may be null.
// Error: memory that cannot be had, a read that failed; CANCELLED, if progress was asked to stop.
Result<ResidentWeights> make_weights_resident(const Model& model, const ModelFiles& files, TransferQueue& queue,
                                              ShapeTrial* trial, LoadProgress* progress = nullptr);

}  // namespace sirocco
