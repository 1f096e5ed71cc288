#include "engine/session/session_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <system_error>

namespace sirocco {
namespace {

constexpr std::string_view kSuffix = ".session";
constexpr std::string_view kUnfinished = ".unfinished";
constexpr std::size_t kSampledTensors = 64;
constexpr std::size_t kSampleBytes = 64;

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

tl::unexpected<Error> io_error(const std::filesystem::path& file, std::string_view what) {
  const int error = errno;
  return fail(errno_code(error), "{}: {}: {}", file.string(), what, errno_message(error));
}

// "1000-kitchen.session"
std::optional<SessionStore::Key> key_of(std::string_view file) {
  if (!file.ends_with(kSuffix)) return std::nullopt;
  file.remove_suffix(kSuffix.size());
  std::uint32_t uid = 0;
  const auto [end, error] = std::from_chars(file.data(), file.data() + file.size(), uid);
  if (error != std::errc() || end == file.data() + file.size() || *end != '-') return std::nullopt;
  return SessionStore::Key(uid, std::string(end + 1, file.data() + file.size()));
}

bool write_all(std::FILE* file, Bytes bytes) {
  return std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
}

bool read_all(std::FILE* file, std::span<std::byte> bytes) {
  return std::fread(bytes.data(), 1, bytes.size(), file) == bytes.size();
}

}  // namespace

std::string model_fingerprint(const Model& model) {
  Sha256 hash;
  const GgufFile& file = model.file();
  for (const GgufFile::Part& part : file.parts()) {
    const std::uint64_t bytes = part.mapping.size();
    hash.add(std::as_bytes(std::span(&bytes, 1))).add(part.mapping.first(part.data_offset));
  }
  const std::span<const GgufTensor> tensors = file.tensors();
  const std::size_t step = tensors.size() / kSampledTensors + 1;
  for (std::size_t i = 0; i < tensors.size(); i += step) {
    const Bytes data = file.data(tensors[i]);
    hash.add(data.first(std::min(data.size(), kSampleBytes)));
  }
  const Sha256::Digest digest = hash.finish();
  std::string text;
  for (const std::byte byte : digest) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

Result<SessionStore> SessionStore::open(Options options) {
  const std::filesystem::path& folder = options.folder;
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return io_error(folder, "cannot be made (sessions.directory)");
  if (access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
    return io_error(folder, "cannot be read and written (sessions.directory)");
  return SessionStore(std::move(options));
}

// What an interrupted save has left is removed.
std::map<SessionStore::Key, std::uint64_t>& SessionStore::index() const {
  if (saved_) return *saved_;
  saved_.emplace();
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(options_.folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kUnfinished)) {
      std::filesystem::remove(entry.path(), ignored);
    } else if (const auto key = key_of(name)) {
      (*saved_)[*key] = std::max<std::uint64_t>(entry.file_size(ignored), 1);
    }
  }
  return *saved_;
}

const std::map<SessionStore::Key, std::uint64_t>& SessionStore::saved() const {
  return index();
}

std::filesystem::path SessionStore::path(const Key& key) const {
  return options_.folder / fmt::format("{}-{}{}", key.first, key.second, kSuffix);
}

std::uint64_t SessionStore::bytes(const Key& key) const {
  const auto at = index().find(key);
  return at == index().end() ? 0 : at->second;
}

void SessionStore::remove(const Key& key) {
  if (index().erase(key) != 0) unlink(path(key).c_str());
}

// --- save

Result<void> SessionStore::save(SessionHead head, const ReadBlock& read_block, const std::function<void()>& synced) {
  const Key key(head.uid, head.name);
  head.model = options_.model;
  head.kv_layout = options_.kv_layout;
  head.block_bytes = options_.block_bytes;
  std::uint64_t others = 0;
  for (const auto& [other, bytes] : index())
    if (other.first == key.first && other != key) others += bytes;
  const std::vector<std::byte> bytes = encode_session_head(head);
  if (others + bytes.size() > options_.bytes_per_uid)
    return fail(
        ErrorCode::busy,
        "session {}: {} would be more than this user may have on disk, {} (sessions.disk_bytes_per_user); close "
        "others",
        key.second, format_bytes(others + bytes.size()), format_bytes(options_.bytes_per_uid));

  const std::filesystem::path file = path(key);
  const std::filesystem::path unfinished = file.string() + std::string(kUnfinished);
  const std::size_t blocks = (head.computed.size() + options_.block_tokens - 1) / options_.block_tokens;
  const auto written = write(unfinished, bytes, blocks, options_.bytes_per_uid - others, read_block, synced);
  if (!written) {
    unlink(unfinished.c_str());
    return fail(written.error());
  }
  if (std::rename(unfinished.c_str(), file.c_str()) != 0) return io_error(file, "cannot be replaced");
  index()[key] = *written;
  SIROCCO_CHECK(sync_folder());
  synced();
  return {};
}

Result<std::uint64_t> SessionStore::write(const std::filesystem::path& file, Bytes head, std::size_t blocks,
                                          std::uint64_t most, const ReadBlock& read_block,
                                          const std::function<void()>& synced) const {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0) return io_error(file, "cannot be written");
  const File out(fdopen(descriptor, "w"), &std::fclose);
  std::uint64_t bytes = head.size();
  std::uint64_t on_the_way = bytes;  // to the disk
  bool good = write_all(out.get(), head);
  std::vector<std::byte> block(options_.block_bytes);
  for (std::uint32_t i = 0; good && i < blocks; ++i) {
    const std::uint64_t more = block.size() + sizeof(Sha256::Digest);
    if (bytes + more > most || !read_block(i, block)) break;
    const Sha256::Digest digest = session_block_digest(head, i, block);
    good = write_all(out.get(), block) && write_all(out.get(), digest);
    bytes += more;
    on_the_way += more;
    if (!good || on_the_way < kSyncBytes) continue;
    on_the_way = 0;
    good = std::fflush(out.get()) == 0 && fdatasync(descriptor) == 0;
    if (good) synced();
  }
  if (!good || std::fflush(out.get()) != 0 || fsync(descriptor) != 0) return io_error(file, "cannot be written");
  return bytes;
}

