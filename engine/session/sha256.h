// SHA-256 of bytes that come in pieces, by OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "engine/base/bytes.h"

struct evp_md_ctx_st;

namespace sirocco {

class Sha256 {
 public:
  using Digest = std::array<std::byte, 32>;

  Sha256();
  Sha256& add(Bytes bytes);
  Digest finish();  // once, at the end

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

}  // namespace sirocco
