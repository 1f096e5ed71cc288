// The flags of a request, the same for `sirocco generate` and `sirocco chat`.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "ipc/client/client.h"

namespace sirocco {

struct RequestOptions {
  std::uint32_t max_tokens = 512;  // 0: as many as the context holds
  wire::Sampling sampling;
  wire::Priority priority = wire::Priority::interactive;
  std::uint32_t deadline_ms = 0;
  bool partial = false;
  std::uint32_t max_queue_ms = 0;
  std::string latest_wins_key;
  std::string session;
  std::vector<std::string> stop;
};

// The present values are the defaults that --help shows. `options` outlives the command.
void add_request_options(CLI::App& command, RequestOptions& options);

wire::Generate make_request(const RequestOptions& options, wire::Prompt prompt);

// --socket, $SIROCCO_SOCKET or /run/sirocco/sirocco.sock.
void add_socket_option(CLI::App& command, std::string& socket);

}  // namespace sirocco
