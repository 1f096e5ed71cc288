// sirocco tokenize: the tokens of a text or a conversation, by a model file's own vocabulary and chat format. Files
// that hold nothing but a vocabulary will do.
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/file_commands.h"
#include "cli/output.h"
#include "engine/base/bytes.h"
#include "engine/gguf/gguf_file.h"
#include "engine/text/chat_format.h"
#include "engine/text/tokenizer.h"

namespace sirocco {
namespace {

struct TokenizeOptions {
  std::string model;
  std::string text;
  std::string text_file;
  std::string messages_file;
  bool special = false;
  bool bos = false;
  bool json = false;
};

Result<std::string> read_file(const std::string& path) {
  const auto cannot_read = [&path](int error) {
    return fail(errno_code(error), "{}: cannot be read: {}", path, errno_message(error));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file) return cannot_read(errno);
  std::string content;
  std::array<char, 64 * KiB> buffer;
  while (const std::size_t bytes = std::fread(buffer.data(), 1, buffer.size(), file.get()))
    content.append(buffer.data(), bytes);
  if (std::ferror(file.get()) != 0) return cannot_read(errno);
  return content;
}

Result<std::vector<TokenId>> encode(const TokenizeOptions& options, const GgufFile& file,
                                    const std::shared_ptr<const Tokenizer>& tokenizer) {
  if (!options.messages_file.empty()) {
    SIROCCO_TRY(const std::string json, read_file(options.messages_file));
    const Result<Conversation> conversation = parse_conversation(json);
    if (!conversation) return fail(conversation.error().at(options.messages_file));
    const auto format = ChatFormat::from_metadata(file.metadata(), tokenizer);
    if (!format) return fail(format.error().at(options.model));
    auto ids = (*format)->encode(conversation->messages, conversation->tools);
    if (!ids) return fail(ids.error().at(options.messages_file));
    return ids;
  }
  std::string text = options.text;
  if (!options.text_file.empty()) {
    SIROCCO_TRY(text, read_file(options.text_file));
  }
  std::vector<TokenId> ids;
  if (options.bos) {
    if (!tokenizer->bos())
      return fail(ErrorCode::invalid_argument, "{}: the vocabulary has no BOS token", options.model);
    ids.push_back(*tokenizer->bos());
  }
  const std::vector<TokenId> encoded = tokenizer->encode(text, options.special);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
  return ids;
}

Result<void> tokenize(const TokenizeOptions& options) {
  SIROCCO_TRY(const auto file, GgufFile::open(options.model));
  const Result<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::from_metadata(file->metadata());
  if (!tokenizer) return fail(tokenizer.error().at(options.model));
  SIROCCO_TRY(const std::vector<TokenId> ids, encode(options, *file, *tokenizer));

  if (!options.json) {
    for (const TokenId id : ids) fmt::print("{:>8}  {}\n", id, nlohmann::json((*tokenizer)->token(id)).dump());
    return {};
  }
  std::vector<std::string> pieces;
  for (const TokenId id : ids) pieces.emplace_back((*tokenizer)->piece(id, true));
  print_json({{"ids", ids}, {"pieces", pieces}});
  return {};
}

}  // namespace

void add_tokenize_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text, by a model file, without a daemon");
  const auto options = std::make_shared<TokenizeOptions>();
  command->add_option("--model", options->model, "GGUF file; only its vocabulary is needed")->required();
  CLI::Option_group* input = command->add_option_group("input", "One of");
  input->add_option("--text", options->text, "The text");
  input->add_option("--text-file", options->text_file, "A file with the text, taken byte by byte as it is");
  CLI::Option* messages = input->add_option(
      "--messages", options->messages_file,
      "A JSON file with a conversation as the OpenAI API writes it; the model's chat format is applied");
  input->require_option(1);
  // In a conversation the chat format decides about both.
  command->add_flag("--special", options->special, "Control tokens written in the text are control tokens")
      ->excludes(messages);
  command->add_flag("--bos", options->bos, "Put the BOS token first")->excludes(messages);
  command->add_flag("--json", options->json, R"(Print {"ids": [...], "pieces": [...]})");
  command->callback([options, &context] {
    if (const Result<void> done = tokenize(*options); !done) context.exit_code = report_failure(done.error());
  });
}

}  // namespace sirocco
