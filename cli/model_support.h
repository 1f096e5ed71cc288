// Whether this build can serve a model file, as the engine itself would find out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace sirocco {

struct ModelSupport {
  std::vector<std::string> problems;  // what keeps the model from being served; empty: nothing does
  std::string chat_format;            // "chatml"; empty: messages cannot be answered, raw prompts can
  std::string chat_problem;           // why it is empty
};

// Binds the tensors and builds the tokenizer; reads the norms and nothing else of the weights.
ModelSupport model_support(const std::shared_ptr<const GgufFile>& file);

}  // namespace sirocco
