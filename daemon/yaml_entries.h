// Reads a configuration file's YAML as a flat list of entries, each with its place in the file. Only nested maps of
// scalars are accepted: no lists, anchors, aliases, tags or further documents, so nothing can be expanded and little
// can be nested. The file is read as events, and never becomes a tree.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sirocco::daemon {

struct YamlPlace {
  int line = 0;  // both from 1
  int column = 0;
};

struct YamlEntry {
  enum class Kind { scalar, null, map };

  std::string path;  // "server.limits.connections"
  Kind kind = Kind::scalar;
  std::string text;    // a scalar's
  bool plain = false;  // a scalar that is not quoted
  YamlPlace key;
  YamlPlace value;
};

struct YamlError {
  YamlPlace place;
  std::string message;
};

struct YamlEntries {
  std::vector<YamlEntry> entries;  // in the order of the file, a map before what is in it; each path once
  std::vector<YamlError> errors;   // after a syntax error nothing more is read
};

YamlEntries read_yaml_entries(std::string_view text);

// Of the byte at `offset`.
YamlPlace yaml_place(std::string_view text, std::size_t offset);

}  // namespace sirocco::daemon
