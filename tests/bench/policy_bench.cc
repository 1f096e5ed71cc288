// Replays a trace of routing through the eviction policies, at several numbers of slots: which share of the experts
// wanted would have been in memory, next to Belady's, which knows the future.
//
//   policy_bench --trace FILE.csv [--share 0.1,0.2,0.35,0.5] [--policy NAME]... [--json FILE]
//
// cli/route_trace.h says what a trace is. Without --trace, made-up ones: popular experts (Zipf), of which a part stays
// from token to token, and which change now and then.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cli/route_trace.h"
#include "engine/experts/eviction_policy.h"

namespace sirocco {
namespace {

// `stay`: the chance that an expert of the last token is kept; every `topic` tokens others become popular.
RouteTrace make_trace(std::string name, std::uint32_t layers, std::uint32_t experts, std::uint32_t used, double zipf,
                      double stay, std::size_t topic, unsigned seed) {
  constexpr std::size_t kTokens = 400;
  RouteTrace trace = {.name = std::move(name), .layers = layers, .experts = experts, .tokens = {}};
  std::mt19937 random(seed);
  std::vector<std::vector<std::uint32_t>> rank(layers, std::vector<std::uint32_t>(experts));
  for (auto& order : rank) {
    for (std::uint32_t e = 0; e < experts; ++e) order[e] = e;
    std::shuffle(order.begin(), order.end(), random);
  }
  std::vector<double> weights;
  for (std::uint32_t e = 0; e < experts; ++e) weights.push_back(std::pow(e + 1.0, -zipf));
  std::discrete_distribution<std::uint32_t> popular(weights.begin(), weights.end());
  std::uniform_real_distribution<double> chance;
  trace.tokens.resize(kTokens);
  for (std::size_t t = 0; t < kTokens; ++t) {
    trace.tokens[t].resize(layers);
    for (std::uint32_t l = 0; l < layers; ++l) {
      if (topic != 0 && t % topic == 0) std::shuffle(rank[l].begin(), rank[l].begin() + experts / 2, random);
      std::set<std::uint32_t> chosen;
      if (t > 0)
        for (const std::uint32_t e : trace.tokens[t - 1][l])
          if (chance(random) < stay) chosen.insert(e);
      while (chosen.size() < used) chosen.insert(rank[l][popular(random)]);
      trace.tokens[t][l].assign(chosen.begin(), chosen.end());
    }
  }
  return trace;
}

// Hit rate, of all experts wanted.
double replay(const RouteTrace& trace, const EvictionPolicy& policy, std::size_t slots) {
  const auto number = [&](std::uint32_t layer, std::uint32_t expert) {
    return std::size_t{layer} * trace.experts + expert;
  };
  const std::size_t all = std::size_t{trace.layers} * trace.experts;
  std::vector<ExpertUse> uses(all);
  std::vector<std::vector<std::uint64_t>> times(all);  // tokens of the uses still to come, the next one last
  for (std::size_t t = trace.tokens.size(); t > 0; --t)
    for (std::uint32_t l = 0; l < trace.layers; ++l)
      for (const std::uint32_t e : trace.tokens[t - 1][l]) times[number(l, e)].push_back(t);
  for (std::size_t i = 0; i < all; ++i)
    uses[i].expert = {.layer = static_cast<std::uint32_t>(i / trace.experts),
                      .index = static_cast<std::uint32_t>(i % trace.experts)};
  std::vector<bool> resident(all);
  std::vector<std::uint32_t> in_layer(trace.layers);
  std::size_t taken = 0;
  std::uint64_t hits = 0;
  std::uint64_t wanted = 0;
  std::vector<ExpertUse> candidates;
  for (std::size_t t = 0; t < trace.tokens.size(); ++t) {
    for (std::uint32_t l = 0; l < trace.layers; ++l) {
      const auto& experts = trace.tokens[t][l];
      for (const std::uint32_t e : experts) {
        const std::size_t i = number(l, e);
        count_use(uses[i], t + 1, 1);
        times[i].pop_back();
        uses[i].next = times[i].empty() ? UINT64_MAX : times[i].back();
        ++wanted;
        if (resident[i]) ++hits;
      }
      for (const std::uint32_t e : experts) {
        if (resident[number(l, e)]) continue;
        if (taken == slots) {
          candidates.clear();
          for (std::size_t i = 0; i < all; ++i) {
            const bool in_use =
                i / trace.experts == l && std::binary_search(experts.begin(), experts.end(), i % trace.experts);
            if (resident[i] && !in_use) candidates.push_back(uses[i]);
          }
          if (candidates.empty()) continue;
          const ExpertUse& leaves =
              candidates[policy.choose(candidates, {.token = t + 1,
                                                    .layer = l,
                                                    .layers = trace.layers,
                                                    .used = static_cast<std::uint32_t>(experts.size()),
                                                    .slots = slots,
                                                    .in_layer = in_layer})];
          resident[number(leaves.expert.layer, leaves.expert.index)] = false;
          --in_layer[leaves.expert.layer];
          --taken;
        }
        resident[number(l, e)] = true;
        ++in_layer[l];
        ++taken;
      }
    }
  }
  return static_cast<double>(hits) / static_cast<double>(wanted);
}

}  // namespace
}  // namespace sirocco

int main(int argc, char** argv) {
  using namespace sirocco;
  CLI::App app("Eviction policies on traces of routing");
  std::vector<std::string> paths;
  std::vector<double> shares = {0.1, 0.2, 0.35, 0.5};
  std::vector<std::string> names(policy_names().begin(), policy_names().end());
  names.emplace_back("belady");
  std::string json;
  app.add_option("--trace", paths);
  app.add_option("--share", shares)->delimiter(',');
  app.add_option("--policy", names);
  app.add_option("--json", json);
  std::vector<RouteTrace> traces;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  for (const std::string& path : paths) {
    auto trace = read_route_trace(path);
    if (!trace) {
      std::fprintf(stderr, "%s\n", trace.error().message().c_str());
      return 2;
    }
    traces.push_back(*std::move(trace));
  }
  if (traces.empty()) {
    traces.push_back(make_trace("Zipf, 40 % stay", 24, 128, 8, 0.7, 0.4, 0, 1));
    traces.push_back(make_trace("Zipf, 40 % stay, a new topic every 60 tokens", 24, 128, 8, 0.7, 0.4, 60, 2));
    traces.push_back(make_trace("Zipf, nothing stays", 24, 128, 8, 0.9, 0, 0, 3));
    traces.push_back(make_trace("as popular as any, 30 % stay", 15, 8, 2, 0, 0.3, 0, 4));
  }
  nlohmann::ordered_json report = nlohmann::ordered_json::array();
  for (const RouteTrace& trace : traces) {
    std::printf("%s: %zu tokens, %u layers of %u experts\n", trace.name.c_str(), trace.tokens.size(), trace.layers,
                trace.experts);
    for (const double share : shares) {
      const auto slots = static_cast<std::size_t>(share * trace.layers * trace.experts);
      std::printf("  %3.0f %% of the experts in memory:", 100 * share);
      for (const std::string& name : names) {
        const auto policy = make_policy(name);
        if (!policy) {
          std::fprintf(stderr, "%s\n", policy.error().message().c_str());
          return 2;
        }
        const double rate = replay(trace, **policy, slots);
        std::printf("  %s %.3f", name.c_str(), rate);
        report.push_back({{"trace", trace.name}, {"share", share}, {"policy", name}, {"hit_rate", rate}});
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
  if (!json.empty()) std::ofstream(json) << report.dump(1) << '\n';
  return 0;
}
