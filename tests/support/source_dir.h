// Where the tests find the repository's files and the programs built beside them.
#pragma once

#include <filesystem>

namespace sirocco::test {

std::filesystem::path source_dir();  // the repository's root
std::filesystem::path golden_dir();  // tests/golden
std::filesystem::path bin_dir();     // build/<preset>/bin

}  // namespace sirocco::test
