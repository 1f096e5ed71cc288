// What a message may say, beyond being well-formed: enumerations, ranges, counts, lengths, UTF-8, numbers that are
// finite. decode() calls it on what arrives, the server and the client on what they are asked to send.
#pragma once

#include "ipc/wire/messages.h"
#include "ipc/wire/wire_error.h"

namespace sirocco::wire {

// Error (invalid_message): the first field that is wrong, by name, with what is allowed.
tl::expected<void, WireError> validate(const Message& message);

}  // namespace sirocco::wire
