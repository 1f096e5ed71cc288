// The products of rows of activations with weight matrices, on the pool: the rows are quantised once for all matrices
// that meet them, few rows stream the weights, many meet panels of expanded weights. A row's result is the same either
// way (kernels/kernels.h).
//
// Owned by Forward, called from the engine thread. All memory is allocated by the constructor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/aligned.h"
#include "engine/base/thread_pool.h"
#include "kernels/kernels.h"

namespace sirocco {

// The formats that a set of matrices wants its rows in.
class FormatSet {
 public:
  void add(ActivationFormat format) { has_.at(static_cast<std::size_t>(format)) = true; }
  bool has(ActivationFormat format) const { return has_.at(static_cast<std::size_t>(format)); }

 private:
  std::array<bool, kActivationFormats> has_ = {};
};

class Products {
 public:
  // One kind of prepare() and run() that there will be, for the memory it needs.
  struct Use {
    std::size_t rows = 0;      // prepared, at most
    std::size_t inputs = 0;    // of each
    FormatSet formats;         // of the matrices that meet them
    std::size_t products = 1;  // matrices of different types that meet the same rows in one run()
    std::size_t met = 0;       // rows that matrices meet in all: more than `rows` where each meets several experts
    std::size_t groups = 1;    // of rows, each with matrices of its own (experts)
  };

  Products(const Kernels& kernels, ThreadPool& pool, std::span<const Use> uses);
  static std::uint64_t bytes(const Kernels& kernels, std::size_t threads, std::span<const Use> uses);

  // Makes rows ready for matrices of those formats. row(i), called once for each i on any thread, returns row i
  // [inputs] as f32, which must stay where it is until the rows are no longer used.
  template <class Row>
  void prepare(std::size_t rows, std::size_t inputs, const FormatSet& formats, Row row) {
    prepare_some(0, rows, inputs, formats, row);
  }
  // Of rows that become ready one group after another, those from `first` on; the others stay.
  template <class Row>
  void prepare_some(std::size_t first, std::size_t count, std::size_t inputs, const FormatSet& formats, Row row) {
    begin_prepare(first + count, inputs, formats);
    pool_.run(count, [&](std::size_t i, std::size_t) { prepare_row(first + i, row(first + i)); });
  }

  // y[r * stride + n] = the product of the r-th of `rows` with output n of w. Then, if `up` is there,
  // y = silu(y) * (the product with up); and if `sum` is there, sum[r * stride + n] += y.
  struct Product {
    const Matrix* w = nullptr;
    const Matrix* up = nullptr;           // of w's shape
    std::span<const std::uint32_t> rows;  // indices of prepared rows
    float* y = nullptr;                   // [rows, stride]
    float* up_y = nullptr;                // likewise, where the product with `up` goes
    float* sum = nullptr;
    std::size_t stride = 0;
  };
  void run(std::span<const Product> products);

 private:
  struct Tiles {  // packed rows
    const LinearFunctions* linear = nullptr;
    ActivationFormat format = ActivationFormat::f32;
    std::span<const std::uint32_t> rows;
    std::size_t inputs = 0;
    std::byte* memory = nullptr;
    std::size_t count() const { return rows.size(); }
  };
  struct Task {  // a product, cut into chunks
    const Product* product = nullptr;
    std::size_t outputs = 0;           // of a chunk
    std::size_t first_chunk = 0;       // of all
    const std::byte* tiles = nullptr;  // null: by rows
    const std::byte* up_tiles = nullptr;
  };

  void begin_prepare(std::size_t rows, std::size_t inputs, const FormatSet& formats);
  void prepare_row(std::size_t i, const float* x);
  const std::byte* row(ActivationFormat format, std::size_t i) const;
  bool by_panels(const Matrix& w, std::size_t rows) const;
  const std::byte* tiles_for(const Matrix& w, std::span<const std::uint32_t> rows);
  void pack();
  std::size_t chunk_outputs(const Product& product, bool panels) const;
  void compute(const Task& task, std::size_t chunk, std::size_t thread);
  void multiply(const Matrix& w, const Product& product, const std::byte* tiles, std::size_t first, std::size_t last,
                float* y, std::size_t thread);

  const Kernels& kernels_;
  ThreadPool& pool_;
  std::size_t inputs_ = 0;  // of the prepared rows
  FormatSet formats_;
  std::array<std::size_t, kActivationFormats> row_bytes_ = {};
  std::vector<const float*> f32_;  // [rows]
  std::array<AlignedVector<std::byte>, kActivationFormats> quantised_;
  AlignedVector<std::byte> tile_memory_;
  std::size_t tile_memory_used_ = 0;
  std::vector<Tiles> tiles_;
  std::vector<std::size_t> tile_chunks_;  // where each of tiles_ begins among the chunks of pack()
  std::vector<Task> tasks_;
  std::vector<AlignedVector<std::byte>> scratch_;  // per thread
};

}  // namespace sirocco
