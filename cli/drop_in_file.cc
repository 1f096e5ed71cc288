#include "cli/drop_in_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <utility>

namespace sirocco {
namespace {

namespace fs = std::filesystem;

Result<void> replace(const fs::path& file, std::string_view text) {
  const fs::path written = file.string() + ".new";  // not *.yaml: the daemon passes it over
  const int descriptor = open(written.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor < 0) return fail(errno_code(errno), "{}: {}", written.string(), errno_message(errno));
  const bool done = write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                    fchmod(descriptor, 0644) == 0 && fsync(descriptor) == 0;
  const int error = done ? 0 : errno == 0 ? ENOSPC : errno;
  close(descriptor);
  if (done && std::rename(written.c_str(), file.c_str()) == 0) return {};
  const int reason = done ? errno : error;
  unlink(written.c_str());
  return fail(errno_code(reason), "{}: {}", file.string(), errno_message(reason));
}

}  // namespace

Result<DropInFile> DropInFile::write(const fs::path& file, std::string_view text) {
  DropInFile drop_in;
  std::error_code error;
  drop_in.made_folder_ = fs::create_directory(file.parent_path(), error);
  if (error) return fail(ErrorCode::io, "{}: {}", file.parent_path().string(), error.message());
  if (drop_in.made_folder_) chmod(file.parent_path().c_str(), 0755);  // whatever our umask: the daemon reads it
  if (std::ifstream in(file); in)
    drop_in.before_.emplace(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  auto written = replace(file, text);
  if (!written) {
    if (drop_in.made_folder_) fs::remove(file.parent_path(), error);
    return fail(written.error());
  }
  drop_in.file_ = file;
  return drop_in;
}

DropInFile::DropInFile(DropInFile&& other) noexcept
    : file_(std::move(other.file_)),
      before_(std::move(other.before_)),
      made_folder_(other.made_folder_),
      kept_(std::exchange(other.kept_, true)) {}

DropInFile::~DropInFile() {
  if (kept_ || file_.empty()) return;
  std::error_code error;
  if (before_) {
    if (const auto back = replace(file_, *before_); !back)
      fmt::print(stderr, "sirocco: {} is not as it was before: {}\n", file_.string(), back.error().message());
    return;
  }
  fs::remove(file_, error);
  if (made_folder_) fs::remove(file_.parent_path(), error);
}

}  // namespace sirocco
