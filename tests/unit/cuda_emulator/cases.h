// Programs of host and kernels, right or with an error seeded by name ("": right).
#pragma once

#include <string>

namespace sirocco::test {

// Whether the results are those of a plain loop. Cases: row_sums, argmax, paged, multiply, grid, pipe, graph.
bool run_case(const std::string& name, const std::string& bug);

}  // namespace sirocco::test
