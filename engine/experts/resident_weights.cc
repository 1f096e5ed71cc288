#include "engine/experts/resident_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <tuple>
#include <vector>

namespace sirocco {
namespace {

// So large that the disk is never idle between two of them, so small that a slow one shows progress each second.
constexpr std::uint64_t kPartBytes = 16 * MiB;
constexpr std::size_t kPartsUnderWay = 16;

// Every matrix of the weights but those of the experts.
template <class Weights, class Visit>
void visit_dense(Weights& weights, Visit visit) {
  const auto each = [&](auto& matrix) {
    if (matrix.data != nullptr) visit(matrix);
  };
  each(weights.embedding);
  each(weights.output);
  for (auto& layer : weights.layers) {
    for (auto* matrix :
         {&layer.q, &layer.k, &layer.v, &layer.attention_output, &layer.gate, &layer.up, &layer.down, &layer.router})
      each(*matrix);
  }
}

// A run of the file, and where its first block goes.
struct Run {
  FilePlace place;
  std::uint64_t at = 0;
};

// The dense weights as few long runs: what is less than a block apart is read together.
std::vector<Run> runs_of(const Model& model, const ModelFiles& files) {
  std::vector<FilePlace> places;
  visit_dense(model.weights(), [&](const Matrix& matrix) { places.push_back(files.place(matrix)); });
  std::sort(places.begin(), places.end(), [](const FilePlace& a, const FilePlace& b) {
    return std::tie(a.part, a.offset, a.bytes) < std::tie(b.part, b.offset, b.bytes);
  });
  std::vector<Run> runs;
  for (const FilePlace& place : places) {
    if (!runs.empty() && runs.back().place.part == place.part &&
        place.first_block() <= runs.back().place.after_last_block()) {
      FilePlace& last = runs.back().place;
      last.bytes = std::max(last.bytes, place.offset + place.bytes - last.offset);
    } else {
      runs.push_back({.place = place});
    }
  }
  std::uint64_t at = 0;
  for (Run& run : runs) {
    run.at = at;
    at += run.place.after_last_block() - run.place.first_block();
  }
  return runs;
}

std::uint64_t bytes_of(const std::vector<Run>& runs) {
  if (runs.empty()) return 0;
  const FilePlace& last = runs.back().place;
  return runs.back().at + last.after_last_block() - last.first_block();
}

// Takes the first `bytes` of a transfer off it.
Transfer cut(Transfer& rest, std::uint64_t bytes) {
  Transfer piece = rest;
  piece.bytes = std::min(rest.bytes, bytes);
  piece.wanted = std::min(rest.wanted, piece.bytes);
  rest.offset += piece.bytes;
  rest.to += piece.bytes;
  rest.bytes -= piece.bytes;
  rest.wanted -= piece.wanted;
  return piece;
}

// In parts, a few of them under way, so that it can be seen how far it is, and stopped. 0, or the errno of one that
// failed, ECANCELED after a stop; nothing is under way any more.
int read_all(std::vector<Transfer> transfers, TransferQueue& queue, LoadProgress& progress) {
  std::vector<Arrival> arrivals;
  std::vector<Transfer> parts;
  std::size_t next = 0;  // that is not wholly submitted
  std::size_t under_way = 0;
  int error = 0;
  for (;;) {
    if (progress.stopped() && error == 0) error = ECANCELED;
    parts.clear();
    for (; error == 0 && next < transfers.size() && under_way + parts.size() < kPartsUnderWay;
         next += transfers[next].bytes == 0 ? 1 : 0) {
      parts.push_back(cut(transfers[next], kPartBytes));
      parts.back().tag = parts.back().bytes;  // all that an arrival is to tell
    }
    if (!parts.empty()) queue.submit(parts);
    under_way += parts.size();
    if (under_way == 0) return error;
    arrivals.clear();
    queue.collect(arrivals, true);
    under_way -= arrivals.size();
    for (const Arrival& arrival : arrivals) {
      if (arrival.error != 0 && error == 0) error = arrival.error;
      progress.add(arrival.tag);
    }
  }
}

// What the trial measures: all of it at the same time.
int read_trial(std::span<const Transfer> part, TransferQueue& queue, LoadProgress& progress) {
  if (progress.stopped()) return ECANCELED;
  queue.submit(part);
  std::vector<Arrival> arrivals;
  while (arrivals.size() < part.size()) queue.collect(arrivals, true);
  for (const Arrival& arrival : arrivals)
    if (arrival.error != 0) return arrival.error;
  for (const Transfer& transfer : part) progress.add(transfer.bytes);
  return 0;
}

// The parts of the trial one by one, then the rest as it suits the disk. Stops at one that fails.
int read_in_parts(std::vector<Transfer> transfers, TransferQueue& queue, ShapeTrial& trial, LoadProgress& progress) {
  std::vector<Transfer> part;
  std::size_t first = 0;  // that is not read
  while (!trial.done()) {
    part.clear();
    for (std::uint64_t bytes = 0; bytes < trial.part_bytes();) {
      part.push_back(cut(transfers[first], trial.part_bytes() - bytes));
      part.back().background = true;  // as the shape says
      bytes += part.back().bytes;
      if (transfers[first].bytes == 0) ++first;
    }
    queue.set_shape(trial.next());
    const auto begin = std::chrono::steady_clock::now();
    if (const int error = read_trial(part, queue, progress); error != 0) return error;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    trial.add(trial.part_bytes(), took.count());
  }
  queue.set_shape(trial.chosen());
  transfers.erase(transfers.begin(), transfers.begin() + static_cast<std::ptrdiff_t>(first));
  return read_all(std::move(transfers), queue, progress);
}

}  // namespace

std::uint64_t resident_weights_bytes(const Model& model, const ModelFiles& files) {
  return bytes_of(runs_of(model, files));
}

Result<ResidentWeights> make_weights_resident(const Model& model, const ModelFiles& files, TransferQueue& queue,
                                              ShapeTrial* trial, LoadProgress* progress) {
  LoadProgress nobody;
  if (progress == nullptr) progress = &nobody;
  const std::vector<Run> runs = runs_of(model, files);
  const std::uint64_t bytes = bytes_of(runs);
  void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED)
    return fail(ErrorCode::out_of_memory, "{} for the dense weights: {}", format_bytes(bytes), errno_message(errno));
  const std::shared_ptr<std::byte> memory(static_cast<std::byte*>(mapped), [bytes](std::byte* p) { munmap(p, bytes); });
  madvise(mapped, bytes, MADV_HUGEPAGE);  // fewer TLB misses, where there are any

