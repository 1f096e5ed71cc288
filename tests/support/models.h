// Models that the tests use when they are there: ./dev downloads them to build/models, $SIROCCO_MODELS names another
// folder.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/source_dir.h"

namespace sirocco::test {

inline std::filesystem::path demo_model() {
  const char* folder = std::getenv("SIROCCO_MODELS");
  return (folder != nullptr ? std::filesystem::path(folder) : source_dir() / "build" / "models") /
         "smollm2-135m-instruct.gguf";
}

}  // namespace sirocco::test

// At the beginning of a test that reads the demo model.
#define SIROCCO_NEEDS_DEMO_MODEL()                                \
  if (!std::filesystem::exists(::sirocco::test::demo_model()))    \
  GTEST_SKIP() << "no " << ::sirocco::test::demo_model().string() \
               << ": ./dev fetches it, $SIROCCO_MODELS names its folder"
