// Where the forward pass gets its experts from: it asks for a lease, computes with the weights it shows, and drops it.
// Implemented in engine/experts. Called from the engine thread.
#pragma once

#include <utility>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "engine/model/weights.h"

namespace sirocco {

class ExpertSource;

// An expert pinned in memory while it is computed with; released by its destructor.
class Lease {
 public:
  Lease() = default;
  Lease(ExpertSource* source, ExpertId expert, const ExpertWeights& weights)
      : source_(source), expert_(expert), weights_(weights) {}
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept {
    std::swap(source_, other.source_);
    std::swap(expert_, other.expert_);
    std::swap(weights_, other.weights_);
    return *this;
  }
  ~Lease();

  const ExpertWeights& weights() const { return weights_; }

 private:
  ExpertSource* source_ = nullptr;
  ExpertId expert_;
  ExpertWeights weights_;
};

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  virtual Result<Lease> lease(ExpertId expert) = 0;

 private:
  friend class Lease;
  virtual void release(ExpertId expert) = 0;
};

inline Lease::~Lease() {
  if (source_ != nullptr) source_->release(expert_);
}

}  // namespace sirocco
