#include "cli/doctor_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

namespace sirocco {
namespace {

std::string_view level_name(Finding::Level level) {
  switch (level) {
    case Finding::Level::ok:
      return "ok";
    case Finding::Level::warning:
      return "warning";
    case Finding::Level::error:
      break;
  }
  return "error";
}

auto count(std::span<const Finding> findings, Finding::Level level) {
  return std::count_if(findings.begin(), findings.end(), [level](const Finding& f) { return f.level == level; });
}

// The lines after the first stand below its beginning.
std::string indented(const std::string& text, std::size_t columns) {
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);)
    result += (result.empty() ? "" : "\n" + std::string(columns, ' ')) + line;
  return result;
}

}  // namespace

bool has_error(std::span<const Finding> findings) {
  return count(findings, Finding::Level::error) != 0;
}

std::string doctor_text(std::span<const Finding> findings) {
  std::size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.check.size());
  constexpr std::size_t kLevelWidth = 9;
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{:<{}}{:<{}}  {}\n", level_name(finding.level), kLevelWidth, finding.check, width,
                        indented(finding.found, kLevelWidth + width + 2));
    if (!finding.advice.empty()) text += fmt::format("{:<{}}-> {}\n", "", kLevelWidth + width + 2, finding.advice);
  }
  text += fmt::format("\n{} ok, {} warnings, {} errors\n", count(findings, Finding::Level::ok),
                      count(findings, Finding::Level::warning), count(findings, Finding::Level::error));
  return text;
}

nlohmann::ordered_json doctor_json(std::span<const Finding> findings) {
  auto checks = nlohmann::ordered_json::array();
  for (const Finding& finding : findings)
    checks.push_back({{"level", level_name(finding.level)},
                      {"check", finding.check},
                      {"found", finding.found},
                      {"advice", finding.advice}});
  return {{"errors", count(findings, Finding::Level::error)},
          {"warnings", count(findings, Finding::Level::warning)},
          {"checks", std::move(checks)}};
}

}  // namespace sirocco
