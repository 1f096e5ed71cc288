#include "cli/model_inspect.h"

namespace sirocco {

// By what only that format's templates write.
std::string chat_format_name(const GgufMetadata& metadata) {
  const std::string text = metadata.string("tokenizer.chat_template").value_or("");
  const auto writes = [&](std::string_view part) { return text.find(part) != std::string::npos; };
  if (writes("<|im_start|>")) return "chatml";
  if (writes("[INST]")) return "mistral";
  return "";
}

}  // namespace sirocco
