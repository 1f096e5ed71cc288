// Which ReadShape suits the disk that a model is on: measured while its dense weights are read, and remembered in a
// file, so that a disk is measured once. A shallow queue lets what is waited for overtake what is read in the
// background.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/experts/transfer_queue.h"

namespace sirocco {

// Those that are tried, the fewest bytes under way first; a disk that none of them suits gains from no other.
std::span<const ReadShape> read_shapes();

// Of so many bytes the first ones are read in turns, a part under each of read_shapes(). Not possible where the parts
// would be smaller than least_part, too small to tell anything: 16 MiB are 2 ms of the fastest disks.
class ShapeTrial {
 public:
  explicit ShapeTrial(std::uint64_t bytes, std::uint64_t least_part = 16 * MiB);

  bool possible() const { return part_bytes_ != 0; }
  std::uint64_t part_bytes() const { return part_bytes_; }
  std::uint64_t bytes() const;  // of all parts
  bool done() const;
  const ReadShape& next() const { return read_shapes()[turn_]; }  // of the next part
  void add(std::uint64_t bytes, double seconds);                  // that the part took

  // The first whose best rate is about the best of all.
  ReadShape chosen() const;

 private:
  std::uint64_t part_bytes_ = 0;
  std::size_t turn_ = 0;
  std::size_t parts_ = 0;      // read
  std::vector<double> rates_;  // bytes/s, of each shape the best
};

// The disk under an open file and how it is read: "259:2 nvme0n1p2 io_uring direct".
std::string disk_identity(int descriptor, std::string_view queue_kind, bool direct);

// Writes the file anew: beside it, then renamed. Error: it cannot be written.
Result<void> save_read_shape(const std::filesystem::path& file, std::string_view disk, const ReadShape& shape);

// Nothing where there is no such file, where it is of another disk or where it is damaged: the disk is measured again.
std::optional<ReadShape> load_read_shape(const std::filesystem::path& file, std::string_view disk);

}  // namespace sirocco