  if (trial != nullptr) {
    // Memory that the kernel clears meanwhile, and a hypervisor provides, would be measured with the disk.
    for (std::uint64_t at = 0; at < trial->bytes(); at += kDirectBlock) memory.get()[at] = std::byte{0};
  }

  std::vector<Transfer> transfers;
  for (std::size_t i = 0; i < runs.size(); ++i)
    transfers.push_back(files.transfer(runs[i].place, memory.get() + runs[i].at, i));
  progress->expect(bytes);
  const int error = trial != nullptr ? read_in_parts(std::move(transfers), queue, *trial, *progress)
                                     : read_all(std::move(transfers), queue, *progress);
  if (error == ECANCELED)
    return fail(ErrorCode::cancelled, "{}: not loaded: asked to stop", model.file().path().string());
  if (error != 0)
    return fail(ErrorCode::io, "{}: the dense weights could not be read: {}", model.file().path().string(),
                errno_message(error));
  for (const Run& run : runs) files.forget(run.place);

  ModelWeights weights = model.weights();
  visit_dense(weights, [&](Matrix& matrix) {
    const FilePlace place = files.place(matrix);
    const auto after = std::upper_bound(runs.begin(), runs.end(), place, [](const FilePlace& p, const Run& run) {
      return std::tie(p.part, p.offset) < std::tie(run.place.part, run.place.offset);
    });
    const Run& run = *(after - 1);
    matrix.data = memory.get() + run.at + (place.offset - run.place.first_block());
  });
  return ResidentWeights{
      .model = model.with_weights(std::move(weights), memory), .bytes = bytes, .locked = mlock(mapped, bytes) == 0};
}

}  // namespace sirocco
