#include "engine/experts/read_shape.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

namespace sirocco {
namespace {

constexpr std::array<ReadShape, 7> kShapes = {
    {{4, 256 * KiB}, {8, 256 * KiB}, {4, MiB}, {8, MiB}, {32, 256 * KiB}, {16, MiB}, {32, MiB}}};
constexpr std::uint64_t kMostPart = 32 * MiB;  // what the largest shape has under way
constexpr std::uint64_t kTurns = 3;
constexpr double kAboutTheBest = 0.97;

// Lines: "sirocco disk 1", which disk, "DEPTH PIECE_BYTES".
constexpr const char* kReadShapeLine = "sirocco disk 1";

}  // namespace

std::span<const ReadShape> read_shapes() {
  return kShapes;
}

ShapeTrial::ShapeTrial(std::uint64_t bytes, std::uint64_t least_part) : rates_(kShapes.size()) {
  const std::uint64_t part = bytes / (kTurns * kShapes.size()) / kDirectBlock * kDirectBlock;
  if (part >= least_part) part_bytes_ = std::min(part, kMostPart);
}

void ShapeTrial::add(std::uint64_t bytes, double seconds) {
  // What else the disk does meanwhile makes a part slower, nothing makes it faster: the best one counts.
  rates_[turn_] = std::max(rates_[turn_], static_cast<double>(bytes) / seconds);
  turn_ = (turn_ + 1) % kShapes.size();
  ++parts_;
}

std::uint64_t ShapeTrial::bytes() const {
  return kTurns * kShapes.size() * part_bytes_;
}

bool ShapeTrial::done() const {
  return parts_ == kTurns * kShapes.size();
}

ReadShape ShapeTrial::chosen() const {
  const double enough = kAboutTheBest * *std::max_element(rates_.begin(), rates_.end());
  const auto first = std::find_if(rates_.begin(), rates_.end(), [&](double rate) { return rate >= enough; });
  return kShapes.at(static_cast<std::size_t>(first - rates_.begin()));
}

std::string disk_identity(int descriptor, std::string_view queue_kind, bool direct) {
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) return "unknown";
  const std::string number = fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
  std::error_code none;  // of a file system without a block device of its own
  const std::filesystem::path device = std::filesystem::read_symlink("/sys/dev/block/" + number, none);
  return fmt::format("{} {} {} {}", number, device.filename().string(), queue_kind, direct ? "direct" : "buffered");
}

Result<void> save_read_shape(const std::filesystem::path& file, std::string_view disk, const ReadShape& shape) {
  const std::filesystem::path unfinished = file.string() + ".new";
  errno = 0;
  {
    std::ofstream out(unfinished, std::ios::trunc);
    out << kReadShapeLine << '\n' << disk << '\n' << shape.depth << ' ' << shape.piece_bytes << '\n';
    out.flush();
    if (!out)
      return fail(errno_code(errno), "{}: how the disk is read best could not be saved: {}", unfinished.string(),
                  errno_message(errno));
  }
  std::error_code error;
  std::filesystem::rename(unfinished, file, error);
  if (error) return fail(ErrorCode::io, "{}: {}", file.string(), error.message());
  return {};
}

std::optional<ReadShape> load_read_shape(const std::filesystem::path& file, std::string_view disk) {
  std::ifstream in(file);
  std::string first;
  std::string of;
  ReadShape shape;
  std::getline(in, first);
  std::getline(in, of);
  if (!(in >> shape.depth >> shape.piece_bytes) || first != kReadShapeLine || of != disk) return {};
  if (std::find(kShapes.begin(), kShapes.end(), shape) == kShapes.end()) return {};
  return shape;
}

}  // namespace sirocco
