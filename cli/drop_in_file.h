// A small file that is replaced whole, and put back as it was unless it is kept: setup's part of the configuration.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco {

class DropInFile {
 public:
  // Makes the folder, if it is not there. Error: nothing has changed.
  static Result<DropInFile> write(const std::filesystem::path& file, std::string_view text);

  DropInFile(DropInFile&& other) noexcept;
  DropInFile& operator=(DropInFile&&) = delete;
  ~DropInFile();

  void keep() { kept_ = true; }

 private:
  DropInFile() = default;

  std::filesystem::path file_;
  std::optional<std::string> before_;  // nothing: there was none
  bool made_folder_ = false;
  bool kept_ = false;
};

}  // namespace sirocco
