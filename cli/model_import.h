// Puts a model's files where the daemon can read them: copied, moved or linked into the folder of models, all parts of
// a split one, each under its own name at once. What is destroyed before keep() has put everything back as it was. Main
// thread only.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/model_progress.h"
#include "cli/system_user.h"
#include "engine/base/result.h"

namespace sirocco {

enum class Placing {
  automatic,  // in place where the daemon can read it there, else copied
  copy,
  move,  // on the same file system
  link   // a second name for the same file, on the same file system
};

class ModelImport {
 public:
  // files: the parts, the first one first. user: who shall read them. Errors: a file of that name is there, no room,
  // another file system, Ctrl-C; nothing has changed then.
  static Result<ModelImport> place(std::span<const std::filesystem::path> files, const std::filesystem::path& folder,
                                   Placing how, const SystemUser& user);

  ModelImport(ModelImport&& other) noexcept = default;
  ModelImport& operator=(ModelImport&&) = delete;
  ~ModelImport();

  const std::filesystem::path& model() const { return model_; }  // absolute; of a split one, the first part
  const std::string& how() const { return how_; }                // "copied to /var/lib/sirocco/models"

  void keep();

 private:
  // One file, and what takes it back.
  struct Placed {
    std::filesystem::path target;
    std::filesystem::path moved_from;  // empty: it is a copy or a link, and is removed
    uid_t owner = 0;                   // before it was moved
    gid_t group = 0;
    mode_t mode = 0;
  };

  ModelImport() = default;
  Result<void> copy(std::span<const std::filesystem::path> files, const std::filesystem::path& folder);
  Result<void> move(const std::filesystem::path& file, const std::filesystem::path& target, const SystemUser& user);
  Result<void> link(const std::filesystem::path& file, const std::filesystem::path& target, const SystemUser& user);

  std::filesystem::path model_;
  std::string how_;
  std::vector<Placed> placed_;
  std::vector<std::filesystem::path> unfinished_;  // copies that have no name yet
  std::unique_ptr<ModelProgress> progress_;        // Ctrl-C is an error of advance() as long as it lives
};

// Whether the daemon can use the files where they are; else why not.
std::optional<std::string> why_not_in_place(std::span<const std::filesystem::path> files, const SystemUser& user);

}  // namespace sirocco
