#include "cli/route_trace.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <map>
#include <string_view>

namespace sirocco {
namespace {

enum Column : std::uint8_t { turn, phase, step, layer, expert };
constexpr std::array<std::string_view, 5> kColumns = {"turn", "phase", "step", "layer", "expert"};

constexpr std::uint32_t kMost = 1U << 20;  // of any number: a mistake shall not become gigabytes of empty layers
constexpr std::uint32_t kMostLayers = 1U << 12;

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  while (true) {
    const std::size_t end = std::min(line.find(','), line.size());
    cells.push_back(line.substr(0, end));
    if (end == line.size()) return cells;
    line.remove_prefix(end + 1);
  }
}

class Reader {
 public:
  explicit Reader(const std::string& path) { trace_.name = path; }

  Result<void> header(std::string_view line) {
    const std::vector<std::string_view> names = cells_of(line);
    for (std::size_t column = 0; column < kColumns.size(); ++column) {
      const auto found = std::find(names.begin(), names.end(), kColumns.at(column));
      if (found == names.end())
        return fail(ErrorCode::corrupt,
                    "no column \"{}\" in the first line that is no comment: a trace of routing in CSV has {}",
                    kColumns.at(column), fmt::join(kColumns, ", "));
      at_.at(column) = static_cast<std::size_t>(found - names.begin());
    }
    return {};
  }

  Result<void> row(std::string_view line) {
    const std::vector<std::string_view> cells = cells_of(line);
    std::array<std::uint32_t, kColumns.size()> values = {};
    for (std::size_t column = 0; column < kColumns.size(); ++column) {
      if (at_.at(column) >= cells.size())
        return fail(ErrorCode::corrupt, "there are {} cells, \"{}\" is missing", cells.size(), kColumns.at(column));
      const std::string_view cell = cells[at_.at(column)];
      const auto [rest, error] = std::from_chars(cell.data(), cell.data() + cell.size(), values.at(column));
      const std::uint32_t most = column == Column::layer ? kMostLayers : kMost;
      if (error != std::errc() || rest != cell.data() + cell.size() || values.at(column) >= most)
        return fail(ErrorCode::corrupt, "{} is {:?}, not a number below {}", kColumns.at(column), cell, most);
    }
    const std::array token = {values[turn], values[phase], values[step]};
    const std::size_t number = numbers_.try_emplace(token, trace_.tokens.size()).first->second;
    if (number == trace_.tokens.size()) trace_.tokens.emplace_back();
    auto& layers = trace_.tokens[number];
    if (layers.size() <= values[layer]) layers.resize(values[layer] + 1);
    auto& experts = layers[values[layer]];
    const auto place = std::lower_bound(experts.begin(), experts.end(), values[expert]);
    if (place != experts.end() && *place == values[expert])
      return fail(ErrorCode::corrupt, "expert {} of layer {} is there twice for one token", values[expert],
                  values[layer]);
    experts.insert(place, values[expert]);
    trace_.layers = std::max(trace_.layers, values[layer] + 1);
    trace_.experts = std::max(trace_.experts, values[expert] + 1);
    return {};
  }

  Result<RouteTrace> finish() {
    if (trace_.tokens.empty()) return fail(ErrorCode::corrupt, "{}: no token is in it", trace_.name);
    for (auto& token : trace_.tokens) token.resize(trace_.layers);
    return std::move(trace_);
  }

 private:
  RouteTrace trace_;
  std::array<std::size_t, kColumns.size()> at_ = {};  // which cell each column is
  std::map<std::array<std::uint32_t, 3>, std::size_t> numbers_;
};

}  // namespace

Result<RouteTrace> read_route_trace(const std::string& path) {
  std::ifstream in(path);
  if (!in) return fail(ErrorCode::not_found, "{}: cannot be read", path);
  Reader reader(path);
  std::string line;
  bool header = true;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    if (const Result<void> done = header ? reader.header(line) : reader.row(line); !done)
      return fail(done.error().at(fmt::format("{}: line {}", path, number)));
    header = false;
  }
  if (in.bad()) return fail(ErrorCode::io, "{}: cannot be read", path);
  return reader.finish();
}

Result<RouteTraceReplay> RouteTraceReplay::create(const RouteTrace& trace, const ModelSpec& spec) {
  if (!spec.moe) return fail(ErrorCode::invalid_argument, "{}: the model has no experts to choose", trace.name);
  if (trace.experts != spec.moe->experts)
    return fail(ErrorCode::invalid_argument,
                "{}: a trace of {} experts in each layer (the largest index is {}), the model has {}", trace.name,
                trace.experts, trace.experts - 1, spec.moe->experts);
  RouteTraceReplay replay;
  replay.tokens_ = trace.tokens.size();
  replay.layers_ = trace.layers;
  replay.used_ = spec.moe->used;
  for (std::size_t token = 0; token < replay.tokens_; ++token) {
    for (std::uint32_t layer = 0; layer < trace.layers; ++layer) {
      std::size_t lender = token;
      for (std::size_t ahead = 1; trace.tokens[lender][layer].empty() && ahead <= replay.tokens_; ++ahead)
        lender = (token + ahead) % replay.tokens_;
      const std::vector<std::uint32_t>& experts = trace.tokens[lender][layer];
      if (experts.size() != replay.used_)
        return fail(ErrorCode::invalid_argument,
                    "{}: token {} of the trace uses {} experts in layer {}, the model uses {} (model synth --used N)",
                    trace.name, lender, experts.size(), layer, replay.used_);
      replay.chosen_.insert(replay.chosen_.end(), experts.begin(), experts.end());
    }
  }
  return replay;
}

}  // namespace sirocco
