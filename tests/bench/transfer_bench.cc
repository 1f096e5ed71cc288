// Reads a file as experts are read, by the engine's own TransferQueue: random extents of one size, past the page cache,
// into memory in huge pages. tests/bench/disk_bench.py takes turns with fio.
//
//   transfer_bench --file FILE [--extent BYTES] [--depth N] [--piece BYTES] [--bytes BYTES]
//
// Prints one JSON document: GB/s, and the milliseconds of CPU time that a GiB took.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/experts/transfer_queue.h"

namespace sirocco {
namespace {

struct Options {
  std::string file;
  std::uint64_t extent = 884'736;  // a projection of Qwen3 30B A3B in Q4_K
  std::uint64_t bytes = GiB;
  ReadShape shape;
};

double cpu_seconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Result<nlohmann::ordered_json> measure(const Options& options) {
  const int descriptor = open(options.file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (descriptor < 0) return fail(errno_code(errno), "{}: {}", options.file, errno_message(errno));
  const auto end = static_cast<std::uint64_t>(lseek(descriptor, 0, SEEK_END));
  if (end < options.extent) return fail(ErrorCode::invalid_argument, "{}: too small", options.file);
  // As many extents as keep the disk busy while some are collected, as the misses of a layer do.
  const std::uint64_t places = 2 * std::max<std::uint64_t>(options.shape.bytes() / options.extent, 1) + 1;
  const std::uint64_t memory_bytes = std::max(places * options.extent, 64 * MiB);
  void* const memory = mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(ErrorCode::out_of_memory, "{}", errno_message(errno));
  madvise(memory, memory_bytes, MADV_HUGEPAGE);
  std::memset(memory, 1, memory_bytes);
  SIROCCO_TRY(const auto queue, make_transfer_queue());
  queue->set_shape(options.shape);

  std::mt19937_64 random(std::random_device{}());
  const std::uint64_t reads = std::max<std::uint64_t>(options.bytes / options.extent, 1);
  std::uint64_t begun = 0;
  std::vector<Transfer> transfers;
  const auto add = [&](std::uint64_t place) {
    transfers.push_back({.descriptor = descriptor,
                         .offset = random() % ((end - options.extent) / kDirectBlock + 1) * kDirectBlock,
                         .bytes = options.extent,
                         .wanted = options.extent,
                         .to = static_cast<std::byte*>(memory) + place * options.extent,
                         .tag = place,
                         .background = true});  // as deep as the shape says
    ++begun;
  };
  const double cpu = cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t place = 0; place < std::min(places, reads); ++place) add(place);
  std::vector<Arrival> arrivals;
  for (std::uint64_t done = 0; done < reads;) {
    queue->submit(transfers);
    transfers.clear();
    arrivals.clear();
    queue->collect(arrivals, true);
    for (const Arrival& arrival : arrivals) {
      if (arrival.error != 0) return fail(ErrorCode::io, "{}: {}", options.file, errno_message(arrival.error));
      ++done;
      if (begun < reads) add(arrival.tag);
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const auto bytes = static_cast<double>(reads * options.extent);
  return nlohmann::ordered_json{{"queue", queue->kind()},
                                {"gb_s", bytes / took.count() / 1e9},
                                {"cpu_ms_per_gib", (cpu_seconds() - cpu) * 1e3 / (bytes / static_cast<double>(GiB))}};
}

}  // namespace
}  // namespace sirocco

int main(int argc, char** argv) {
  using namespace sirocco;
  CLI::App app("Reads a file as experts are read");
  Options options;
  const CLI::Validator blocks(
      [](const std::string& text) {
        const bool whole = !text.empty() && std::stoull(text) != 0 && std::stoull(text) % kDirectBlock == 0;
        return whole ? std::string() : "a multiple of 4096";
      },
      "BYTES");
  app.add_option("--file", options.file)->required();
  app.add_option("--extent", options.extent)->check(blocks);
  app.add_option("--bytes", options.bytes);
  app.add_option("--depth", options.shape.depth)->check(CLI::Range(1, 256));
  app.add_option("--piece", options.shape.piece_bytes)->check(blocks);
  CLI11_PARSE(app, argc, argv);
  const auto report = measure(options);
  if (!report) {
    std::fprintf(stderr, "%s\n", report.error().message().c_str());
    return 1;
  }
  std::printf("%s\n", report->dump().c_str());
  return 0;
}
