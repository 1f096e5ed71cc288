// How kernels of an integrated device read a model's file: device and host have the same memory, but not every way to
// it works on every device and driver.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/backend/cuda/cuda_api.h"
#include "engine/base/bytes.h"
#include "engine/gguf/gguf_file.h"

namespace sirocco::cuda {

// In the order in which they are tried.
enum class Reach : std::uint8_t {
  pageable,    // the mapping, as any memory of the process
  registered,  // the mapping, registered for reading
  copied,      // a private mapping of the same bytes that may be written to: each page is copied when it is registered
  landed,      // page-locked memory into which the file is read
};
std::string_view reach_name(Reach reach);

// Each is tried on the file's first page. Error: of CUDA, but for those that say that a way does not work.
Result<Reach> find_reach(const GgufFile& file);

// A part of a mapping that kernels can read while this lives; but for Reach::landed, which has none. Whoever enqueues a
// kernel waits for it before he lets go.
class Window {
 public:
  // Error: of CUDA; IO.
  static Result<Window> open(Reach reach, const GgufFile::Part& part, Bytes bytes);
  Window(Window&& other) noexcept { *this = std::move(other); }
  Window& operator=(Window&& other) noexcept;
  ~Window();

  const std::byte* data() const { return data_; }

 private:
  Window() = default;

  const std::byte* data_ = nullptr;  // where kernels read the first of the bytes
  std::byte* registered_ = nullptr;  // null: nothing is
  std::byte* private_ = nullptr;     // a mapping of its own
  std::size_t private_bytes_ = 0;
};

}  // namespace sirocco::cuda
