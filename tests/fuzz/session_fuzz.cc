// Any bytes as a session's file: refused, or a session that can be used and written again. So that not all is refused
// for its checksum, the bytes are also tried with one that is right.
#include <cstdlib>
#include <cstring>

#include "engine/session/session_file.h"

namespace sirocco {
namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

void use(SessionHead head) {
  const std::vector<std::byte> bytes = encode_session_head(head);
  const auto again = decode_session_head(bytes);
  require(again && encode_session_head(*again) == bytes);
  while (head.content.drop_oldest()) require(head.content.is_conversation());
  const std::uint32_t turns = head.content.turns();
  head.content.rewind(1);
  require(head.content.turns() == turns - (turns > 0 ? 1 : 0));
  head.content.rewind(turns);
  require(head.content.turns() == 0);
}

}  // namespace
}  // namespace sirocco

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco;
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  if (const auto head = decode_session_head(bytes)) use(*head);
  const auto whole = session_head_bytes(bytes);
  if (!whole || *whole > bytes.size()) return 0;
  const Sha256::Digest digest = Sha256().add(Bytes(bytes).first(*whole - sizeof digest)).finish();
  std::memcpy(&bytes[*whole - sizeof digest], digest.data(), sizeof digest);
  if (const auto head = decode_session_head(bytes)) use(*head);
  return 0;
}
