// Any bytes as JSON, and as a conversation in each chat format: errors, or a prompt whose control tokens are those of
// the same conversation with harmless words, so that no text of a client can end its message.
#include <array>
#include <cstdlib>

#include "engine/text/chat_format.h"
#include "engine/text/json_text.h"
#include "tests/fuzz/byte_vocabulary.h"

namespace sirocco {
namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

struct Format {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatFormat> format;
};

Format format(std::string_view pre, std::string_view chat_template) {
  GgufMetadata metadata = fuzz::chat_vocabulary(pre);
  metadata.set("tokenizer.chat_template", std::string(chat_template));
  const auto tokenizer = Tokenizer::from_metadata(metadata).value();
  return {tokenizer, ChatFormat::from_metadata(metadata, tokenizer).value()};
}

// Of Mistral's templates only the control tokens they write are looked at.
const std::array<Format, 5>& formats() {
  static const std::array<Format, 5> all = {
      format("qwen2",
             "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
             "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
             "{% endif %}"),
      format("tekken", "{{ '[INST]' }}"),
      format("tekken", "{{ '[SYSTEM_PROMPT]' + '[INST]' }}"),
      format("", "{{ '[INST]' + '[TOOL_RESULTS]' }}"),
      format("", "{{ '[INST]' }}{{ ', \"call_id\": ' }}"),
  };
  return all;
}

void use(const Conversation& conversation) {
  Conversation harmless = conversation;
  for (ChatMessage& message : harmless.messages) {
    // What is only white space may be left out, so it stays.
    if (message.content.find_first_not_of(" \t\r\n\v\f") != std::string::npos) message.content = "a";
  }
  for (const auto& [tokenizer, format] : formats()) {
    const auto ids = format->encode(conversation.messages, conversation.tools);
    const auto expected = format->encode(harmless.messages, harmless.tools);
    if (ids && expected) require(fuzz::controls(*tokenizer, *ids) == fuzz::controls(*tokenizer, *expected));
  }
}

}  // namespace
}  // namespace sirocco

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto json = parse_json(text)) {
    const std::string written = python_json(*json);
    const auto again = parse_json(written);
    require(again && python_json(*again) == written);
  }
  if (const auto conversation = parse_conversation(text)) use(*conversation);
  return 0;
}