// A name is only sure to be there once its folder is on disk.
Result<void> SessionStore::sync_folder() const {
  const int folder = ::open(options_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool good = folder >= 0 && fsync(folder) == 0;
  auto result = good ? Result<void>() : io_error(options_.folder, "cannot be written");
  if (folder >= 0) close(folder);
  return result;
}

// --- load

Result<std::optional<Error>> SessionStore::load(const Key& key, const OnHead& on_head, const OnBlock& on_block) const {
  const std::filesystem::path file = path(key);
  const auto say = [&](const Error& error) {
    return fail(error.code(), "session {}: {}: {}; to begin it anew, close it first", key.second, file.string(),
                error.message());
  };
  const File in(std::fopen(file.c_str(), "re"), &std::fclose);
  if (!in) return io_error(file, "cannot be read");
  std::vector<std::byte> bytes(kSessionPrefixBytes);
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), in.get()));
  const auto size = session_head_bytes(bytes);
  if (!size) return say(size.error());
  struct stat status = {};
  if (fstat(fileno(in.get()), &status) != 0) return io_error(file, "cannot be read");
  if (*size > static_cast<std::uint64_t>(status.st_size))
    return say(Error(ErrorCode::corrupt, "damaged: it ends in its head"));
  bytes.resize(*size);
  if (!read_all(in.get(), std::span(bytes).subspan(kSessionPrefixBytes))) return io_error(file, "cannot be read");
  auto head = decode_session_head(bytes);
  if (!head) return say(head.error());
  if (head->uid != key.first || head->name != key.second)
    return say(Error(ErrorCode::corrupt, fmt::format("it is session {} of user {}", head->name, head->uid)));
  if (head->model != options_.model)
    return say(Error(ErrorCode::unsupported, "it was saved with another model, and stays for that one"));
  const bool readable = head->kv_layout == options_.kv_layout && head->block_bytes == options_.block_bytes;
  const std::size_t tokens = head->computed.size();
  SIROCCO_CHECK(on_head(*std::move(head)));
  if (!readable) return std::nullopt;

  std::vector<std::byte> block(options_.block_bytes);
  Sha256::Digest digest{};
  const std::uint64_t left = static_cast<std::uint64_t>(status.st_size) - *size;
  for (std::uint32_t i = 0; i * (block.size() + digest.size()) < left; ++i) {
    const std::uint64_t first = std::uint64_t{i} * options_.block_tokens;
    const bool whole = first < tokens && read_all(in.get(), block) && read_all(in.get(), digest);
    if (!whole || digest != session_block_digest(bytes, i, block))
      return Error(ErrorCode::corrupt,
                   fmt::format("session {}: {}: damaged; its {} tokens are computed again from the {}. on", key.second,
                               file.string(), tokens, first + 1));
    if (!on_block(i, block)) break;
  }
  return std::nullopt;
}

}  // namespace sirocco
