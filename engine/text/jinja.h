// Runs a chat template, to see what it makes of a few short conversations: a format is recognised by what its template
// does, and no prompt is ever made of the text. It knows the part of Jinja that chat templates use where no tools are
// given, with the settings of transformers; whatever else a template does is an error that names it. The template comes
// with the model and is not trusted: its time and memory are bounded.
#pragma once

#include <string>
#include <string_view>

#include "engine/text/jinja_value.h"

namespace sirocco::jinja {

// Errors name the line: unsupported, for what is not known here; invalid_argument, for what the template or Jinja
// refuses.
Result<std::string> render(std::string_view source, Dictionary variables);

}  // namespace sirocco::jinja
