// The routed experts of one layer for the rows that meet them: asks an ExpertSource for them and computes each, gate
// and up, then down, as soon as its weights are there. Every expert writes to places of its own, so that the order in
// which they come changes nothing. Owned by what takes steps, called from its thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/base/timeline.h"
#include "engine/model/expert_source.h"
#include "engine/model/model_spec.h"
#include "engine/model/products.h"

namespace sirocco {

class ExpertProducts {
 public:
  // Memory of the step's, which outlives this.
  struct Memory {
    Products* rows = nullptr;    // the layer's input, prepared for gate and up
    Products* hidden = nullptr;  // for [assignments] rows of the expert width
    std::span<float> gate;       // [assignments, expert width]
    std::span<float> up;         // likewise
  };
  // Assignments are (row, expert) pairs, sorted by expert; where one stands is its place.
  struct Layer {
    std::uint32_t index = 0;
    std::uint32_t rows = 0;                       // of the step
    std::span<const std::uint32_t> first;         // [experts + 1] places of an expert; read for those that are wanted
    std::span<const std::uint32_t> row_of;        // [assignments] of a place, the prepared row
    std::span<float> out;                         // [assignments, width]
    std::atomic<std::uint64_t>* pulse = nullptr;  // Step::pulse: also beats with each arrival
  };

  // assignments: of a step, at most. hidden: the formats of all experts' down.
  ExpertProducts(const ModelSpec& spec, std::size_t assignments, const FormatSet& hidden, ExpertSource& source,
                 Timeline* timeline, const Memory& memory);
  static std::uint64_t bytes(const ModelSpec& spec, std::size_t assignments);

  // wanted: ascending; the caller keeps it until compute() has returned, which follows.
  void request(const Layer& layer, std::span<const WantedExpert> wanted);
  struct Weights {
    ExpertId expert;
    const ExpertWeights* weights = nullptr;
  };
  // What the caller wants to know, and to do itself.
  struct Hooks {
    std::function<void(ExpertId)> failed;  // it cannot be had; its places of `out` are zeros
    // Of those that are computed with here, before the lease is dropped.
    std::function<void(const Weights&)> computed = {};
    // Experts that are not computed with here: `begin` is given those that are complete, and their weights stay until
    // `end` has returned. What is computed here is computed in between.
    std::function<bool(ExpertId)> elsewhere = {};
    std::function<void(std::span<const Weights>)> begin = {};
    std::function<void()> end = {};
  };
  void compute(const Layer& layer, const Hooks& hooks);

 private:
  void take_leases(const Layer& layer, const Hooks& hooks);
  void gate_and_up(const Layer& layer);
  void down(const Layer& layer, const Hooks& hooks);
  void drop_leases();
  Timeline::Event listed(Timeline::Kind kind, std::uint32_t layer) const;

  std::size_t hidden_width_;
  std::size_t width_;
  FormatSet hidden_formats_;
  ExpertSource& source_;
  Timeline* timeline_;
  Memory memory_;
  std::size_t left_ = 0;                   // of what was requested
  std::vector<std::uint32_t> all_places_;  // 0, 1, 2 …
  std::vector<ExpertNews> news_;           // of one wait
  std::vector<Lease> leases_;              // [experts]
  std::vector<std::uint8_t> elsewhere_;    // [experts] of the layer
  std::vector<Weights> handed_;            // to hooks.begin
  std::vector<Products::Product> list_;    // of a run
};

}  // namespace sirocco
