#include "tests/support/source_dir.h"

namespace sirocco::test {

std::filesystem::path source_dir() {
  return SIROCCO_SOURCE_DIR;
}
std::filesystem::path golden_dir() {
  return source_dir() / "tests" / "golden";
}
std::filesystem::path bin_dir() {
  return SIROCCO_BIN_DIR;
}

}  // namespace sirocco::test
