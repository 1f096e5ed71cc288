#include "engine/experts/model_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace sirocco {

Result<std::shared_ptr<const ModelFiles>> ModelFiles::open(std::shared_ptr<const GgufFile> file) {
  const std::shared_ptr<ModelFiles> files(new ModelFiles(std::move(file)));
  for (const GgufFile::Part& part : files->file_->parts()) {
    const std::string path = fmt::format("/proc/self/fd/{}", part.descriptor);
    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (descriptor < 0 && errno == EINVAL) {
      files->direct_ = false;
      descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    }
    if (descriptor < 0)
      return fail(errno_code(errno), "{}: could not be opened again for reading: {}", part.path.string(),
                  errno_message(errno));
    files->descriptors_.push_back(descriptor);
  }
  return files;
}

ModelFiles::~ModelFiles() {
  for (const int descriptor : descriptors_) close(descriptor);
}

FilePlace ModelFiles::place(const Matrix& matrix) const {
  FilePlace place = {.bytes = matrix.outputs * row_bytes(matrix.type, matrix.inputs)};
  for (std::uint32_t part = 0; part < file_->parts().size(); ++part) {
    const Bytes mapping = file_->parts()[part].mapping;
    if (matrix.data < mapping.data() || matrix.data >= mapping.data() + mapping.size()) continue;
    place.part = part;
    place.offset = static_cast<std::uint64_t>(matrix.data - mapping.data());
    break;
  }
  return place;
}

Transfer ModelFiles::transfer(const FilePlace& place, std::byte* to, std::uint64_t tag) const {
  const std::uint64_t first = place.first_block();
  return {.descriptor = descriptors_[place.part],
          .offset = first,
          .bytes = place.after_last_block() - first,
          .wanted = place.offset + place.bytes - first,
          .to = to,
          .tag = tag};
}

void ModelFiles::forget(const FilePlace& place) const {
  if (direct_) return;
  const std::uint64_t first = place.first_block();
  posix_fadvise(descriptors_[place.part], static_cast<off_t>(first),
                static_cast<off_t>(place.after_last_block() - first), POSIX_FADV_DONTNEED);
}

}  // namespace sirocco
