#include "engine/gguf/gguf_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <type_traits>

#include "engine/base/printable.h"
#include "engine/gguf/gguf_header.h"

namespace sirocco {
namespace {

constexpr std::size_t kBufferBytes = 4 * MiB;  // large enough for full disk speed, small enough to be forgotten

// Builds the bytes before the tensors' data.
class HeaderText {
 public:
  template <class T>
  void number(T value) {
    const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
    bytes_.append(bytes.data(), bytes.size());
  }
  void text(std::string_view text) {
    number<std::uint64_t>(text.size());
    bytes_ += text;
  }
  void value(const GgufValue& value) {
    std::visit([&](const auto& v) { typed(v); }, value);
  }
  void pad(std::uint64_t alignment) { bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment); }

  const std::string& bytes() const { return bytes_; }

 private:
  template <class T>
  void element(const T& value) {
    if constexpr (std::is_same_v<T, std::string>)
      text(value);
    else if constexpr (std::is_same_v<T, bool>)
      number<std::uint8_t>(value ? 1 : 0);
    else
      number(value);
  }
  template <class T>
  void typed(const T& value) {
    number<std::uint32_t>(type_number<T>());
    element(value);
  }
  void typed(const GgufArray& array) {
    number<std::uint32_t>(9);
    std::visit(
        [&]<class T>(const std::vector<T>& elements) {
          number<std::uint32_t>(type_number<T>());
          number<std::uint64_t>(elements.size());
          for (const T& e : elements) element<T>(e);
        },
        array);
  }
  // The format's numbers are the order of GgufValue's alternatives, with 9, the array, taken out of the middle.
  template <class T>
  static std::uint32_t type_number() {
    const auto index = static_cast<std::uint32_t>(GgufArray(std::vector<T>()).index());
    return index < 9 ? index : index + 1;
  }

  std::string bytes_;
};

struct Layout {
  std::string header;
  std::vector<std::uint64_t> bytes;  // of each tensor
  std::uint64_t alignment = 32;
  std::uint64_t file_bytes = 0;
};

std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// The same rules as the reader's, so that whatever is written can be read.
Result<std::uint64_t> tensor_bytes(const GgufWriter::TensorDeclaration& tensor) {
  const TensorTypeInfo* const info = tensor_type_info(tensor.type);
  if (tensor.name.empty() || tensor.name.size() > GgufLimits::name_bytes || !is_printable(tensor.name) ||
      tensor.shape.empty() || tensor.shape.size() > 4 || info == nullptr) {
    return fail(ErrorCode::invalid_argument, "tensor \"{}\": needs a name, a known type and 1 to 4 dimensions",
                tensor.name);
  }
  std::uint64_t elements = 1;
  bool fits = true;
  for (const std::uint64_t extent : tensor.shape) {
    fits = fits && extent > 0 && !__builtin_mul_overflow(elements, extent, &elements);
  }
  std::uint64_t bytes = 0;
  if (!fits || tensor.shape[0] % info->block_size != 0 ||
      __builtin_mul_overflow(elements / info->block_size, std::uint64_t{info->block_bytes}, &bytes)) {
    return fail(ErrorCode::invalid_argument, "tensor {}: shape [{}] is impossible for {}, whose blocks hold {}",
                tensor.name, fmt::join(tensor.shape, ", "), info->name, info->block_size);
  }
  return bytes;
}

Result<Layout> lay_out(const GgufMetadata& metadata, const std::vector<GgufWriter::TensorDeclaration>& tensors) {
  Layout layout;
  SIROCCO_TRY(layout.alignment, gguf_alignment(metadata));
  HeaderText header;
  header.number(std::array<char, 4>{'G', 'G', 'U', 'F'});
  header.number<std::uint32_t>(3);
  header.number<std::uint64_t>(tensors.size());
  header.number<std::uint64_t>(metadata.values().size());
  for (const auto& [key, value] : metadata.values()) {
    if (key.empty() || key.size() > GgufLimits::key_bytes || !is_printable(key)) {
      return fail(ErrorCode::invalid_argument, "\"{}\" cannot be a metadata key", printable(key));
    }
    header.text(key);
    header.value(value);
  }
  std::uint64_t offset = 0;
  std::set<std::string_view> names;
  for (const GgufWriter::TensorDeclaration& tensor : tensors) {
    SIROCCO_TRY(const std::uint64_t bytes, tensor_bytes(tensor));
    if (!names.insert(tensor.name).second) {
      return fail(ErrorCode::invalid_argument, "tensor {} is declared twice", tensor.name);
    }
    header.text(tensor.name);
    header.number(static_cast<std::uint32_t>(tensor.shape.size()));
    for (const std::uint64_t extent : tensor.shape) header.number(extent);
    header.number(static_cast<std::uint32_t>(tensor.type));
    header.number(offset);
    layout.bytes.push_back(bytes);
    if (bytes > (std::uint64_t{1} << 60) || (offset += padded(bytes, layout.alignment)) > (std::uint64_t{1} << 60)) {
      return fail(ErrorCode::invalid_argument, "tensor {}: the file would be larger than any disk", tensor.name);
    }
  }
  header.pad(layout.alignment);
  layout.header = header.bytes();
  layout.file_bytes = layout.header.size() + offset;
  return layout;
}

}  // namespace

