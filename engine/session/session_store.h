// Sessions on disk, one file each, in one folder: written whole or not at all, within a quota for each user, and read
// only where they are of this model. Which there are is read from the folder once, when that is first asked: what an
// engine before this one saves until then is found.
//
// One thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "engine/model/model.h"
#include "engine/session/session_file.h"

namespace sirocco {

// Of the model's metadata, tensors and size, and of the beginnings of some tensors: hexadecimal. A copy or another name
// of the file is the same model.
std::string model_fingerprint(const Model& model);

class SessionStore {
 public:
  struct Options {
    std::filesystem::path folder;
    std::uint64_t bytes_per_uid = 0;  // on disk
    // What blocks mean.
    std::string model;
    std::string kv_layout;
    std::uint32_t block_tokens = 0;
    std::uint64_t block_bytes = 0;
  };
  // Makes the folder where there is none.
  static Result<SessionStore> open(Options options);

  using Key = std::pair<std::uint32_t, std::string>;  // uid and name
  const std::map<Key, std::uint64_t>& saved() const;  // with its bytes
  std::uint64_t bytes(const Key& key) const;          // 0: it is not there

  // Of `head`, uid, name, overflow, content and computed; `read_block` gives block `index`, or says that it is not to
  // be had: then no more are written, as when the quota is reached. On disk when this returns. Errors: BUSY, not even
  // the text fits in the quota; IO, and what was there before is there still. `synced` is called whenever a part of it,
  // kSyncBytes or what is left, has reached the disk: a slow one is told from one that does not answer.
  using ReadBlock = std::function<bool(std::uint32_t index, std::span<std::byte> block)>;
  static constexpr std::uint64_t kSyncBytes = 16 * MiB;
  Result<void> save(
      SessionHead head, const ReadBlock& read_block, const std::function<void()>& synced = [] {});

  // Hands over the head, then one block after the other until `on_block` returns false. What is damaged after the head
  // is not handed over, and returned. Errors: CORRUPT; UNSUPPORTED, of another model or format: the file stays.
  using OnHead = std::function<Result<void>(SessionHead&& head)>;
  using OnBlock = std::function<bool(std::uint32_t index, Bytes block)>;
  Result<std::optional<Error>> load(const Key& key, const OnHead& on_head, const OnBlock& on_block) const;

  void remove(const Key& key);

 private:
  explicit SessionStore(Options options) : options_(std::move(options)) {}
  std::filesystem::path path(const Key& key) const;
  Result<std::uint64_t> write(const std::filesystem::path& file, Bytes head, std::size_t blocks, std::uint64_t most,
                              const ReadBlock& read_block, const std::function<void()>& synced) const;
  Result<void> sync_folder() const;

  std::map<Key, std::uint64_t>& index() const;

  Options options_;
  mutable std::optional<std::map<Key, std::uint64_t>> saved_;  // once it has been read from the folder
};

}  // namespace sirocco
