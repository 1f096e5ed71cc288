#include "engine/backend/cuda/shared_upload.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "engine/gguf/mapping_guard.h"
#include "kernels/cuda/copy_bytes.h"

namespace sirocco::cuda {
namespace {

constexpr std::size_t kPageBytes = 4096;       // or larger: a byte of each is touched
constexpr std::size_t kThreadBytes = 1 * MiB;  // that a thread touches, or reads, at a time

// A part of an upload: whole tiles of a matrix, or bytes.
struct SharedPiece {
  Bytes from;
  Matrix matrix;  // data is null for bytes
  std::byte* target = nullptr;
};

void cut_shared(const Upload& upload, std::vector<SharedPiece>& pieces) {
  const Matrix& m = upload.matrix;
  if (m.data == nullptr) {
    for (std::size_t at = 0; at < upload.bytes.size(); at += kReachMemory)
      pieces.push_back({.from = upload.bytes.subspan(at, std::min(kReachMemory, upload.bytes.size() - at)),
                        .matrix = {},
                        .target = upload.target + at});
    return;
  }
  const std::size_t row = row_bytes(m.type, m.inputs);
  const std::size_t tile_row = matrix_bytes(m.type, m.inputs, kTileOutputs);
  const std::size_t outputs = std::max<std::size_t>(kReachMemory / (row * kTileOutputs), 1) * kTileOutputs;
  for (std::size_t first = 0; first < m.outputs; first += outputs) {
    Matrix part = m;
    part.data = m.data + first * row;
    part.outputs = std::min(outputs, m.outputs - first);
    pieces.push_back({.from = {part.data, part.outputs * row},
                      .matrix = part,
                      .target = upload.target + first / kTileOutputs * tile_row});
  }
}

const GgufFile::Part* part_of(const GgufFile& file, Bytes bytes) {
  for (const GgufFile::Part& part : file.parts())
    if (bytes.data() >= part.mapping.data() && bytes.data() < part.mapping.data() + part.mapping.size()) return &part;
  return nullptr;
}

std::size_t parts_for(Bytes bytes) {
  return (bytes.size() + kThreadBytes - 1) / kThreadBytes;
}

Bytes part_at(Bytes bytes, std::size_t index) {
  return bytes.subspan(index * kThreadBytes, std::min(kThreadBytes, bytes.size() - index * kThreadBytes));
}

// The pages come from disk at the pace of several threads; and whoever finds the file cut short is no kernel, which
// would end the device's context.
void touch(Bytes bytes, ThreadPool& pool) {
  pool.run(parts_for(bytes), [&](std::size_t index, std::size_t) {
    const Bytes part = part_at(bytes, index);
    for (std::size_t at = 0; at < part.size(); at += kPageBytes)
      static_cast<void>(*static_cast<const volatile std::byte*>(&part[at]));
    static_cast<void>(*static_cast<const volatile std::byte*>(&part.back()));
  });
}

// 0, or an errno; ENODATA where the file ends too early.
int read_all(int descriptor, std::size_t offset, std::byte* to, std::size_t bytes) {
  while (bytes != 0) {
    const ssize_t got = pread(descriptor, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? errno : ENODATA;
    const auto count = static_cast<std::size_t>(got);
    offset += count;
    to += count;
    bytes -= count;
  }
  return 0;
}

// From the file by explicit reads, which are several times faster than page faults.
Result<void> land(Bytes bytes, const GgufFile::Part* part, std::byte* to, ThreadPool& pool) {
  if (part == nullptr || part->descriptor < 0) {
    std::memcpy(to, bytes.data(), bytes.size());
    return {};
  }
  const auto offset = static_cast<std::size_t>(bytes.data() - part->mapping.data());
  std::atomic<int> error = 0;
  pool.run(parts_for(bytes), [&](std::size_t index, std::size_t) {
    const std::size_t at = index * kThreadBytes;
    if (const int failed = read_all(part->descriptor, offset + at, to + at, part_at(bytes, index).size()); failed != 0)
      error = failed;
  });
  if (error != 0) return fail(ErrorCode::io, "{}: {}", part->path.string(), errno_message(error));
  return {};
}

Result<void> enqueue(const SharedPiece& piece, const std::byte* from, cudaStream_t stream) {
  if (piece.matrix.data == nullptr)
    return checked(copy_bytes(from, piece.target, piece.from.size(), stream), "copy_bytes");
  Matrix matrix = piece.matrix;
  matrix.data = from;
  return checked(repack({.matrix = matrix, .tiles = piece.target}, stream), "repack");
}

Result<void> wait(cudaStream_t stream) {
  return checked(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

}  // namespace

Result<void> upload_shared(std::span<const Upload> uploads, const GgufFile& file, Reach reach, ThreadPool& pool,
                           LoadProgress* progress) {
  LoadProgress nobody;
  if (progress == nullptr) progress = &nobody;
  std::vector<SharedPiece> pieces;
  for (const Upload& one : uploads) cut_shared(one, pieces);
  std::size_t largest = 0;  // of what has to land
  std::uint64_t expected = 0;
  for (const SharedPiece& piece : pieces) {
    expected += piece.from.size();
    if (reach == Reach::landed || part_of(file, piece.from) == nullptr) largest = std::max(largest, piece.from.size());
  }
  progress->expect(expected);
  PinnedMemory landing;
  if (largest != 0) {
    SIROCCO_TRY(landing, allocate_pinned(largest));
  }
  SIROCCO_TRY(const Stream stream, make_stream());
  for (const SharedPiece& piece : pieces) {
    if (progress->stopped()) return fail(ErrorCode::cancelled, "the model was not loaded: asked to stop");
    const GgufFile::Part* const part = part_of(file, piece.from);
    if (part != nullptr && reach != Reach::landed) {
      touch(piece.from, pool);
      if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
      SIROCCO_TRY(const Window window, Window::open(reach, *part, piece.from));
      SIROCCO_CHECK(enqueue(piece, window.data(), stream.get()));
      SIROCCO_CHECK(wait(stream.get()));
    } else {
      SIROCCO_CHECK(land(piece.from, part, landing.get(), pool));
      SIROCCO_CHECK(enqueue(piece, landing.get(), stream.get()));
      SIROCCO_CHECK(wait(stream.get()));
    }
    progress->add(piece.from.size());
  }
  if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
  return {};
}

}  // namespace sirocco::cuda
