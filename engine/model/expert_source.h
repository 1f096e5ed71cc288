// Where the forward pass gets its experts from. For each layer it says which experts it wants, is told which of their
// projections have become usable as they do, computes with the leased weights, and drops the leases. Implemented in
// engine/experts. Called from the engine thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "engine/model/lossy.h"
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

struct WantedExpert {
  std::uint32_t index = 0;
  std::uint32_t rows = 0;  // of the step that meet it
};

// What has become usable of a wanted expert. Of each, `lease` and `down` arrive once, in this order, or `failed`, after
// `lease` or instead of it.
struct ExpertNews {
  enum class What : std::uint8_t {
    lease,   // gate and up can be computed with: take the lease
    down,    // and down
    failed,  // it cannot be had: ask failure()
  };
  std::uint32_t index = 0;
  What what = What::lease;
};

// Who computes with experts where they lie, in memory that it has to be told of: a device that shares it with the host.
// Called by the engine thread, while no expert in that memory is leased.
class SlotUser {
 public:
  virtual ~SlotUser() = default;
  virtual void comes(std::span<std::byte> slot) = 0;
  virtual void goes(std::span<std::byte> slot) = 0;  // before the memory does
};

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;

  // Whether experts are in slots: memory into which they were read, and which their user may write to.
  virtual bool has_slots() const { return false; }
  // Null: nobody. It is told of the slots that there are. An expert that it has converted is read anew for the next
  // one.
  virtual void set_slot_user(SlotUser* /*user*/) {}
  // Whether the user has put a leased expert into a layout of its own since it was read; and that it does so now.
  virtual bool converted(ExpertId /*expert*/) const { return false; }
  virtual void set_converted(ExpertId /*expert*/) {}

  // The experts that this layer wants, ascending; `rows` is what the step has. Everything that the last request brought
  // must have been taken and dropped.
  virtual void request(std::uint32_t layer, std::span<const WantedExpert> wanted, std::uint32_t rows) = 0;

  // For lossy modes, before a request: which experts of the layer could be computed with at once ([experts], 0 or 1).
  // It holds for that request.
  virtual void tell_resident(std::uint32_t /*layer*/, std::span<std::uint8_t> resident) {
    std::fill(resident.begin(), resident.end(), std::uint8_t{1});
  }
  // What they did without because of that.
  virtual void count(std::uint32_t /*layer*/, const LossyCounts& /*counts*/) {}

  // Guesses at what the next layer will want, worth a read while nothing is waited for; empty: everything. Asked for
  // only if foresees().
  virtual bool foresees(bool /*prompt*/) const { return false; }
  virtual void foresee(std::uint32_t, std::span<const std::uint32_t>) {}

  // Appends what has become usable since; waits until there is something, or until there is nothing left to come.
  // Experts that nobody leases keep others out: what is complete must be dropped before the next wait.
  virtual void wait(std::vector<ExpertNews>& news) = 0;

  virtual Lease lease(ExpertId expert) = 0;
  virtual Error failure(ExpertId expert) const = 0;

 private:
  friend class Lease;
  virtual void release(ExpertId expert) = 0;
};

inline Lease::~Lease() {
  if (source_ != nullptr) source_->release(expert_);
}

}  // namespace sirocco
