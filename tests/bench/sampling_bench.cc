// Choosing a token of a vocabulary of 131,072, for each kind of request: microseconds, next to reading the logits once
// (their largest).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "engine/sample/sampler.h"

namespace sirocco {
namespace {

constexpr std::size_t kVocabulary = 131'072;
constexpr int kRuns = 21;

// Logits as a model gives them: a few tokens stand out.
std::vector<float> make_logits() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) logit = normal(random);
  for (std::size_t i = 0; i < 8; ++i) logits[1000 * i] = 16 - static_cast<float>(i);
  return logits;
}

void show(const char* name, std::vector<double> microseconds) {
  std::sort(microseconds.begin(), microseconds.end());
  std::printf("%-34s %7.0f us (quartiles %.0f to %.0f)\n", name, microseconds[kRuns / 2], microseconds[kRuns / 4],
              microseconds[kRuns - 1 - kRuns / 4]);
}

template <class Work>
std::vector<double> measure(const std::vector<float>& logits, Work work) {
  std::vector<double> microseconds;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<float> row = logits;
    const auto begin = std::chrono::steady_clock::now();
    work(row);
    microseconds.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  return microseconds;
}

int run() {
  const std::vector<float> logits = make_logits();
  float largest = 0;
  show("reading the logits", measure(logits, [&](const std::vector<float>& row) {
         largest = std::max(largest, *std::max_element(row.begin(), row.end()));
       }));
  const std::pair<const char*, SamplingParameters> kinds[] = {
      {"greedy", {.temperature = 0}},
      {"temperature 0.8", {.temperature = 0.8F}},
      {"top-k 40", {.temperature = 0.8F, .top_k = 40}},
      {"top-p 0.95", {.temperature = 0.8F, .top_p = 0.95F}},
      {"min-p 0.05", {.temperature = 0.8F, .min_p = 0.05F}},
      {"top-k 40, top-p 0.95, min-p 0.05", {.temperature = 0.8F, .top_k = 40, .top_p = 0.95F, .min_p = 0.05F}},
      {"top-p 0.95, penalties", {.temperature = 0.8F, .top_p = 0.95F, .repetition_penalty = 1.1F}},
  };
  for (const auto& [name, parameters] : kinds) {
    Sampler sampler(parameters, {}, kVocabulary);
    bool failed = false;
    show(name, measure(logits, [&](std::vector<float>& row) { failed = failed || !sampler.sample(row); }));
    if (failed) return 1;
  }
  return largest > 0 ? 0 : 1;
}

}  // namespace
}  // namespace sirocco

int main() {
  return sirocco::run();
}
