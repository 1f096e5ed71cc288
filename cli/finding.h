// What `sirocco doctor` finds out: one value for each thing that it looks at.
#pragma once

#include <string>
#include <utility>

namespace sirocco {

struct Finding {
  enum class Level { ok, warning, error };

  Level level = Level::ok;
  std::string check;   // what was looked at, in a word or two
  std::string found;   // what it is like
  std::string advice;  // what to do; empty where nothing is to be done
};

inline Finding finding_ok(std::string check, std::string found) {
  return {Finding::Level::ok, std::move(check), std::move(found), {}};
}
inline Finding finding_warning(std::string check, std::string found, std::string advice) {
  return {Finding::Level::warning, std::move(check), std::move(found), std::move(advice)};
}
inline Finding finding_error(std::string check, std::string found, std::string advice) {
  return {Finding::Level::error, std::move(check), std::move(found), std::move(advice)};
}

}  // namespace sirocco
