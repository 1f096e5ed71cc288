// Lines of the log that an administrator looks for. In the journal they carry a MESSAGE_ID, which
// systemd/sirocco.catalog explains (tests/tidy/catalog_test.py compares the two), and fields to search by; elsewhere
// they are lines as all others.
#pragma once

#include <spdlog/common.h>

#include <string>
#include <string_view>
#include <vector>

namespace sirocco::daemon {

struct LogEvent {
  std::string_view message_id;
};

inline constexpr LogEvent kStarted{"3908febad9294987b0835c864a9fc390"};
inline constexpr LogEvent kModelLoaded{"001f40f4db5a4488b6244b91173d0b93"};
inline constexpr LogEvent kLoadFailed{"5c52f75a41a4450da3c767a19c0b4ae3"};
inline constexpr LogEvent kDegraded{"ddd96562c535488f8b7b352d1b297a84"};
inline constexpr LogEvent kRecovered{"c0f45496193246e5971cf0c64d3b50db"};
inline constexpr LogEvent kDraining{"12b29be049ef48dbbf2c6b99ce9cfbc3"};
inline constexpr LogEvent kStopping{"59a7342e1dc84814a5c7ba5b584db41f"};
inline constexpr LogEvent kEngineFailed{"af9448b4605142ce8b88065c66829a72"};
inline constexpr LogEvent kDeviceFailed{"bdd46fcc7e894a4c85f0d76cdd8c5094"};
inline constexpr LogEvent kDeviceRecovered{"74a1187ea262452ebe4a3e64e2cd5d30"};
inline constexpr LogEvent kReloaded{"9186686e502c46a491d8e6438510ef81"};
inline constexpr LogEvent kReloadFailed{"29fc8dca69cd410ab9af4717d56b69ab"};
inline constexpr LogEvent kRequestEnded{"618413fc13e8412a86001797a5eb6206"};
inline constexpr LogEvent kSlowStep{"5584984fca414b40b63d95efd47d8013"};
inline constexpr LogEvent kWatchdogMissed{"c8f0f1baaaaf4a939c471918ab352172"};

// A field of the journal: "SIROCCO_STATE", "READY".
struct LogField {
  std::string_view name;
  std::string value;
};

// From any thread.
void log_event(spdlog::level::level_enum level, const LogEvent& event, std::string_view message,
               std::vector<LogField> fields = {});

// The event whose line this thread is writing, for the sink that is asked to; null: a line without.
struct LoggedEvent {
  LogEvent event;
  std::vector<LogField> fields;
};
const LoggedEvent* event_being_logged();

}  // namespace sirocco::daemon
