// The functions of ipc/client/sirocco.h: C types around a Client.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <iterator>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ipc/client/c_request.h"
#include "ipc/client/client.h"
#include "ipc/client/fail.h"
#include "ipc/client/sirocco.h"
#include "ipc/client/status_json.h"

using sirocco::Client;
using sirocco::ClientError;
using sirocco::ClientResult;
namespace wire = sirocco::wire;

struct sirocco_client {
  std::optional<Client> connection;

  struct {
    int code = SIROCCO_OK;
    std::string text;
    const char* message = "";  // of `text`, or one that needs no memory
    std::uint32_t retry_after_ms = 0;
  } error;

  // What the last call handed out.
  wire::TokenBatch batch;
  wire::Done done;
  sirocco_event event{};
  std::vector<std::int32_t> ids;
  std::string text;
  std::vector<wire::SessionState> session_states;
  std::vector<sirocco_session> sessions;
  std::vector<const sirocco_session*> session_list;
  wire::StatusReport report;
  std::vector<const char*> reasons;
  sirocco_model model{};
  sirocco_status status{};
};

namespace {

int code_of(const ClientError& error) {
  switch (error.kind) {
    case ClientError::Kind::no_daemon:
      return SIROCCO_NO_DAEMON;
    case ClientError::Kind::permission:
      return SIROCCO_NO_PERMISSION;
    case ClientError::Kind::timeout:
      return SIROCCO_NO_ANSWER;
    case ClientError::Kind::disconnected:
      return SIROCCO_DISCONNECTED;
    case ClientError::Kind::protocol:
      return SIROCCO_BAD_PROTOCOL;
    case ClientError::Kind::invalid:
      return SIROCCO_INVALID;
    case ClientError::Kind::gave_up:
      return SIROCCO_GAVE_UP;
    case ClientError::Kind::refused:
      return static_cast<int>(error.code);
    case ClientError::Kind::system:
      return SIROCCO_SYSTEM;
  }
  return SIROCCO_SYSTEM;
}

int remember(sirocco_client& client, ClientError&& error) noexcept {
  client.error.text = std::move(error.message);
  client.error.message = client.error.text.c_str();
  client.error.retry_after_ms = error.retry_after_ms;
  return client.error.code = code_of(error);
}

int remember(sirocco_client& client, int code, const char* message) noexcept {
  client.error.message = message;
  client.error.retry_after_ms = 0;
  return client.error.code = code;
}

// Runs `call`, which returns a ClientResult<void>, as the body of a function of the interface: what it says or throws
// is remembered.
template <class Call>
int body(sirocco_client* client, Call call) noexcept {
  if (client == nullptr) return SIROCCO_INVALID;
  try {
    ClientResult<void> result = call();
    return result ? SIROCCO_OK : remember(*client, std::move(result.error()));
  } catch (const std::bad_alloc&) {
    return remember(*client, SIROCCO_NO_MEMORY, "out of memory");
  } catch (const std::exception&) {
    return remember(*client, SIROCCO_SYSTEM, "libsirocco: an exception that nobody expected; this is a defect of it");
  }
}

// The same for what needs a connection; `call` gets it.
template <class Call>
int connected(sirocco_client* client, Call call) noexcept {
  return body(client, [&]() -> ClientResult<void> {
    if (!client->connection)
      return fail(ClientError::Kind::disconnected, "not connected: sirocco_connect() comes first, and has to succeed");
    return call(*client->connection);
  });
}

// A result's value goes to `use`, its error on.
template <class T, class Use>
ClientResult<void> then(ClientResult<T>&& result, Use use) {
  if (!result) return tl::unexpected<ClientError>(std::move(result.error()));
  return use(*std::move(result));
}

const std::int32_t* ids_or_null(const std::vector<std::int32_t>& ids) {
  return ids.empty() ? nullptr : ids.data();
}

const sirocco_event& show(sirocco_client& client, Client::Event&& given) {
  sirocco_event& event = client.event = {};
  event.size = sizeof(event);
  event.text = event.reason_name = event.stop_string = "";
  if (const auto* accepted = std::get_if<wire::Accepted>(&given)) {
    event.kind = SIROCCO_EVENT_ACCEPTED;
    event.prompt_tokens = accepted->prompt_tokens;
    event.queue_position = accepted->queue_position;
  } else if (auto* batch = std::get_if<wire::TokenBatch>(&given)) {
    client.batch = std::move(*batch);
    event.kind = SIROCCO_EVENT_TEXT;
    event.text = client.batch.text.c_str();
    event.text_bytes = client.batch.text.size();
    event.ids = ids_or_null(client.batch.ids);
    event.id_count = client.batch.ids.size();
  } else {
    const wire::Done& done = client.done = std::get<wire::Done>(std::move(given));
    event.kind = SIROCCO_EVENT_DONE;
    event.prompt_tokens = done.prompt_tokens;
    event.reason = static_cast<int>(done.reason);
    event.reason_name = wire::done_reason_name(done.reason).data();
    event.stop_string = done.stop_string.c_str();
    event.generated_tokens = done.generated_tokens;
    event.cached_tokens = done.cached_tokens;
    event.dropped_turns = done.dropped_turns;
    event.queued_us = done.queued_us;
    event.prefill_us = done.prefill_us;
    event.decode_us = done.decode_us;
    event.lossy_experts = done.lossy_experts;
  }
  return event;
}

void show(sirocco_client& client, wire::SessionReport&& report) {
  client.session_states = std::move(report.sessions);
  client.sessions.clear();
  client.session_list.clear();
  for (const wire::SessionState& state : client.session_states)
    client.sessions.push_back({.size = sizeof(sirocco_session),
                               .name = state.name.c_str(),
                               .uid = state.uid,
                               .turns = state.turns,
                               .tokens = state.tokens,
                               .overflow = static_cast<int>(state.overflow),
                               .busy = state.busy ? 1 : 0,
                               .idle_ms = state.idle_ms,
                               .saved_bytes = state.saved_bytes});
  for (const sirocco_session& session : client.sessions) client.session_list.push_back(&session);
}

const sirocco_model* show(sirocco_client& client, const std::optional<wire::ModelCard>& card) {
  if (!card) return nullptr;
  client.model = {.size = sizeof(sirocco_model),
                  .name = card->name.c_str(),
                  .architecture = card->architecture.c_str(),
                  .chat_format = card->chat_format.c_str(),
                  .tokenizer = card->tokenizer.c_str(),
                  .quantisation = card->quantisation.c_str(),
                  .parameters = card->parameters,
                  .file_bytes = card->file_bytes,
                  .context = card->context,
                  .experts = card->experts,
                  .experts_used = card->experts_used};
  return &client.model;
}

const sirocco_status& show(sirocco_client& client, wire::StatusReport&& given) {
  const wire::StatusReport& report = client.report = std::move(given);
  client.text = sirocco::status_json(report).dump();
  client.reasons.clear();
  for (const std::string& reason : report.reasons) client.reasons.push_back(reason.c_str());
  client.status = {.size = sizeof(sirocco_status),
                   .state = static_cast<int>(report.state),
                   .state_name = wire::state_name(report.state).data(),
                   .daemon_version = report.daemon_version.c_str(),
                   .reasons = client.reasons.data(),
                   .reason_count = client.reasons.size(),
                   .model = show(client, report.model),
                   .requests_running = report.requests_running,
                   .requests_queued = report.requests_queued,
                   .uptime_ms = report.uptime_ms,
                   .json = client.text.c_str()};
  return client.status;
}

// One request about a session.
int ask(sirocco_client* client, const char* name, wire::Session request, const sirocco_session** session) {
  if (session != nullptr) *session = nullptr;
  return connected(client, [&](Client& connection) -> ClientResult<void> {
    if (name == nullptr) return fail(ClientError::Kind::invalid, "a session's name is NULL");
    request.name = name;
    return then(connection.session(request), [&](wire::SessionReport&& report) -> ClientResult<void> {
      show(*client, std::move(report));
      if (session != nullptr && !client->sessions.empty()) *session = client->session_list.front();
      return {};
    });
  });
}

}  // namespace

