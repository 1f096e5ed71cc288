// The protobuf that the sentencepiece library loads, written by hand: its headers are not installed, and the few fields
// a GGUF file preserves are all it needs. Field numbers: sentencepiece/src/sentencepiece_model.proto.
#pragma once

#include <span>
#include <string>

#include "engine/text/vocabulary.h"

namespace sirocco {

// A BPE model with byte fallback (where all 256 byte tokens are present) and no normalisation: text goes in as it is,
// without a space in front and without removing any. scores: one for each token.
std::string sentencepiece_model(const Vocabulary& vocabulary, std::span<const float> scores);

}  // namespace sirocco