// Owns the open temporary file; whoever destroys it before finish() removes the file.
struct GgufWriter::State {
  std::filesystem::path path;
  std::filesystem::path part_path;
  int descriptor = -1;
  std::vector<TensorDeclaration> tensors;
  Layout layout;
  std::size_t index = 0;      // of the tensor being written
  std::uint64_t written = 0;  // bytes of it so far
  std::vector<std::byte> buffer;
  bool failed = false;  // after a failed write nothing more is accepted

  ~State() {
    if (descriptor < 0) return;
    unlink(part_path.c_str());
    close(descriptor);
  }

  Result<void> open_part();
  Result<void> reserve();
  Result<void> put(Bytes bytes);
  Result<void> write(Bytes bytes);
  Result<void> flush();
  tl::unexpected<Error> write_error(int error);
};

// Opens PATH.part, alone: a second writer of the same model waits for nothing and fails.
Result<void> GgufWriter::State::open_part() {
  const int opened = ::open(part_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  if (opened < 0) return fail(errno_code(errno), "{}: {}", part_path.string(), errno_message(errno));
  struct stat ours {};
  struct stat named {};
  // The name must still be ours once locked: another writer may have renamed its finished file meanwhile.
  if (flock(opened, LOCK_EX | LOCK_NB) != 0 || fstat(opened, &ours) != 0 || stat(part_path.c_str(), &named) != 0 ||
      ours.st_ino != named.st_ino || ours.st_dev != named.st_dev || !S_ISREG(ours.st_mode)) {
    close(opened);
    return fail(ErrorCode::busy, "{}: another process is writing this file; wait for it or choose another name",
                part_path.string());
  }
  descriptor = opened;
  if (ftruncate(descriptor, 0) != 0) return write_error(errno);
  return {};
}

// Takes the whole file's space at once where the filesystem can, so that a full disk is found now and not after an
// hour. (fallocate, not posix_fallocate: the latter writes every block where the filesystem cannot.)
Result<void> GgufWriter::State::reserve() {
  int status = 0;
  do {
    status = fallocate(descriptor, 0, 0, static_cast<off_t>(layout.file_bytes));
  } while (status != 0 && errno == EINTR);
  if (status != 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) return write_error(errno);
  return {};
}

tl::unexpected<Error> GgufWriter::State::write_error(int error) {
  failed = true;
  struct statvfs disk {};
  const std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const bool out_of_space = error == ENOSPC || error == EDQUOT || error == EFBIG;
  if (!out_of_space || statvfs(directory.c_str(), &disk) != 0) {
    return fail(errno_code(error), "{}: {}", path.string(), errno_message(error));
  }
  // What the unfinished file holds now comes free again when it is removed.
  struct stat status {};
  const std::uint64_t taken = fstat(descriptor, &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
  return fail(ErrorCode::io, "{}: {}: the file needs {}, {} has {} free", path.string(), errno_message(error),
              format_bytes(layout.file_bytes), directory.string(), format_bytes(disk.f_bavail * disk.f_frsize + taken));
}

Result<void> GgufWriter::State::write(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return write_error(errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

Result<void> GgufWriter::State::flush() {
  SIROCCO_CHECK(write(buffer));
  buffer.clear();
  return {};
}

// Through the buffer; what is as large as the buffer goes past it.
Result<void> GgufWriter::State::put(Bytes bytes) {
  if (buffer.size() + bytes.size() > kBufferBytes) SIROCCO_CHECK(flush());
  if (bytes.size() >= kBufferBytes) return write(bytes);
  buffer.insert(buffer.end(), bytes.begin(), bytes.end());
  return {};
}

GgufWriter::GgufWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
GgufWriter::GgufWriter(GgufWriter&&) noexcept = default;
GgufWriter& GgufWriter::operator=(GgufWriter&&) noexcept = default;
GgufWriter::~GgufWriter() = default;

Result<GgufWriter> GgufWriter::create(const std::filesystem::path& path, const GgufMetadata& metadata,
                                      std::vector<TensorDeclaration> tensors) {
  auto layout = lay_out(metadata, tensors);
  if (!layout) return fail(layout.error().at(path.string()));
  auto state = std::make_unique<State>();
  state->path = path;
  state->part_path = path.string() + ".part";
  state->tensors = std::move(tensors);
  state->layout = std::move(*layout);
  state->buffer.reserve(kBufferBytes);
  SIROCCO_CHECK(state->open_part());
  SIROCCO_CHECK(state->reserve());
  SIROCCO_CHECK(state->put(std::as_bytes(std::span(state->layout.header))));
  return GgufWriter(std::move(state));
}

const GgufWriter::TensorDeclaration* GgufWriter::current() const {
  return state_->index < state_->tensors.size() ? &state_->tensors[state_->index] : nullptr;
}

std::uint64_t GgufWriter::current_bytes() const {
  return current() == nullptr ? 0 : state_->layout.bytes[state_->index];
}

std::uint64_t GgufWriter::file_bytes() const {
  return state_->layout.file_bytes;
}

Result<void> GgufWriter::append(Bytes bytes) {
  if (state_->failed) return fail(ErrorCode::io, "{}: an earlier write failed", state_->path.string());
  const std::uint64_t missing = current_bytes() - state_->written;
  if (bytes.size() > missing) {
    return fail(ErrorCode::internal, "{}: tensor {}: {} bytes given, {} are missing", state_->path.string(),
                current() == nullptr ? "(none)" : current()->name, bytes.size(), missing);
  }
  SIROCCO_CHECK(state_->put(bytes));
  state_->written += bytes.size();
  if (current() == nullptr || state_->written < current_bytes()) return {};

  const std::uint64_t padding = padded(state_->written, state_->layout.alignment) - state_->written;
  state_->written = 0;
  ++state_->index;
  return state_->put(std::vector<std::byte>(padding));
}

Result<void> GgufWriter::flush() {
  if (state_->failed) return fail(ErrorCode::io, "{}: an earlier write failed", state_->path.string());
  return state_->flush();
}

const std::filesystem::path& GgufWriter::part_path() const {
  return state_->part_path;
}

Result<void> GgufWriter::finish() {
  if (state_->failed) return fail(ErrorCode::io, "{}: an earlier write failed", state_->path.string());
  if (current() != nullptr) {
    return fail(ErrorCode::internal, "{}: tensor {}: {} of {} bytes were given", state_->path.string(), current()->name,
                state_->written, current_bytes());
  }
  SIROCCO_CHECK(state_->flush());
  if (fsync(state_->descriptor) != 0) return state_->write_error(errno);
  if (rename(state_->part_path.c_str(), state_->path.c_str()) != 0) return state_->write_error(errno);
  close(state_->descriptor);
  state_->descriptor = -1;
  return {};
}

}  // namespace sirocco
