#include "engine/session/session_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <string_view>

namespace sirocco {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "sirosess";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kMaxBody = 256 * MiB;
constexpr std::size_t kDigestBytes = sizeof(Sha256::Digest);

class Writer {
 public:
  std::vector<std::byte> bytes;

  template <class T>
  void number(T value) {
    const auto* const from = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
  }
  void text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    const auto view = std::as_bytes(std::span(value));
    bytes.insert(bytes.end(), view.begin(), view.end());
  }
  template <class T, class Write>
  void list(const std::vector<T>& values, Write write) {
    number(static_cast<std::uint32_t>(values.size()));
    for (const T& value : values) write(value);
  }
};

// Reads what a Writer wrote. After the first thing that cannot be read everything is 0 or empty.
class Reader {
 public:
  explicit Reader(Bytes bytes) : rest_(bytes) {}

  bool good() const { return good_; }
  bool at_end() const { return good_ && rest_.empty(); }

  template <class T>
  T number() {
    T value{};
    if (take(sizeof value)) std::memcpy(&value, taken_.data(), sizeof value);
    return value;
  }
  std::string text() {
    const auto size = number<std::uint32_t>();
    return take(size) ? std::string(reinterpret_cast<const char*>(taken_.data()), size) : std::string();
  }
  template <class T, class Read>
  void list(std::vector<T>& values, Read read) {
    for (auto count = number<std::uint32_t>(); good_ && count > 0; --count) values.push_back(read());
  }

 private:
  bool take(std::size_t bytes) {
    good_ = good_ && bytes <= rest_.size();
    taken_ = good_ ? rest_.first(bytes) : Bytes();
    if (good_) rest_ = rest_.subspan(bytes);
    return good_;
  }

  Bytes rest_;
  Bytes taken_;
  bool good_ = true;
};

void write_content(Writer& w, const SessionContent& content) {
  w.list(content.conversation.messages, [&](const ChatMessage& message) {
    w.number(static_cast<std::uint8_t>(message.role));
    w.text(message.content);
    w.list(message.tool_calls, [&](const ToolCall& call) {
      w.text(call.id);
      w.text(call.name);
      w.text(call.arguments);
    });
    w.text(message.tool_call_id);
    w.text(message.name);
  });
  w.text(content.conversation.tools);
  w.list(content.tokens, [&](TokenId id) { w.number(id); });
  w.list(content.turn_begins, [&](std::uint32_t begin) { w.number(begin); });
}

// False: what it says cannot be.
bool read_content(Reader& r, SessionContent& content) {
  bool possible = true;
  r.list(content.conversation.messages, [&] {
    ChatMessage message;
    const auto role = r.number<std::uint8_t>();
    possible = possible && role <= static_cast<std::uint8_t>(Role::tool);
    message.role = static_cast<Role>(role);
    message.content = r.text();
    r.list(message.tool_calls, [&] { return ToolCall{.id = r.text(), .name = r.text(), .arguments = r.text()}; });
    message.tool_call_id = r.text();
    message.name = r.text();
    return message;
  });
  content.conversation.tools = r.text();
  r.list(content.tokens, [&] { return r.number<TokenId>(); });
  r.list(content.turn_begins, [&] { return r.number<std::uint32_t>(); });
  const auto& begins = content.turn_begins;
  const bool ascending = std::adjacent_find(begins.begin(), begins.end(), std::greater_equal()) == begins.end();
  return possible && ascending && (begins.empty() || begins.back() < content.tokens.size()) &&
         !(content.is_conversation() && content.is_text());
}

}  // namespace

std::vector<std::byte> encode_session_head(const SessionHead& head) {
  Writer body;
  body.text(head.model);
  body.text(head.kv_layout);
  body.number(head.uid);
  body.text(head.name);
  body.number(static_cast<std::uint8_t>(head.overflow));
  write_content(body, head.content);
  body.list(head.computed, [&](TokenId id) { body.number(id); });
  body.number(head.block_bytes);

  Writer w;
  const auto magic = std::as_bytes(std::span(kMagic));
  w.bytes.assign(magic.begin(), magic.end());
  w.number(kVersion);
  w.number(static_cast<std::uint32_t>(body.bytes.size()));
  w.bytes.insert(w.bytes.end(), body.bytes.begin(), body.bytes.end());
  const Sha256::Digest digest = Sha256().add(w.bytes).finish();
  w.bytes.insert(w.bytes.end(), digest.begin(), digest.end());
  return std::move(w.bytes);
}

Result<std::size_t> session_head_bytes(Bytes prefix) {
  const auto magic = std::as_bytes(std::span(kMagic));
  if (prefix.size() < kSessionPrefixBytes || !std::equal(magic.begin(), magic.end(), prefix.begin()))
    return fail(ErrorCode::corrupt, "not a session's file, or its beginning is damaged");
  Reader r(prefix.subspan(magic.size()));
  if (const auto version = r.number<std::uint32_t>(); version != kVersion)
    return fail(ErrorCode::unsupported, "version {} of the format, this is version {}", version, kVersion);
  const auto body = r.number<std::uint32_t>();
  if (body > kMaxBody) return fail(ErrorCode::corrupt, "damaged: it says that it begins with {} bytes", body);
  return kSessionPrefixBytes + body + kDigestBytes;
}

Result<SessionHead> decode_session_head(Bytes bytes) {
  SIROCCO_TRY(const std::size_t size, session_head_bytes(bytes));
  if (size > bytes.size()) return fail(ErrorCode::corrupt, "damaged: it ends in its head");
  const Bytes signed_part = bytes.first(size - kDigestBytes);
  const Sha256::Digest digest = Sha256().add(signed_part).finish();
  if (!std::equal(digest.begin(), digest.end(), bytes.begin() + static_cast<std::ptrdiff_t>(signed_part.size())))
    return fail(ErrorCode::corrupt, "damaged: its checksum is wrong");
  Reader r(signed_part.subspan(kSessionPrefixBytes));
  SessionHead head;
  head.model = r.text();
  head.kv_layout = r.text();
  head.uid = r.number<std::uint32_t>();
  head.name = r.text();
  const auto overflow = r.number<std::uint8_t>();
  head.overflow = static_cast<SessionOverflow>(overflow);
  const bool possible = read_content(r, head.content);
  r.list(head.computed, [&] { return r.number<TokenId>(); });
  head.block_bytes = r.number<std::uint64_t>();
  if (!r.at_end() || !possible || overflow > static_cast<std::uint8_t>(SessionOverflow::drop_oldest))
    return fail(ErrorCode::corrupt, "its head says what cannot be");
  return head;
}

Sha256::Digest session_block_digest(Bytes head, std::uint32_t index, Bytes block) {
  return Sha256().add(head.last(kDigestBytes)).add(std::as_bytes(std::span(&index, 1))).add(block).finish();
}

}  // namespace sirocco
