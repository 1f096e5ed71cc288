#include "engine/gguf/gguf_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <new>

#include "engine/gguf/gguf_header.h"
#include "engine/gguf/mapping_guard.h"

namespace sirocco {
namespace {

// NAME-00002-of-00003.gguf
struct SplitName {
  std::string stem;          // "NAME"
  std::uint64_t number = 0;  // from 1
  std::uint64_t count = 0;
};

std::optional<SplitName> parse_split_name(const std::string& name) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (name.size() <= kPattern.size()) return std::nullopt;
  SplitName split{.stem = name.substr(0, name.size() - kPattern.size())};
  const std::string_view tail = std::string_view(name).substr(split.stem.size());
  const auto number = [&](std::size_t at, std::uint64_t& value) {
    const auto [end, error] = std::from_chars(tail.data() + at, tail.data() + at + 5, value);
    return error == std::errc() && end == tail.data() + at + 5;
  };
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf") return std::nullopt;
  if (!number(1, split.number) || !number(10, split.count)) return std::nullopt;
  return split;
}

std::filesystem::path part_path(const std::filesystem::path& any, const SplitName& split, std::uint64_t number) {
  return any.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", split.stem, number, split.count);
}

// What a part says of itself; {0, 1} for a file that is no part.
struct SplitPlace {
  std::uint64_t index = 0;  // from 0
  std::uint64_t count = 1;
};

Result<SplitPlace> split_place(const GgufMetadata& metadata) {
  SplitPlace place;
  if (!metadata.contains("split.count")) return place;
  SIROCCO_TRY(place.count, metadata.integer("split.count"));
  if (place.count == 0) place.count = 1;  // written by some tools for a model in one file
  if (place.count > GgufLimits::parts) {
    return fail(ErrorCode::corrupt, "split.count is {}, at most {} parts are allowed", place.count, GgufLimits::parts);
  }
  if (place.count > 1) {
    SIROCCO_TRY(place.index, metadata.integer("split.no"));
    if (place.index >= place.count) {
      return fail(ErrorCode::corrupt, "split.no is {}, expected less than split.count, {}", place.index, place.count);
    }
  }
  return place;
}

class MappedGguf final : public GgufFile {
 public:
  ~MappedGguf() override {
    for (const Part& part : parts_) {
      if (part.descriptor < 0) continue;
      unguard_mapping(part.mapping);
      munmap(const_cast<std::byte*>(part.mapping.data()), part.mapping.size());
      close(part.descriptor);
    }
  }

  Result<void> load(const std::filesystem::path& path) {
    path_ = path;
    SIROCCO_TRY(GgufHeader header, map_part(path));
    const auto place = split_place(header.metadata);
    if (!place) return fail(place.error().at(path.string()));
    if (place->count == 1) return add_part(std::move(header));
    const auto split = parse_split_name(path.filename().string());
    if (!split || split->count != place->count || split->number != place->index + 1) {
      return fail(ErrorCode::invalid_argument,
                  "{}: part {} of {} of a split model, so its name must end in -{:05}-of-{:05}.gguf", path.string(),
                  place->index + 1, place->count, place->index + 1, place->count);
    }
    return load_parts(*split, place->index, std::move(header));
  }

  Result<void> load(Bytes bytes, std::string name) {
    path_ = std::move(name);
    auto header = parse_gguf_header(bytes);
    if (!header) return fail(header.error().at(path_.string()));
    parts_.push_back({.path = path_, .descriptor = -1, .mapping = bytes, .data_offset = header->data_offset});
    return add_part(std::move(*header));
  }

 private:
  // All parts in order; `header` is that of part `index`, the one already mapped.
  Result<void> load_parts(const SplitName& split, std::uint64_t index, GgufHeader header) {
    std::vector<GgufHeader> headers(split.count);
    std::vector<Part> parts(split.count);
    // parts_ owns every mapping at all times, so that an early return releases all of them.
    std::vector<std::size_t> mapped_as(split.count, 0);
    headers[index] = std::move(header);
    for (std::uint64_t i = 0; i < split.count; ++i) {
      if (i == index) continue;
      const std::filesystem::path path = part_path(path_, split, i + 1);
      SIROCCO_TRY(headers[i], map_part(path));
      mapped_as[i] = parts_.size() - 1;
      const auto place = split_place(headers[i].metadata);
      if (!place) return fail(place.error().at(path.string()));
      if (place->index != i || place->count != split.count) {
        return fail(ErrorCode::corrupt, "{}: says it is part {} of {}, expected {} of {}", path.string(),
                    place->index + 1, place->count, i + 1, split.count);
      }
      if (i > 0) headers[i].metadata = {};  // the first part's counts
    }
    for (std::uint64_t i = 0; i < split.count; ++i) parts[i] = parts_[mapped_as[i]];
    parts_ = std::move(parts);
    for (GgufHeader& part : headers) SIROCCO_CHECK(add_part(std::move(part)));
    return check_tensor_count();
  }

