// The command line of hypertower-server.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "server/http_server.h"

namespace hypertower {

struct Endpoint {
  std::string host = "127.0.0.1";
  uint16_t port = 0;
};

// "8080" (this machine only), "0.0.0.0:8080" (everybody), "[::1]:8080". Throws Error(kArgument).
Endpoint parse_endpoint(const std::string& text);

struct ServerOptions {
  std::string model;  // directory
  Endpoint http{"127.0.0.1", 8080};
  std::optional<Endpoint> admin;  // none: no model changes over HTTP
  std::string state;              // directory; empty = default_state_directory(model)
  int threads = 0;                // 0 = one per core
  HttpLimits limits;
  double drain_seconds = 10;
  std::string log_level = "info";
  std::string port_file;  // empty = none
};

// "runs/movielens/" -> "runs/movielens-state": beside the model, because a new model directory
// replaces the old one but people stay.
std::string default_state_directory(const std::string& model);

// Parses, or prints help or one sentence about a mistake and sets `exit_code` (0 help, 2 wrong
// usage): nullopt then.
std::optional<ServerOptions> parse_options(int argc, const char* const* argv, int& exit_code);

}  // namespace hypertower
