// What a session's file begins with, as bytes: everything but the keys and values. All little-endian.
//
//   8 bytes   "sirosess"
//   u32       version of the format: 1
//   u32       bytes of the body
//   body      the fields of SessionHead in order; a text or list is its length (u32) and its elements
//   32 bytes  SHA-256 of all of this
//   then, for each block of `computed`, the last perhaps partly filled, until the file ends:
//     block_bytes bytes, as the backend exports them
//     32 bytes        SHA-256 of the head's SHA-256, the block's number (u32) and its bytes
//
// So a damaged block, or a file that ends early, costs no more than the blocks from there on: they are computed again.
// Which keys and values belong to which tokens depends on the model and on `kv_layout`; the chat format only decides on
// the tokens, which are compared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/result.h"
#include "engine/session/session_content.h"
#include "engine/session/sha256.h"

namespace sirocco {

struct SessionHead {
  std::string model;      // model_fingerprint
  std::string kv_layout;  // "cpu f16 32": blocks of another are not read
  std::uint32_t uid = 0;
  std::string name;
  SessionOverflow overflow = SessionOverflow::fail;
  SessionContent content;
  std::vector<TokenId> computed;  // the tokens whose keys and values follow
  std::uint64_t block_bytes = 0;
};

inline constexpr std::size_t kSessionPrefixBytes = 16;  // before the body

std::vector<std::byte> encode_session_head(const SessionHead& head);

// Bytes of the whole head, by its first kSessionPrefixBytes. Errors: CORRUPT, no such file; UNSUPPORTED, another
// version.
Result<std::size_t> session_head_bytes(Bytes prefix);

// Errors: CORRUPT.
Result<SessionHead> decode_session_head(Bytes bytes);

Sha256::Digest session_block_digest(Bytes head, std::uint32_t index, Bytes block);

}  // namespace sirocco
