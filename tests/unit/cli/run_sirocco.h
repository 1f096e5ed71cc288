// The `sirocco` program, run inside the test: its exit code, and what it wrote.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "cli/app.h"
#include "tests/support/source_dir.h"
#include "tests/unit/gguf/gguf_bytes.h"

namespace sirocco::test {

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};

inline Ran run_sirocco(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"sirocco"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.code = run_app(static_cast<int>(argv.size()), argv.data());
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

// Copies a file of tests/golden to `output`.
inline void copy_golden(const std::string& name, const std::filesystem::path& output) {
  std::filesystem::copy_file(golden_dir() / name, output, std::filesystem::copy_options::overwrite_existing);
}

// Writes `value` over the bytes at `offset` of a tensor's data.
template <class T>
void patch_tensor(const std::filesystem::path& path, const std::string& tensor, std::uint64_t offset, T value) {
  const auto file = GgufFile::open(path).value();
  std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(static_cast<std::streamoff>(file->find(tensor)->offset + offset));
  out.write(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace sirocco::test
