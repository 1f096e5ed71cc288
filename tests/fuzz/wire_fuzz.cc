// libFuzzer: the bytes as a stream of frames, and as the payload of each type (the type is taken from where the header
// has it). Whatever decodes must be valid and come back the same from encode() and decode().
#include <cstdlib>

#include "ipc/wire/codec.h"
#include "ipc/wire/frame.h"
#include "ipc/wire/validate.h"

namespace {

using namespace sirocco::wire;

void decode_and_compare(std::uint16_t type, std::span<const std::byte> payload) {
  const auto message = decode(type, payload);
  if (!message) return;
  if (!validate(*message)) std::abort();
  const std::vector<std::byte> frame = encode(*message, 1);
  const auto again = decode(type, std::span(frame).subspan(kHeaderBytes));
  if (!again || !(*again == *message)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));

  FrameReader reader(kMaxPayload);
  for (const auto piece : {bytes.first(size / 2), bytes.subspan(size / 2)}) {
    reader.push(piece);
    for (;;) {
      const auto frame = reader.next();
      if (!frame || !*frame) break;
      decode_and_compare((*frame)->type, (*frame)->payload);
    }
  }

  if (size > kHeaderBytes) {
    const FrameHeader header = read_header(bytes.first<kHeaderBytes>());
    const auto type = static_cast<std::uint16_t>(header.type % (std::variant_size_v<Message> + 1));
    decode_and_compare(type, bytes.subspan(kHeaderBytes));
  }
  return 0;
}
