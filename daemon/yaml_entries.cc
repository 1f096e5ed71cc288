#include "daemon/yaml_entries.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <sstream>
#include <utility>

#include "daemon/quoted.h"
#include "engine/base/utf8.h"

namespace sirocco::daemon {
namespace {

constexpr std::size_t kMaxDepth = 8;  // maps and lists within each other; yaml-cpp recurses once for each

struct Abandoned : std::exception {};  // thrown through yaml-cpp to end the reading; the error is already noted

YamlPlace place_of(const YAML::Mark& mark) {
  return {.line = mark.line + 1, .column = mark.column + 1};
}

bool is_key(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (std::size_t end = 0; end != std::string_view::npos; text.remove_prefix(std::min(text.size(), end + 1))) {
    end = text.find('\n');
    lines.push_back(text.substr(0, end));
  }
  return lines;
}

// Whether the scalar at the beginning of `source` ends in that line. yaml-cpp takes the end of the file for a missing
// quote: what follows one would silently be part of the value.
bool ends_in_its_line(std::string_view source, std::string_view plain_text) {
  source = source.substr(0, source.find('\r'));
  if (!source.starts_with('"') && !source.starts_with('\'')) return source.starts_with(plain_text);

  const char quote = source.front();
  for (std::size_t i = 1; i < source.size(); ++i) {
    const bool doubled = quote == '\'' && source.substr(i).starts_with("''");
    if (source[i] == quote && !doubled) return true;
    if (doubled || (quote == '"' && source[i] == '\\')) ++i;
  }
  return false;
}

class EntryHandler : public YAML::EventHandler {
 public:
  EntryHandler(std::string_view source, YamlEntries& out) : lines_(lines_of(source)), out_(out) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 1) return;
    error(mark, "a second document begins; one file is one document");
    throw Abandoned();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    scalar(mark, "?", anchor, YamlEntry::Kind::null, "");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    scalar(mark, tag, anchor, YamlEntry::Kind::scalar, value);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    error(mark, "aliases are not allowed; write the value out");
    if (!stack_.empty()) stack_.back().key.clear();
    scalar(mark, "?", 0, YamlEntry::Kind::null, "");
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    error(mark, "lists are not allowed; the configuration is made of maps only");
    enter(mark, tag, anchor, {.sequence = true, .ignored = true});
  }
  void OnSequenceEnd() override { leave(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    const bool complex_key = !stack_.empty() && !stack_.back().sequence && !stack_.back().has_key;
    if (complex_key) error(mark, "a map is not a key");
    const bool ignored = complex_key || (!stack_.empty() && (stack_.back().ignored || stack_.back().key.empty()));
    if (!ignored && !stack_.empty()) add(mark, YamlEntry::Kind::map, "", false);
    enter(mark, tag, anchor, {.path = stack_.empty() ? "" : stack_.back().key, .ignored = ignored});
  }
  void OnMapEnd() override { leave(); }

 private:
  struct Level {
    std::string path = {};  // of this map, empty for the outermost
    bool sequence = false;
    bool ignored = false;  // what is in it has no path: an error was noted
    bool has_key = false;  // the next event is this key's value
    std::string key = {};  // its whole path, empty if it was not a key
    YamlPlace key_place = {};
  };

  std::string_view source_at(const YAML::Mark& mark) const {
    const std::string_view line = lines_.at(static_cast<std::size_t>(mark.line));
    return line.substr(std::min(line.size(), static_cast<std::size_t>(mark.column)));
  }

  // About the key whose value is being read, if one is.
  void error(const YAML::Mark& mark, std::string_view message) {
    const bool named = !stack_.empty() && stack_.back().has_key && !stack_.back().key.empty();
    out_.errors.push_back(
        {.place = place_of(mark),
         .message = named ? fmt::format("{}: {}", stack_.back().key, message) : std::string(message)});
  }

  // False, and an error, for what only YAML's finer points would explain.
  bool check_properties(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) error(mark, "anchors are not allowed; write the value out where it is needed");
    const bool tagged = !tag.empty() && tag != "?" && tag != "!";
    if (tagged) error(mark, fmt::format("the tag {} is not allowed", in_quotes(tag)));
    return anchor == 0 && !tagged;
  }

