#include "cli/model_import.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "engine/base/bytes.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kChunkBytes = 16 * MiB;  // between two looks at Ctrl-C
constexpr std::uint64_t kLeftFree = 16 * MiB;    // of the disk, for everybody else
constexpr mode_t kReadableByAll = 0644;

tl::unexpected<Error> failed(const fs::path& file, int error) {
  return fail(errno_code(error), "{}: {}", file.string(), errno_message(error));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  bool open() const { return number_ >= 0; }

 private:
  int number_;
};

// Shared blocks where the file system can, a copy inside the kernel else.
Result<void> copy_bytes(int from, int to, std::uint64_t size, const fs::path& target, ModelProgress& progress) {
  bool by_range = true;
  for (std::uint64_t left = size; left > 0;) {
    const std::size_t wanted = std::min(left, kChunkBytes);
    const ssize_t done =
        by_range ? copy_file_range(from, nullptr, to, nullptr, wanted, 0) : sendfile(to, from, nullptr, wanted);
    if (done < 0 && by_range && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
      by_range = false;  // between these two file systems; nothing has been copied by this call
      continue;
    }
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return failed(target, errno);
    if (done == 0) return fail(ErrorCode::io, "{}: the file became shorter while it was copied", target.string());
    left -= static_cast<std::uint64_t>(done);
    SIROCCO_CHECK(progress.advance(static_cast<std::uint64_t>(done)));
  }
  return {};
}

Result<std::uint64_t> bytes_of(std::span<const fs::path> files) {
  std::uint64_t sum = 0;
  for (const fs::path& file : files) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (error) return fail(ErrorCode::io, "{}: {}", file.string(), error.message());
    sum += size;
  }
  return sum;
}

Result<void> check_room(const fs::path& folder, std::uint64_t needed) {
  struct statvfs status = {};
  if (statvfs(folder.c_str(), &status) != 0) return failed(folder, errno);
  const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (free >= needed + kLeftFree) return {};
  return fail(
      ErrorCode::io,
      "{}: there is no room for {}, only {} are free; make room, use --move or --link, or leave the model where "
      "it is and let the daemon's user read it there",
      folder.string(), format_bytes(needed), format_bytes(free));
}

// Under this name, if nothing has it.
Result<void> rename_to(const fs::path& from, const fs::path& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
  if (errno == EEXIST)
    return fail(ErrorCode::io, "{}: exists already; `sirocco setup {}` serves that file, or rename one of the two",
                to.string(), to.string());
  if (errno == EXDEV)
    return fail(ErrorCode::io, "{}: lies on another file system than {}: use --copy, and delete it yourself afterwards",
                from.string(), to.parent_path().string());
  return failed(to, errno);
}

Result<void> sync_folder(const fs::path& folder) {
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.open() || fsync(descriptor.number()) != 0) return failed(folder, errno);
  return {};
}

}  // namespace

std::optional<std::string> why_not_in_place(std::span<const fs::path> files, const SystemUser& user) {
  for (const fs::path& file : files) {
    if (hidden_from_service(file)) return fmt::format("{}: the unit lets the daemon see nothing there", file.string());
    if (auto why = why_not_readable(file, user)) return why;
  }
  return std::nullopt;
}

Result<ModelImport> ModelImport::place(std::span<const fs::path> files, const fs::path& folder, Placing how,
                                       const SystemUser& user) {
  ModelImport import;
  std::error_code error;
  const fs::path absolute = fs::absolute(files.front(), error);
  if (error) return fail(ErrorCode::io, "{}: {}", files.front().string(), error.message());
  const bool there = fs::equivalent(absolute.parent_path(), folder, error) && !error;
  if (there || (how == Placing::automatic && !why_not_in_place(files, user))) {
    if (const auto why = why_not_in_place(files, user); why && there && !hidden_from_service(folder))
      return fail(ErrorCode::permission_denied, "{}; chmod o+r it", *why);
    import.model_ = absolute;
    import.how_ = "used where it is";
    return import;
  }
  if (fs::create_directories(folder, error)) chmod(folder.c_str(), 0755);  // whatever our umask: the daemon reads it
  if (error) return fail(ErrorCode::io, "{}: {}", folder.string(), error.message());
  const Descriptor lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.open()) return failed(folder, errno);
  if (flock(lock.number(), LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorCode::busy, "{}: another `sirocco setup` is at work there; wait for its end", folder.string());
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the file's size shall be an error
  import.progress_ = std::make_unique<ModelProgress>(fmt::format("copying {}", files.front().filename().string()));
  if (how == Placing::move || how == Placing::link) {
    for (const fs::path& file : files) {
      const fs::path target = folder / file.filename();
      SIROCCO_CHECK(how == Placing::move ? import.move(file, target, user) : import.link(file, target, user));
      SIROCCO_CHECK(import.progress_->advance(0));
    }
    import.how_ = fmt::format("{} {}", how == Placing::move ? "moved to" : "linked into", folder.string());
  } else {
    SIROCCO_CHECK(import.copy(files, folder));
    import.how_ = fmt::format("copied to {}", folder.string());
  }
  SIROCCO_CHECK(sync_folder(folder));
  SIROCCO_CHECK(import.progress_->advance(0));  // the last look at Ctrl-C
  import.model_ = fs::absolute(folder, error) / files.front().filename();
  return import;
}