  // Opens, maps, guards and checks one file and appends it to parts_.
  Result<GgufHeader> map_part(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe must not wait for a writer; it changes nothing for a regular file.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) return fail(errno_code(errno), "{}: {}", path.string(), errno_message(errno));
    parts_.push_back({.path = path, .descriptor = -1, .mapping = {}, .data_offset = 0});
    Part& part = parts_.back();
    struct stat status {};
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
      close(descriptor);
      return fail(ErrorCode::invalid_argument, "{}: {}", path.string(),
                  S_ISREG(status.st_mode) ? "the file is empty" : "not a regular file; give the path of a .gguf file");
    }
    const auto size = static_cast<std::size_t>(status.st_size);
    void* const memory = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (memory == MAP_FAILED) {
      const int error = errno;
      close(descriptor);
      return fail(errno_code(error), "{}: cannot map {}: {}", path.string(), format_bytes(size), errno_message(error));
    }
    part.descriptor = descriptor;
    part.mapping = Bytes(static_cast<const std::byte*>(memory), size);
    install_mapping_guard();
    if (!guard_mapping(part.mapping, descriptor, path.string())) {
      return fail(ErrorCode::out_of_memory, "{}: too many model files are open at once; close some", path.string());
    }
    auto header = parse_gguf_header(part.mapping);
    if (!header) return fail(header.error().at(path.string()));
    part.data_offset = header->data_offset;
    return header;
  }

  // Takes over a checked header as the next part. Metadata is that of the first part; the others repeat or omit it.
  Result<void> add_part(GgufHeader header) {
    const std::uint32_t index = next_part_++;
    if (index == 0) {
      version_ = header.version;
      alignment_ = header.alignment;
      metadata_ = std::move(header.metadata);
    }
    if (tensors_.size() + header.tensors.size() > GgufLimits::tensors)
      return fail(ErrorCode::corrupt, "{}: more than {} tensors in all parts together", parts_[index].path.string(),
                  GgufLimits::tensors);
    for (GgufTensor& tensor : header.tensors) {
      tensor.part = index;
      if (!by_name_.emplace(tensor.name, tensors_.size()).second) {
        return fail(ErrorCode::corrupt, "{}: tensor {} is also in another part", parts_[index].path.string(),
                    tensor.name);
      }
      tensors_.push_back(std::move(tensor));
    }
    return {};
  }

  Result<void> check_tensor_count() const {
    const auto expected = metadata_.integer("split.tensors.count");
    if (!expected) return fail(expected.error().at(parts_[0].path.string()));
    if (*expected == tensors_.size()) return {};
    return fail(ErrorCode::corrupt, "{}: {} tensors in {} parts, expected {} (split.tensors.count)",
                parts_[0].path.string(), tensors_.size(), parts_.size(), *expected);
  }

  std::uint32_t next_part_ = 0;
};

}  // namespace

Result<std::shared_ptr<const GgufFile>> GgufFile::open(const std::filesystem::path& path) {
  try {
    auto file = std::make_shared<MappedGguf>();
    SIROCCO_CHECK(file->load(path));
    return file;
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::out_of_memory, "{}: not enough memory to read what the file says of itself", path.string());
  }
}

Result<std::shared_ptr<const GgufFile>> GgufFile::parse(Bytes bytes, std::string name) {
  auto file = std::make_shared<MappedGguf>();
  SIROCCO_CHECK(file->load(bytes, std::move(name)));
  return file;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

Bytes GgufFile::data(const GgufTensor& tensor) const {
  return parts_.at(tensor.part).mapping.subspan(tensor.offset, tensor.bytes);
}

}  // namespace sirocco
