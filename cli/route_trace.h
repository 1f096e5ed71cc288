// Traces of routing: which experts a real model chose, token by token and layer by layer. Read here for policy_bench
// and for `sirocco bench --route-trace`, where they stand in for the routers of random weights.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/model/instruments.h"
#include "engine/model/model_spec.h"

namespace sirocco {

struct RouteTrace {
  std::string name;  // the file's
  std::uint32_t layers = 0;
  std::uint32_t experts = 0;  // of a layer: one more than the largest index
  // [token][layer], ascending. None where the trace has none: llama.cpp computes the last layer for the last token of a
  // prompt alone.
  std::vector<std::vector<std::vector<std::uint32_t>>> tokens;
};

// A CSV file with a line for each expert used, in order, after a line of column names; it has at least the columns
// turn, phase and step, which together are a token, layer and expert. Lines that begin with # are comments. Error: a
// file that cannot be read, or by its line what is no such trace.
Result<RouteTrace> read_route_trace(const std::string& path);

// A trace in place of a model's routers. Its layers are used from the first on, and again from there if the model has
// more; so are its tokens. Where a token has no experts in a layer, the next one that has lends its own.
class RouteTraceReplay final : public RoutingReplay {
 public:
  // Error: a trace of other numbers of experts, of a layer or used by a token.
  static Result<RouteTraceReplay> create(const RouteTrace& trace, const ModelSpec& spec);

  std::size_t tokens() const { return tokens_; }
  // Between steps: `position` is that token of the trace, those after it follow.
  void set(std::uint32_t position, std::uint64_t token) {
    shift_ = (token % tokens_ + tokens_ - position % tokens_) % tokens_;
  }

  std::span<const std::uint32_t> experts(std::uint32_t position, std::uint32_t layer) const override {
    const std::size_t token = (position + shift_) % tokens_;
    return std::span(chosen_).subspan((token * layers_ + layer % layers_) * used_, used_);
  }

 private:
  std::size_t tokens_ = 0;
  std::size_t layers_ = 0;
  std::size_t used_ = 0;
  std::size_t shift_ = 0;
  std::vector<std::uint32_t> chosen_;  // [tokens, layers, used]
};

}  // namespace sirocco
