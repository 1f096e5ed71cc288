// Errors are values: every function that can fail returns Result<T>. Exceptions of libraries are caught where they
// enter. A message says what, where and what to do.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace sirocco {

// What kind of failure, for programs. The names (error_name) are stable: they are written to clients and logs.
enum class ErrorCode : std::uint8_t {
  internal,          // a defect of ours
  invalid_argument,  // the caller asked for something impossible
  not_found,         // a file, model or session that is not there
  permission_denied,
  unsupported,       // valid, but not something this build computes
  corrupt,           // data that contradicts itself or its format
  io,                // the operating system failed a read or a write
  device_failed,     // a GPU that computed: nothing it has can be trusted any more
  out_of_memory,     // the budget does not allow it
  context_overflow,  // more tokens than the context holds
  busy,              // a queue or quota is full; try later
  cancelled,
  deadline,
  shutting_down,
};

std::string_view error_name(ErrorCode code);

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same error with "where: " before its message.
  Error at(std::string_view where) const { return {code_, fmt::format("{}: {}", where, message_)}; }

  // When another try makes sense, milliseconds; 0: not said.
  std::uint32_t retry_after_ms() const { return retry_after_ms_; }
  Error worth_retrying_after(std::uint32_t ms) && {
    retry_after_ms_ = ms;
    return std::move(*this);
  }

 private:
  ErrorCode code_;
  std::string message_;
  std::uint32_t retry_after_ms_ = 0;
};

template <class T>
using Result = tl::expected<T, Error>;

// return fail(ErrorCode::io, "{}: {}", path, reason);
template <class... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}
inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

// "No such file or directory" and the like, for errno values.
std::string errno_message(int error_number);
ErrorCode errno_code(int error_number);

}  // namespace sirocco

// SIROCCO_TRY(const auto file, GgufFile::open(path)): declares `file`, or returns the error.
#define SIROCCO_CONCAT_(a, b) a##b
#define SIROCCO_CONCAT(a, b) SIROCCO_CONCAT_(a, b)
#define SIROCCO_TRY(declaration, expression) SIROCCO_TRY_(declaration, expression, SIROCCO_CONCAT(result_, __LINE__))
#define SIROCCO_TRY_(declaration, expression, name)                   \
  auto&& name = (expression);                                         \
  if (!name) return ::tl::unexpected<::sirocco::Error>(name.error()); \
  declaration = *std::move(name)
#define SIROCCO_CHECK(expression)                                      \
  do {                                                                 \
    if (auto&& check_result = (expression); !check_result)             \
      return ::tl::unexpected<::sirocco::Error>(check_result.error()); \
  } while (false)
