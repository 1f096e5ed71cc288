// The alphabet of byte-level BPE (GPT-2): every byte has a printable character, so that vocabularies and merges are
// plain text. Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and up, in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sirocco {

// The character for a byte, as UTF-8.
std::string_view byte_character(unsigned char byte);

// The bytes that `token` is written for, or nothing if it holds a character outside the alphabet.
std::optional<std::string> bytes_of_characters(std::string_view token);

}  // namespace sirocco
