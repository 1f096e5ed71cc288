#include "engine/experts/hot_set.h"

#include <cerrno>
#include <fstream>
#include <set>
#include <string>

namespace sirocco {
namespace {

// Lines: "sirocco hot set 1", what the model is, how many, then "LAYER INDEX" for each, the most useful first.
constexpr const char* kHotSetLine = "sirocco hot set 1";

// Another file of the same name and shape is noticed by its size.
std::string identity(const Model& model) {
  std::uint64_t bytes = 0;
  for (const GgufFile::Part& part : model.file().parts()) bytes += part.mapping.size();
  const auto& moe = model.spec().moe;
  return fmt::format("{} bytes, {} layers, {} experts, {}", bytes, model.spec().layers, moe ? moe->experts : 0,
                     model.file().path().filename().string());
}

}  // namespace

Result<void> save_hot_set(const std::filesystem::path& file, const Model& model, std::span<const ExpertId> experts) {
  const std::filesystem::path unfinished = file.string() + ".new";
  errno = 0;
  {
    std::ofstream out(unfinished, std::ios::trunc);
    out << kHotSetLine << '\n' << identity(model) << '\n' << experts.size() << '\n';
    for (const ExpertId& expert : experts) out << expert.layer << ' ' << expert.index << '\n';
    out.flush();
    if (!out)
      return fail(errno_code(errno), "{}: the experts in memory could not be saved: {}", unfinished.string(),
                  errno_message(errno));
  }
  std::error_code error;
  std::filesystem::rename(unfinished, file, error);
  if (error) return fail(ErrorCode::io, "{}: {}", file.string(), error.message());
  return {};
}

Result<std::vector<ExpertId>> load_hot_set(const std::filesystem::path& file, const Model& model) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::vector<ExpertId>();
  std::ifstream in(file);
  std::string first;
  std::string of;
  std::size_t count = 0;
  std::getline(in, first);
  std::getline(in, of);
  in >> count;
  if (!in || first != kHotSetLine)
    return fail(ErrorCode::corrupt, "{}: not a list of experts of this version; it is ignored", file.string());
  if (of != identity(model)) return fail(ErrorCode::not_found, "{}: of another model; it is ignored", file.string());
  const std::size_t experts = model.spec().moe ? model.spec().moe->experts : 0;
  const std::size_t all = model.spec().layers * experts;
  std::vector<ExpertId> list;
  std::set<ExpertId> seen;
  for (std::size_t i = 0; i < std::min(count, all); ++i) {
    ExpertId expert;
    if (!(in >> expert.layer >> expert.index) || expert.layer >= model.spec().layers || expert.index >= experts)
      return fail(ErrorCode::corrupt, "{}: damaged at its {}. expert; it is ignored", file.string(), i + 1);
    if (seen.insert(expert).second) list.push_back(expert);
  }
  return list;
}

}  // namespace sirocco
