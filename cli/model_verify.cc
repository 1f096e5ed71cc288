#include "cli/model_verify.h"

#include <fcntl.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>

#include "cli/model_progress.h"
#include "engine/gguf/block_scales.h"
#include "engine/gguf/mapping_guard.h"
#include "engine/model/architecture.h"
#include "engine/model/model.h"

namespace sirocco {
namespace {

constexpr std::uint64_t kChunkBytes = 8 * MiB;  // hashed and looked at while still in the cache

// SHA-256 of a file that is read front to back.
class FileHash {
 public:
  explicit FileHash(Bytes file) : file_(file), context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }
  // Everything before `end` that is not hashed yet.
  void advance_to(std::uint64_t end) {
    if (end <= position_) return;
    EVP_DigestUpdate(context_.get(), file_.data() + position_, end - position_);
    position_ = end;
  }
  std::string finish() {
    advance_to(file_.size());
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), digest.data(), &size);
    return fmt::format("{:02x}", fmt::join(digest.begin(), digest.begin() + size, ""));
  }

 private:
  Bytes file_;
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
  std::uint64_t position_ = 0;
};

// Looks at a tensor chunk by chunk; `hash` keeps up with it, so that a file larger than memory is read once.
Result<std::optional<BadBlock>> verify_tensor(const GgufFile& file, const GgufTensor& tensor, FileHash* hash,
                                              ModelProgress& progress) {
  const TensorTypeInfo& info = *tensor_type_info(tensor.type);
  const std::uint64_t chunk = kChunkBytes / info.block_bytes * info.block_bytes;
  const std::uint64_t row_blocks = tensor.shape[0] / info.block_size;
  std::optional<BadBlock> bad;
  for (std::uint64_t at = 0; at < tensor.bytes; at += chunk) {
    const Bytes bytes = file.data(tensor).subspan(at, std::min(chunk, tensor.bytes - at));
    if (hash != nullptr) hash->advance_to(tensor.offset + at + bytes.size());
    if (const auto index = first_nonfinite_block(tensor.type, bytes); index && !bad) {
      const std::uint64_t block = at / info.block_bytes + *index;
      bad = BadBlock{.tensor = tensor.name, .row = block / row_blocks, .block = block % row_blocks};
    }
    SIROCCO_CHECK(progress.advance(bytes.size()));
  }
  return bad;
}

std::string why_not_loadable(const std::shared_ptr<const GgufFile>& file) {
  const auto architecture = file->metadata().string("general.architecture");
  if (file->tensors().empty() || !architecture || find_architecture(*architecture) == nullptr) return {};
  const auto model = Model::bind(file);
  return model ? "" : model.error().message();
}

std::uint64_t trailing_bytes(const GgufFile& file) {
  std::vector<std::uint64_t> ends;  // of each part's last tensor, with its padding
  for (const GgufFile::Part& part : file.parts()) ends.push_back(part.data_offset);
  for (const GgufTensor& tensor : file.tensors()) {
    const std::uint64_t end =
        (tensor.offset + tensor.bytes + file.alignment() - 1) / file.alignment() * file.alignment();
    ends[tensor.part] = std::max(ends[tensor.part], end);
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const std::uint64_t size = file.parts()[i].mapping.size();
    sum += size - std::min(size, ends[i]);
  }
  return sum;
}

}  // namespace

Result<VerifyReport> verify_model(const std::shared_ptr<const GgufFile>& model_file,
                                  std::optional<std::size_t> hash_part) {
  const GgufFile& file = *model_file;
  std::vector<const GgufTensor*> order;
  std::uint64_t total = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    order.push_back(&tensor);
    total += tensor.bytes;
  }
  std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
    return std::pair(a->part, a->offset) < std::pair(b->part, b->offset);
  });
  for (const GgufFile::Part& part : file.parts()) posix_fadvise(part.descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);

  std::optional<FileHash> hash;
  if (hash_part) hash.emplace(file.parts()[*hash_part].mapping);
  ModelProgress progress("verifying " + file.path().string());
  progress.expect(total);
  VerifyReport report = {
      .bad = {}, .sha256 = {}, .not_loadable = why_not_loadable(model_file), .trailing_bytes = trailing_bytes(file)};
  for (const GgufTensor* const tensor : order) {
    FileHash* const keeps_up = hash && tensor->part == *hash_part ? &*hash : nullptr;
    SIROCCO_TRY(auto bad, verify_tensor(file, *tensor, keeps_up, progress));
    if (bad) report.bad.push_back(std::move(*bad));
  }
  if (hash) report.sha256 = hash->finish();
  if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
  return report;
}

}  // namespace sirocco
