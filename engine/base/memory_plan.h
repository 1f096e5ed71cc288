// What the memory budget buys, line by line: made before anything is allocated, printed at load and shown in status.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sirocco {

struct MemoryPlan {
  struct Line {
    std::string name;  // "dense weights"
    std::uint64_t bytes = 0;
    std::string note;     // "mapped from the file"
    bool charged = true;  // against the budget; false for pages the kernel can take back
  };

  std::uint64_t budget = 0;  // bytes
  std::vector<Line> lines;

  std::uint64_t charged() const {
    std::uint64_t sum = 0;
    for (const Line& line : lines) sum += line.charged ? line.bytes : 0;
    return sum;
  }
};

}  // namespace sirocco
