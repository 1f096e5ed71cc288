// One answer of the daemon, from the request to its ending; Ctrl-C meanwhile cancels it on the daemon.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/client/client.h"

namespace sirocco {

struct Answer {
  std::string text;
  std::vector<std::int32_t> ids;
  wire::Done done;
};

// Hands over the text as it comes, and waits for the ending; on_text returns false to cancel. Without on_text, as for
// JSON, the answer is only gathered. Until there is text, a terminal is told what is waited for. Ctrl-C cancels where
// an Interrupt lives.
ClientResult<Answer> ask(Client& client, const wire::Generate& request,
                         const std::function<bool(std::string_view)>& on_text = {});

// {"text", "ids", "reason", "usage", "timings"}; the reason as the protocol writes it ("MAX_TOKENS"), and
// "lossy_experts" if there are any.
nlohmann::ordered_json answer_json(const Answer& answer);

// "12 tokens of prompt, 34 of answer; 56.7 and 8.9 tokens/s"
std::string answer_speed(const wire::Done& done);

// Tells a person, on standard error, that the answer is not exact, if it is not.
void warn_if_lossy(const wire::Done& done);

}  // namespace sirocco