  // A key and its value are two events of the same kind.
  void scalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlEntry::Kind kind,
              const std::string& text) {
    const bool proper = check_properties(mark, tag, anchor);
    if (stack_.empty()) {
      if (kind == YamlEntry::Kind::scalar)
        error(mark, fmt::format("{} is not a map of keys and values", in_quotes(text)));
      return;
    }
    if (stack_.back().sequence) return;
    if (!stack_.back().has_key) return begin_key(mark, text);
    if (proper && kind == YamlEntry::Kind::scalar && !ends_in_its_line(source_at(mark), text)) {
      error(mark, "the value does not end in this line; put it in one line, between two quotes");
    } else if (proper && !stack_.back().key.empty()) {
      add(mark, kind, text, tag != "!");
    }
    stack_.back().has_key = false;
  }

  void begin_key(const YAML::Mark& mark, const std::string& text) {
    Level& map = stack_.back();
    map.has_key = true;
    map.key.clear();
    map.key_place = place_of(mark);
    if (map.ignored) return;
    if (!is_key(text)) {
      error(mark,
            fmt::format("{} is not a key; keys are lower-case words, in maps within each other", in_quotes(text)));
      return;
    }
    std::string path = map.path.empty() ? text : fmt::format("{}.{}", map.path, text);
    const auto [first, is_new] = seen_.try_emplace(path, map.key_place);
    if (is_new) {
      map.key = std::move(path);
    } else {
      error(mark, fmt::format("{}: given twice, first in line {}; allowed: once", path, first->second.line));
    }
  }

  void add(const YAML::Mark& mark, YamlEntry::Kind kind, const std::string& text, bool plain) {
    const Level& map = stack_.back();
    out_.entries.push_back(
        {.path = map.key, .kind = kind, .text = text, .plain = plain, .key = map.key_place, .value = place_of(mark)});
  }

  void enter(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Level level) {
    check_properties(mark, tag, anchor);
    if (stack_.size() >= kMaxDepth) {
      error(mark, fmt::format("nested more than {} deep", kMaxDepth));
      throw Abandoned();
    }
    stack_.push_back(std::move(level));
  }

  // A map or list just ended was the value of the level below, or, refused, its key.
  void leave() {
    stack_.pop_back();
    if (stack_.empty() || stack_.back().sequence) return;
    stack_.back().has_key = !stack_.back().has_key;
    if (stack_.back().has_key) stack_.back().key.clear();
  }

  std::vector<std::string_view> lines_;
  YamlEntries& out_;
  std::vector<Level> stack_;
  std::map<std::string, YamlPlace> seen_;  // every path, and where it was first
  int documents_ = 0;
};

}  // namespace

YamlPlace yaml_place(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t newline = before.rfind('\n');  // npos + 1 is 0
  return {.line = static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1,
          .column = static_cast<int>(offset - (newline + 1)) + 1};
}

YamlEntries read_yaml_entries(std::string_view text) {
  YamlEntries out;
  // yaml-cpp would guess at UTF-16 and UTF-32, and take bytes that are no character as they are.
  const std::size_t readable = std::min(utf8_valid_prefix(text), text.find('\0'));
  if (readable < text.size()) {
    out.errors.push_back(
        {.place = yaml_place(text, readable), .message = "not text: it must be UTF-8 without zero bytes"});
    return out;
  }
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  EntryHandler handler(text, out);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(handler)) {
    }
  } catch (const Abandoned&) {
  } catch (const YAML::Exception& e) {
    out.errors.push_back({.place = place_of(e.mark), .message = fmt::format("not YAML: {}", e.msg)});
  } catch (const std::exception& e) {
    out.errors.push_back({.place = {.line = 1, .column = 1}, .message = fmt::format("not YAML: {}", e.what())});
  }
  return out;
}

}  // namespace sirocco::daemon
