// Where daemon and clients find each other unless told otherwise.
#pragma once

#include <string>
#include <string_view>

namespace sirocco::wire {

inline constexpr std::string_view kDefaultSocket = "/run/sirocco/sirocco.sock";

// The socket for administration that goes with a socket: sirocco.sock -> sirocco-admin.sock, beside it.
inline std::string admin_socket(std::string_view socket) {
  constexpr std::string_view kSuffix = ".sock";
  const bool suffixed = socket.ends_with(kSuffix);
  if (suffixed) socket.remove_suffix(kSuffix.size());
  return std::string(socket) + "-admin" + std::string(suffixed ? kSuffix : "");
}

}  // namespace sirocco::wire
