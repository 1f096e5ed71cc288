// Nothing is allocated in a step: this program's operator new counts.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "engine/sample/random.h"
#include "engine/sample/sampler.h"

namespace {
std::size_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace sirocco {
namespace {

TEST(SamplerAllocation, NothingIsAllocatedPerToken) {
  constexpr std::size_t kVocabulary = 3000;
  for (const SamplingParameters& parameters : {SamplingParameters{}, SamplingParameters{.temperature = 1},
                                               SamplingParameters{.temperature = 50,
                                               .top_k = 2000,
                                               .top_p = 0.9F,
                                               .min_p = 0.001F,
                                               .repetition_penalty = 1.1F,
                                               .frequency_penalty = 0.1F,
                                               .presence_penalty = 0.1F}}) {
    Sampler sampler(parameters, std::vector<TokenId>{1, 2, 3}, kVocabulary);
    std::vector<float> logits(kVocabulary);
    const std::size_t before = allocations;
    for (std::uint64_t token = 0; token < 200; ++token) {
      for (std::size_t i = 0; i < kVocabulary; ++i) logits[i] = static_cast<float>(uniform(token, i));
      EXPECT_TRUE(sampler.sample(logits));
    }
    EXPECT_EQ(allocations, before);
  }
  EXPECT_GT(allocations, 0U);  // the count counts
}

}  // namespace
}  // namespace sirocco