int sirocco_api_version() {
  return SIROCCO_API_VERSION;
}

const char* sirocco_version() {
  return SIROCCO_VERSION;
}

sirocco_client* sirocco_new() {
  return new (std::nothrow) sirocco_client;
}

void sirocco_free(sirocco_client* client) {
  delete client;
}

int sirocco_connect(sirocco_client* client, const sirocco_connect_options* options) {
  return body(client, [&]() -> ClientResult<void> {
    client->connection.reset();
    return then(sirocco::connect_request(options), [&](sirocco::ConnectRequest&& request) {
      return then(Client::connect(request.socket, std::move(request.options)),
                  [&](Client&& connection) -> ClientResult<void> {
                    client->connection.emplace(std::move(connection));
                    return {};
                  });
    });
  });
}

int sirocco_error_code(const sirocco_client* client) {
  return client == nullptr ? static_cast<int>(SIROCCO_INVALID) : client->error.code;
}

const char* sirocco_error_message(const sirocco_client* client) {
  return client == nullptr ? "no client: sirocco_new() was not called, or had no memory" : client->error.message;
}

uint32_t sirocco_error_retry_after_ms(const sirocco_client* client) {
  return client == nullptr ? 0 : client->error.retry_after_ms;
}

const char* sirocco_code_name(int code) {
  constexpr const char* kOwn[] = {"OK",           "NO_DAEMON", "NO_PERMISSION", "NO_ANSWER", "DISCONNECTED",
                                  "BAD_PROTOCOL", "INVALID",   "GAVE_UP",       "SYSTEM",    "NO_MEMORY"};
  if (code >= 0 && code < static_cast<int>(std::size(kOwn))) return kOwn[code];
  if (code < 0 || code > std::numeric_limits<std::uint16_t>::max()) return "";
  const std::string_view name = wire::error_name(static_cast<wire::ErrorCode>(code));
  return name.empty() ? "" : name.data();
}

