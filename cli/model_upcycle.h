// `sirocco model upcycle`: a dense Llama model as a Mixtral-architecture one, by copying its feed-forward part into
// every expert behind a random router. All experts compute the same function (each with its inner channels in another
// order), so it answers as the dense model does and shows any wrong or mixed-up byte. For demos and tests, not for
// quality.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "engine/gguf/random_blocks.h"

namespace sirocco {

struct UpcycleOptions {
  std::uint32_t experts = 8;
  std::uint32_t used = 2;
  bool permute = true;  // false: all experts are plain copies
  std::uint64_t seed = 1;
};

// Reads through `input`'s mapping and streams: any size, little memory. The result is one that this build loads.
// Errors: the input is no dense Llama model that this build loads, the disk is full, Ctrl-C; `output` is then as it was
// before.
Result<void> upcycle_model(const std::shared_ptr<const GgufFile>& input, const std::filesystem::path& output,
                           const UpcycleOptions& options);

// A sentence if a layer has fewer orders of its channels than experts, so that some experts have the same bytes.
std::vector<std::string> upcycle_notes(const GgufFile& input, const UpcycleOptions& options);

// For each expert an order of `groups` groups of channels, all different as long as there are so many orders.
// Result: [experts][groups], order[new place] = old place.
std::vector<std::vector<std::uint32_t>> expert_orders(std::uint32_t experts, std::uint32_t groups, SplitMix64& random);

}  // namespace sirocco
