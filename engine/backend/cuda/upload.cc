#include "engine/backend/cuda/upload.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/gguf/mapping_guard.h"

namespace sirocco::cuda {
namespace {

constexpr std::size_t kPieceBytes = 1 * MiB;  // that one thread prepares at a time
constexpr std::size_t kBuffers = 2;

// A part of an upload: whole tiles of outputs [first, last), or bytes.
struct Piece {
  const Upload* of = nullptr;
  std::byte* target = nullptr;
  std::size_t bytes = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

void cut(const Upload& upload, std::vector<Piece>& pieces) {
  if (upload.matrix.data == nullptr) {
    for (std::size_t at = 0; at < upload.bytes.size(); at += kPieceBytes) {
      const std::size_t bytes = std::min(kPieceBytes, upload.bytes.size() - at);
      pieces.push_back({.of = &upload, .target = upload.target + at, .bytes = bytes, .first = at, .last = at + bytes});
    }
    return;
  }
  const Matrix& m = upload.matrix;
  const std::size_t tile_row = matrix_bytes(m.type, m.inputs, kTileOutputs);
  const std::size_t outputs = std::max<std::size_t>(kPieceBytes / tile_row, 1) * kTileOutputs;
  for (std::size_t first = 0; first < m.outputs; first += outputs) {
    const std::size_t last = std::min(first + outputs, m.outputs);
    pieces.push_back({.of = &upload,
                      .target = upload.target + first / kTileOutputs * tile_row,
                      .bytes = padded(last - first, kTileOutputs) / kTileOutputs * tile_row,
                      .first = first,
                      .last = last});
  }
}

void prepare(const Piece& piece, std::byte* staging) {
  if (piece.of->matrix.data == nullptr) {
    std::memcpy(staging, piece.of->bytes.data() + piece.first, piece.bytes);
  } else {
    repack(piece.of->matrix, piece.first, piece.last, staging);
  }
}

// How many pieces from `first` on lie within `bytes` of device memory; at least one.
std::size_t group(std::span<const Piece> pieces, std::size_t bytes) {
  std::size_t count = 1;
  while (count < pieces.size() && pieces[count].target + pieces[count].bytes <= pieces[0].target + bytes) ++count;
  return count;
}

struct Buffer {
  PinnedMemory memory;
  Event copied;
};

// Copies what it is given, in turns of both buffers. The stream may still be at it when this returns.
Result<void> copy_all(std::span<const Piece> pieces, std::span<Buffer> buffers, std::size_t buffer_bytes,
                      ThreadPool& pool, cudaStream_t stream, LoadProgress& progress) {
  for (std::size_t turn = 0; !pieces.empty(); ++turn) {
    if (progress.stopped()) return fail(ErrorCode::cancelled, "the model was not loaded: asked to stop");
    Buffer& buffer = buffers[turn % buffers.size()];
    if (turn >= buffers.size())
      SIROCCO_CHECK(checked(cudaEventSynchronize(buffer.copied.get()), "cudaEventSynchronize"));
    const std::span<const Piece> now = pieces.first(group(pieces, buffer_bytes));
    std::byte* const target = now.front().target;
    // As they will lie on the device, so that they are one copy.
    pool.run(now.size(),
             [&](std::size_t i, std::size_t) { prepare(now[i], buffer.memory.get() + (now[i].target - target)); });
    const auto bytes = static_cast<std::size_t>(now.back().target + now.back().bytes - target);
    SIROCCO_CHECK(checked(cudaMemcpyAsync(target, buffer.memory.get(), bytes, cudaMemcpyHostToDevice, stream),
                          "cudaMemcpyAsync of weights"));
    SIROCCO_CHECK(checked(cudaEventRecord(buffer.copied.get(), stream), "cudaEventRecord"));
    pieces = pieces.subspan(now.size());
    for (const Piece& piece : now) progress.add(piece.bytes);
  }
  return {};
}

}  // namespace

Result<void> upload(std::span<const Upload> uploads, ThreadPool& pool, LoadProgress* progress) {
  LoadProgress nobody;
  if (progress == nullptr) progress = &nobody;
  std::vector<Piece> pieces;
  for (const Upload& one : uploads) cut(one, pieces);
  if (pieces.empty()) return {};
  std::size_t buffer_bytes =
      std::min(kUploadMemory / kBuffers,
               static_cast<std::size_t>(pieces.back().target + pieces.back().bytes - pieces[0].target));
  for (const Piece& piece : pieces) buffer_bytes = std::max(buffer_bytes, piece.bytes);
  std::array<Buffer, kBuffers> buffers;
  for (Buffer& buffer : buffers) {
    SIROCCO_TRY(buffer.memory, allocate_pinned(buffer_bytes));
    SIROCCO_TRY(buffer.copied, make_event());
  }
  SIROCCO_TRY(const Stream stream, make_stream());
  std::uint64_t expected = 0;
  for (const Piece& piece : pieces) expected += piece.bytes;
  progress->expect(expected);
  const auto copied = copy_all(pieces, buffers, buffer_bytes, pool, stream.get(), *progress);
  // Also after a failure: the buffers must outlive the copies.
  const auto done = checked(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  SIROCCO_CHECK(copied);
  SIROCCO_CHECK(done);
  if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
  return {};
}

}  // namespace sirocco::cuda
