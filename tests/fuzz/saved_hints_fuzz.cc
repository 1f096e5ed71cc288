// Any bytes as what the daemon keeps in its state folder besides sessions: which experts were in memory, and how the
// disk is read best. Refused, or within the model's bounds. The bytes are also tried behind the first lines of a file
// that is right.
#include <stdlib.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "engine/experts/hot_set.h"
#include "engine/experts/read_shape.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

std::filesystem::path own_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "saved-hints-XXXXXX").string();
  require(mkdtemp(name.data()) != nullptr);
  return name;
}

struct Folder {
  std::filesystem::path path = own_folder();
  ~Folder() { std::filesystem::remove_all(path); }
};

void write(const std::filesystem::path& file, std::string_view first, std::string_view second) {
  std::ofstream(file, std::ios::trunc) << first << second;
}

// The first two lines of a file: what it is, and of what.
std::string first_lines(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string what;
  std::string whose;
  std::getline(in, what);
  std::getline(in, whose);
  return what + "\n" + whose + "\n";
}

void use_hot_set(const std::filesystem::path& file, const Model& model) {
  const auto experts = load_hot_set(file, model);
  if (!experts) return;
  const std::set<ExpertId> once(experts->begin(), experts->end());
  require(once.size() == experts->size());
  for (const ExpertId& expert : *experts)
    require(expert.layer < model.spec().layers && expert.index < model.spec().moe->experts);
}

void use_shape(const std::filesystem::path& file) {
  const auto shape = load_read_shape(file, "disk");
  if (shape) require(shape->depth > 0 && shape->depth <= 32 && shape->piece_bytes > 0);
}

}  // namespace
}  // namespace sirocco

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco;
  static const std::shared_ptr<const Model> model =
      Model::open(test::golden_dir() / "model" / "tiny-mixtral.gguf").value();
  static const Folder folder;
  static const std::filesystem::path file = folder.path / "file";
  static const std::string of_hot_set = save_hot_set(file, *model, {}) ? first_lines(file) : "";
  static const std::string of_shape = save_read_shape(file, "disk", read_shapes().front()) ? first_lines(file) : "";

  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const std::string_view first : {std::string_view(), std::string_view(of_hot_set), std::string_view(of_shape)}) {
    write(file, first, text);
    use_hot_set(file, *model);
    use_shape(file);
  }
  return 0;
}
