// JSON as the reference implementations read and write it: keys keep their order, and the text that a model sees is
// what Python's json.dumps(value, ensure_ascii=False) gives. Depth is limited: the text comes from clients.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco {

using Json = nlohmann::ordered_json;

// Errors say where in the text. At most 64 levels deep.
Result<Json> parse_json(std::string_view text);

std::string python_json(const Json& value);

}  // namespace sirocco
