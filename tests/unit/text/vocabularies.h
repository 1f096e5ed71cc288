// The vocabularies of tests/golden/text (its references.py says what they are), opened as the engine does.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace sirocco::test {

// A JSON file of tests/golden/text.
nlohmann::json golden(std::string_view name);
const std::vector<std::string>& texts();

// "mistral-v7", "tekken-20k", "tiny-gpt-2", "tiny-smollm", "tiny-llama-bpe", "tiny-qwen2", "smollm2" (the demo model).
GgufMetadata vocabulary_metadata(std::string_view name);
std::shared_ptr<const Tokenizer> vocabulary(std::string_view name);

}  // namespace sirocco::test
