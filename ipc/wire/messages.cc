#include "ipc/wire/messages.h"

#include "sirocco_generated.h"

namespace sirocco::wire {
namespace {

// The schema's names are the protocol's names, so they are not written a second time.
template <class Schema, class Native>
std::string_view schema_name(Native value, const char* (*name)(Schema)) {
  return value == Native{} ? std::string_view{} : std::string_view{name(static_cast<Schema>(value))};
}

template <class Schema, class Native>
constexpr bool same(Native native, Schema schema) {
  return static_cast<std::uint64_t>(native) == static_cast<std::uint64_t>(schema);
}

static_assert(same(MessageType::session_report, fbs::MessageType::MAX));
static_assert(std::variant_size_v<Message> == static_cast<std::size_t>(fbs::MessageType::MAX));
static_assert(same(State::failed, fbs::State::MAX) && same(Role::tool, fbs::Role::MAX));
static_assert(same(Priority::interactive, fbs::Priority::INTERACTIVE) && same(Priority::realtime, fbs::Priority::MAX));
static_assert(same(DoneReason::superseded, fbs::DoneReason::MAX));
static_assert(same(RequestState::paused, fbs::RequestState::MAX));
static_assert(same(SessionAction::close, fbs::SessionAction::MAX));
static_assert(same(SessionOverflow::drop_oldest, fbs::SessionOverflow::MAX));
static_assert(same(ErrorCode::duplicate_request, fbs::ErrorCode::DUPLICATE_REQUEST));
static_assert(same(ErrorCode::deadline, fbs::ErrorCode::DEADLINE));
static_assert(same(ErrorCode::out_of_memory, fbs::ErrorCode::OUT_OF_MEMORY));
static_assert(same(ErrorCode::no_model, fbs::ErrorCode::NO_MODEL) &&
              same(ErrorCode::device_failed, fbs::ErrorCode::MAX));

}  // namespace

std::string_view message_name(MessageType type) {
  switch (type) {
    case MessageType::hello:
      return "Hello";
    case MessageType::welcome:
      return "Welcome";
    case MessageType::generate:
      return "Generate";
    case MessageType::accepted:
      return "Accepted";
    case MessageType::token_batch:
      return "TokenBatch";
    case MessageType::done:
      return "Done";
    case MessageType::error:
      return "Error";
    case MessageType::cancel:
      return "Cancel";
    case MessageType::tokenize:
      return "Tokenize";
    case MessageType::tokenized:
      return "Tokenized";
    case MessageType::detokenize:
      return "Detokenize";
    case MessageType::detokenized:
      return "Detokenized";
    case MessageType::status:
      return "Status";
    case MessageType::status_report:
      return "StatusReport";
    case MessageType::set_budget:
      return "SetBudget";
    case MessageType::budget_report:
      return "BudgetReport";
    case MessageType::drain:
      return "Drain";
    case MessageType::drain_report:
      return "DrainReport";
    case MessageType::reload:
      return "Reload";
    case MessageType::reload_report:
      return "ReloadReport";
    case MessageType::evict:
      return "Evict";
    case MessageType::evict_report:
      return "EvictReport";
    case MessageType::session:
      return "Session";
    case MessageType::session_report:
      return "SessionReport";
  }
  return {};
}

std::string_view error_name(ErrorCode code) {
  return schema_name(code, fbs::EnumNameErrorCode);
}
std::string_view state_name(State state) {
  return schema_name(state, fbs::EnumNameState);
}
std::string_view done_reason_name(DoneReason reason) {
  return schema_name(reason, fbs::EnumNameDoneReason);
}
std::string_view request_state_name(RequestState state) {
  return schema_name(state, fbs::EnumNameRequestState);
}
std::string_view priority_name(Priority priority) {
  return schema_name(priority, fbs::EnumNamePriority);
}
std::string_view overflow_name(SessionOverflow overflow) {
  return schema_name(overflow, fbs::EnumNameSessionOverflow);
}

}  // namespace sirocco::wire
