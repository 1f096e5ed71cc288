#include "cli/model_support.h"

#include "engine/model/model.h"
#include "engine/text/chat_format.h"

namespace sirocco {

ModelSupport model_support(const std::shared_ptr<const GgufFile>& file) {
  ModelSupport support;
  const GgufMetadata& metadata = file->metadata();
  const auto tokenizer = Tokenizer::from_metadata(metadata);
  if (tokenizer) {
    const auto format = ChatFormat::from_metadata(metadata, *tokenizer);
    support.chat_format = format ? (*format)->name() : "";
    support.chat_problem = format ? "" : format.error().message();
  } else {
    support.chat_problem = "the tokenizer cannot be used";
    support.problems.push_back(tokenizer.error().message());
  }
  if (file->tensors().empty()) {
    support.problems.emplace_back("it holds a vocabulary and no weights");
  } else if (const auto model = Model::bind(file); !model) {
    support.problems.push_back(model.error().message());
  } else if (tokenizer && (*tokenizer)->vocabulary_size() != (*model)->spec().vocabulary) {
    support.problems.push_back(fmt::format("the tokenizer has {} tokens, token_embd.weight {} rows",
                                           (*tokenizer)->vocabulary_size(), (*model)->spec().vocabulary));
  }
  return support;
}

}  // namespace sirocco
