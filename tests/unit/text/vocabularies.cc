#include "tests/unit/text/vocabularies.h"

#include <fstream>
#include <map>
#include <stdexcept>

#include "tests/support/models.h"
#include "tests/support/source_dir.h"

namespace sirocco::test {
namespace {

std::filesystem::path golden_file(std::string_view name) {
  return golden_dir() / "text" / name;
}

template <class T>
T required(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  return *std::move(result);
}

GgufMetadata tiny_metadata(std::string_view name) {
  const nlohmann::json document = golden(std::string(name) + ".json");
  GgufMetadata metadata;
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.pre", document.at("pre").get<std::string>());
  metadata.set("tokenizer.ggml.tokens", GgufArray(document.at("tokens").get<std::vector<std::string>>()));
  metadata.set("tokenizer.ggml.token_type", GgufArray(document.at("token_type").get<std::vector<std::int32_t>>()));
  metadata.set("tokenizer.ggml.merges", GgufArray(document.at("merges").get<std::vector<std::string>>()));
  return metadata;
}

}  // namespace

nlohmann::json golden(std::string_view name) {
  std::ifstream file(golden_file(name));
  return nlohmann::json::parse(file);
}

const std::vector<std::string>& texts() {
  static const auto all = golden("texts.json").get<std::vector<std::string>>();
  return all;
}

GgufMetadata vocabulary_metadata(std::string_view name) {
  if (name.starts_with("tiny-")) return tiny_metadata(name);
  const auto path = name == "smollm2" ? demo_model() : golden_file(std::string(name) + ".vocab.gguf");
  return required(GgufFile::open(path))->metadata();
}

std::shared_ptr<const Tokenizer> vocabulary(std::string_view name) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>, std::less<>> opened;
  auto& tokenizer = opened[std::string(name)];
  if (!tokenizer) tokenizer = required(Tokenizer::from_metadata(vocabulary_metadata(name)));
  return tokenizer;
}

}  // namespace sirocco::test
