#include "engine/text/json_text.h"

#include <array>
#include <utility>

namespace sirocco {
namespace {

void write(std::string_view text, std::string& out) {
  constexpr std::string_view escaped = "\"\\\b\f\n\r\t";
  constexpr std::string_view letters = "\"\\bfnrt";
  out += '"';
  for (const char c : text) {
    if (const std::size_t at = escaped.find(c); at != std::string_view::npos) {
      out += '\\';
      out += letters[at];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

struct Writer {
  std::string& out;

  void operator()(std::nullptr_t) const { out += "null"; }
  void operator()(bool value) const { out += value ? "true" : "false"; }
  void operator()(const JsonNumber& number) const { out += number.text; }
  void operator()(const std::string& text) const { write(text, out); }
  void operator()(const std::vector<Json>& elements) const {
    const char* separator = "[";
    for (const Json& element : elements) {
      out += std::exchange(separator, ", ");
      std::visit(*this, element.value);
    }
    out += elements.empty() ? "[]" : "]";
  }
  void operator()(const std::vector<JsonMember>& members) const {
    const char* separator = "{";
    for (const auto& [key, value] : members) {
      out += std::exchange(separator, ", ");
      write(key, out);
      out += ": ";
      std::visit(*this, value.value);
    }
    out += members.empty() ? "{}" : "}";
  }
};

}  // namespace

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<std::vector<JsonMember>>(&value);
  if (members == nullptr) return nullptr;
  for (const JsonMember& member : *members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

std::string_view Json::kind() const {
  constexpr std::array<std::string_view, 6> names = {"null", "boolean", "number", "string", "array", "object"};
  return names.at(value.index());
}

std::string python_json(const Json& value) {
  std::string out;
  std::visit(Writer{out}, value.value);
  return out;
}

}  // namespace sirocco
