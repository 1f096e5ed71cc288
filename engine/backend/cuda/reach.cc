#include "engine/backend/cuda/reach.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace sirocco::cuda {
namespace {

Result<bool> has(cudaDeviceAttr attribute) {
  int value = 0;
  SIROCCO_CHECK(checked(cudaDeviceGetAttribute(&value, attribute, 0), "cudaDeviceGetAttribute"));
  return value != 0;
}

// Whether a page of the file comes into reach that way.
Result<bool> works(Reach reach, const GgufFile& file) {
  SIROCCO_TRY(const bool pageable, has(cudaDevAttrPageableMemoryAccess));
  if (reach == Reach::pageable) return pageable;
  SIROCCO_TRY(const bool registers, has(cudaDevAttrHostRegisterSupported));
  SIROCCO_TRY(const bool reads, has(cudaDevAttrHostRegisterReadOnlySupported));
  const GgufFile::Part& part = file.parts().front();
  if (!registers || part.descriptor < 0 || (reach == Reach::registered && !reads)) return false;
  return Window::open(reach, part, part.mapping.first(1)).has_value();
}

}  // namespace

std::string_view reach_name(Reach reach) {
  switch (reach) {
    case Reach::pageable:
      return "in the mapping";
    case Reach::registered:
      return "in the registered mapping";
    case Reach::copied:
      return "in a private mapping";
    case Reach::landed:
      break;
  }
  return "in page-locked memory";
}

Result<Reach> find_reach(const GgufFile& file) {
  for (const Reach reach : {Reach::pageable, Reach::registered, Reach::copied}) {
    SIROCCO_TRY(const bool possible, works(reach, file));
    if (possible) return reach;
  }
  return Reach::landed;
}

Result<Window> Window::open(Reach reach, const GgufFile::Part& part, Bytes bytes) {
  Window window;
  window.data_ = bytes.data();
  if (reach == Reach::pageable) return window;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(bytes.data() - part.mapping.data());
  const std::size_t first = offset / page * page;
  const std::size_t size = (offset + bytes.size() + page - 1) / page * page - first;
  auto* begin = const_cast<std::byte*>(part.mapping.data() + first);
  unsigned flags = cudaHostRegisterMapped | cudaHostRegisterReadOnly;
  if (reach == Reach::copied) {
    void* const mapped =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, part.descriptor, static_cast<off_t>(first));
    if (mapped == MAP_FAILED)
      return fail(ErrorCode::io, "{}: a private mapping: {}", part.path.string(), errno_message(errno));
    window.private_ = begin = static_cast<std::byte*>(mapped);
    window.private_bytes_ = size;
    flags = cudaHostRegisterMapped;
  }
  SIROCCO_CHECK(checked(cudaHostRegister(begin, size, flags), "cudaHostRegister"));
  window.registered_ = begin;
  void* device = nullptr;
  SIROCCO_CHECK(checked(cudaHostGetDevicePointer(&device, begin, 0), "cudaHostGetDevicePointer"));
  window.data_ = static_cast<const std::byte*>(device) + (offset - first);
  return window;
}

Window& Window::operator=(Window&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(registered_, other.registered_);
  std::swap(private_, other.private_);
  std::swap(private_bytes_, other.private_bytes_);
  return *this;
}

Window::~Window() {
  if (registered_ != nullptr) cudaHostUnregister(registered_);
  if (private_ != nullptr) munmap(private_, private_bytes_);
}

}  // namespace sirocco::cuda
