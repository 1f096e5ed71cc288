#include "engine/base/result.h"

#include <cerrno>
#include <system_error>

namespace sirocco {

std::string_view error_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::internal:
      return "INTERNAL";
    case ErrorCode::invalid_argument:
      return "INVALID_ARGUMENT";
    case ErrorCode::not_found:
      return "NOT_FOUND";
    case ErrorCode::permission_denied:
      return "PERMISSION_DENIED";
    case ErrorCode::unsupported:
      return "UNSUPPORTED";
    case ErrorCode::corrupt:
      return "CORRUPT";
    case ErrorCode::io:
      return "IO";
    case ErrorCode::device_failed:
      return "DEVICE_FAILED";
    case ErrorCode::out_of_memory:
      return "OUT_OF_MEMORY";
    case ErrorCode::context_overflow:
      return "CONTEXT_OVERFLOW";
    case ErrorCode::busy:
      return "BUSY";
    case ErrorCode::cancelled:
      return "CANCELLED";
    case ErrorCode::deadline:
      return "DEADLINE";
    case ErrorCode::shutting_down:
      return "SHUTTING_DOWN";
  }
  return "INTERNAL";
}

std::string errno_message(int error_number) {
  return std::generic_category().message(error_number);
}

ErrorCode errno_code(int error_number) {
  switch (error_number) {
    case ENOENT:
      return ErrorCode::not_found;
    case EACCES:
    case EPERM:
      return ErrorCode::permission_denied;
    case ENOMEM:
      return ErrorCode::out_of_memory;
    default:
      return ErrorCode::io;
  }
}

}  // namespace sirocco