Result<void> ModelImport::copy(std::span<const fs::path> files, const fs::path& folder) {
  SIROCCO_TRY(const std::uint64_t bytes, bytes_of(files));
  for (const fs::path& file : files) {
    std::error_code error;
    if (const fs::path target = folder / file.filename(); fs::exists(target, error))
      return fail(ErrorCode::io, "{}: exists already; `sirocco setup {}` serves that file, or rename one of the two",
                  target.string(), target.string());
  }
  SIROCCO_CHECK(check_room(folder, bytes));
  progress_->expect(bytes);
  for (const fs::path& file : files) {
    const fs::path target = folder / (file.filename().string() + ".part");
    const Descriptor from(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!from.open()) return failed(file, errno);
    struct stat status = {};
    if (fstat(from.number(), &status) != 0) return failed(file, errno);
    const Descriptor to(::open(target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kReadableByAll));
    if (!to.open()) return failed(target, errno);
    unfinished_.push_back(target);
    SIROCCO_CHECK(
        copy_bytes(from.number(), to.number(), static_cast<std::uint64_t>(status.st_size), target, *progress_));
    if (fchmod(to.number(), kReadableByAll) != 0 || fsync(to.number()) != 0) return failed(target, errno);
  }
  for (const fs::path& file : files) {
    const fs::path target = folder / file.filename();
    SIROCCO_CHECK(rename_to(unfinished_.front(), target));
    unfinished_.erase(unfinished_.begin());
    placed_.push_back({.target = target, .moved_from = {}});
  }
  return {};
}

Result<void> ModelImport::move(const fs::path& file, const fs::path& target, const SystemUser& user) {
  struct stat status = {};
  if (lstat(file.c_str(), &status) != 0) return failed(file, errno);
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::io, "{}: is a link and is not moved: name the file itself, or use --copy", file.string());
  std::error_code error;
  const fs::path from = fs::absolute(file, error);
  SIROCCO_CHECK(rename_to(from, target));
  placed_.push_back({.target = target,
                     .moved_from = from,
                     .owner = status.st_uid,
                     .group = status.st_gid,
                     .mode = status.st_mode & 07777U});
  // What is served belongs to whoever runs this, root, so that nobody writes to it while it is mapped.
  if (chown(target.c_str(), geteuid(), getegid()) != 0 || chmod(target.c_str(), kReadableByAll) != 0)
    return failed(target, errno);
  if (auto why = why_not_readable(target, user)) return fail(ErrorCode::permission_denied, "{}", *why);
  return {};
}

Result<void> ModelImport::link(const fs::path& file, const fs::path& target, const SystemUser& user) {
  if (linkat(AT_FDCWD, file.c_str(), AT_FDCWD, target.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    if (errno == EEXIST)
      return fail(ErrorCode::io, "{}: exists already; `sirocco setup {}` serves that file, or rename one of the two",
                  target.string(), target.string());
    if (errno == EXDEV)
      return fail(ErrorCode::io, "{}: lies on another file system than {}: use --copy", file.string(),
                  target.parent_path().string());
    return failed(target, errno);
  }
  placed_.push_back({.target = target, .moved_from = {}});
  if (auto why = why_not_readable(target, user))
    return fail(ErrorCode::permission_denied, "{}; chmod o+r {}", *why, file.string());
  return {};
}

void ModelImport::keep() {
  placed_.clear();
  progress_.reset();
}

ModelImport::~ModelImport() {
  for (const fs::path& file : unfinished_) unlink(file.c_str());
  for (auto placed = placed_.rbegin(); placed != placed_.rend(); ++placed) {
    if (placed->moved_from.empty()) {
      unlink(placed->target.c_str());
      continue;
    }
    const bool mode_back = chmod(placed->target.c_str(), placed->mode) == 0 &&
                           chown(placed->target.c_str(), placed->owner, placed->group) == 0;
    if (!mode_back || !rename_to(placed->target, placed->moved_from))
      fmt::print(stderr, "sirocco: {} could not be moved back to {}: do that yourself\n", placed->target.string(),
                 placed->moved_from.string());
  }
}

}  // namespace sirocco
