// From native messages to frames and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ipc/wire/messages.h"
#include "ipc/wire/wire_error.h"

namespace sirocco::wire {

// The whole frame, header included. The message must be one that validate() accepts.
std::vector<std::byte> encode(const Message& message, std::uint64_t request_id);

// The message in a frame's payload: verified, converted, validated. `payload` may have any alignment. Errors:
// unknown_type; malformed (not a FlatBuffer of this type: the stream cannot be trusted further); invalid_message (a
// field says something it may not).
tl::expected<Message, WireError> decode(std::uint16_t type, std::span<const std::byte> payload);

}  // namespace sirocco::wire