int sirocco_generate(sirocco_client* client, const sirocco_request* request) {
  return connected(client, [&](Client& connection) {
    return then(sirocco::generate_request(request),
                [&](wire::Generate&& generate) { return connection.start(generate); });
  });
}

int sirocco_next(sirocco_client* client, int timeout_ms, const sirocco_event** event) {
  if (event != nullptr) *event = nullptr;
  return connected(client, [&](Client& connection) -> ClientResult<void> {
    if (event == nullptr) return fail(ClientError::Kind::invalid, "sirocco_next: event is NULL");
    return then(connection.next(std::chrono::milliseconds(timeout_ms)),
                [&](std::optional<Client::Event>&& next) -> ClientResult<void> {
                  if (next) *event = &show(*client, *std::move(next));
                  return {};
                });
  });
}

int sirocco_fd(const sirocco_client* client) {
  return client == nullptr || !client->connection ? -1 : client->connection->poll_descriptor();
}

void sirocco_cancel(sirocco_client* client) {
  if (client != nullptr && client->connection) client->connection->cancel();
}

int sirocco_tokenize(sirocco_client* client, const char* text, size_t bytes, int flags, const int32_t** ids,
                     size_t* count) {
  return connected(client, [&](Client& connection) -> ClientResult<void> {
    if (ids == nullptr || count == nullptr)
      return fail(ClientError::Kind::invalid, "sirocco_tokenize: ids or count is NULL");
    return then(sirocco::tokenize_request(text, bytes, flags), [&](wire::Tokenize&& request) {
      return then(connection.tokenize(request), [&](std::vector<std::int32_t>&& found) -> ClientResult<void> {
        client->ids = std::move(found);
        *ids = ids_or_null(client->ids);
        *count = client->ids.size();
        return {};
      });
    });
  });
}

int sirocco_detokenize(sirocco_client* client, const int32_t* ids, size_t count, const char** text, size_t* bytes) {
  return connected(client, [&](Client& connection) -> ClientResult<void> {
    if (text == nullptr) return fail(ClientError::Kind::invalid, "sirocco_detokenize: text is NULL");
    return then(sirocco::detokenize_request(ids, count), [&](wire::Detokenize&& request) {
      return then(connection.detokenize(request), [&](std::string&& found) -> ClientResult<void> {
        client->text = std::move(found);
        *text = client->text.c_str();
        if (bytes != nullptr) *bytes = client->text.size();
        return {};
      });
    });
  });
}

int sirocco_session_open(sirocco_client* client, const char* name, int overflow, const sirocco_session** session) {
  // Values that do not exist are the protocol's to refuse; those that do not fit its byte become one of them.
  const int value = overflow == 0 ? static_cast<int>(SIROCCO_OVERFLOW_FAIL) : std::clamp(overflow, 0, 255);
  return ask(client, name, {.action = wire::SessionAction::open, .overflow = static_cast<wire::SessionOverflow>(value)},
             session);
}

int sirocco_session_fork(sirocco_client* client, const char* name, const char* to, const sirocco_session** session) {
  return ask(client, name, {.action = wire::SessionAction::fork, .to = to == nullptr ? "" : to}, session);
}

int sirocco_session_rewind(sirocco_client* client, const char* name, uint32_t turns, const sirocco_session** session) {
  return ask(client, name, {.action = wire::SessionAction::rewind, .turns = turns}, session);
}

int sirocco_session_close(sirocco_client* client, const char* name, int save) {
  return ask(client, name, {.action = wire::SessionAction::close, .save = save != 0}, nullptr);
}

int sirocco_session_list(sirocco_client* client, const sirocco_session* const** sessions, size_t* count) {
  return connected(client, [&](Client& connection) -> ClientResult<void> {
    if (sessions == nullptr || count == nullptr)
      return fail(ClientError::Kind::invalid, "sirocco_session_list: sessions or count is NULL");
    return then(connection.session({.action = wire::SessionAction::list}),
                [&](wire::SessionReport&& report) -> ClientResult<void> {
                  show(*client, std::move(report));
                  *sessions = client->session_list.data();
                  *count = client->session_list.size();
                  return {};
                });
  });
}

int sirocco_get_status(sirocco_client* client, const sirocco_status** status) {
  return connected(client, [&](Client& connection) -> ClientResult<void> {
    if (status == nullptr) return fail(ClientError::Kind::invalid, "sirocco_get_status: status is NULL");
    return then(connection.status(), [&](wire::StatusReport&& report) -> ClientResult<void> {
      *status = &show(*client, std::move(report));
      return {};
    });
  });
}
