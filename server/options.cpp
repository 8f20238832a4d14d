#include "server/options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <iostream>

#include "kernels/error.h"

namespace hypertower {
namespace {

constexpr char kDescription[] =
    "Serves a model directory written by hypertower-train: recommendations and live events as "
    "JSON\n"
    "over HTTP. Prints 'listening on URL' to stderr once requests are answered.";

constexpr char kFooter[] =
    "Ask it:\n"
    "  curl localhost:8080/v1/recommend -d '{\"user\": \"196\", \"k\": 5}'\n"
    "  curl localhost:8080/v1/events -d '{\"events\": [{\"user\": \"196\", \"item\": \"50\"}]}'\n"
    "  curl localhost:8080/v1/model\n"
    "Change the model without a pause:\n"
    "  kill -HUP PID                                     load the same directory again\n"
    "  curl ADMIN/v1/model -d '{\"path\": \"runs/new\"}'     load another; keeps the old for "
    "rollback\n"
    "  curl ADMIN/v1/model -d '{\"rollback\": true}'       go back\n"
    "SIGTERM or Ctrl-C ends it: /readyz says no, requests under way are finished, exit code 0.";

CLI::Validator endpoint_validator() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        try {
          parse_endpoint(text);
        } catch (const Error& error) {
          return error.what();
        }
        return {};
      },
      "");
}

}  // namespace

Endpoint parse_endpoint(const std::string& text) {
  Endpoint endpoint;
  std::string_view port = text;
  if (const size_t colon = text.rfind(':'); colon != std::string::npos) {
    endpoint.host = text.substr(0, colon);
    port.remove_prefix(colon + 1);
    if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']') {
      endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    }
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (error != std::errc() || end != port.data() + port.size() || endpoint.host.empty()) {
    throw Error(ErrorKind::kArgument,
                "expected PORT or HOST:PORT with a port from 0 to 65535, got '" + text + "'");
  }
  return endpoint;
}

std::string default_state_directory(const std::string& model) {
  std::filesystem::path path = std::filesystem::path(model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.string() + "-state";
}

std::optional<ServerOptions> parse_options(int argc, const char* const* argv, int& exit_code) {
  ServerOptions options;
  std::string http = "8080";
  std::string admin;
  double read_seconds = 5;
  CLI::App app(kDescription, "hypertower-server");
  app.footer(kFooter);
  app.set_version_flag("--version", "hypertower-server " HYPERTOWER_VERSION);
  app.add_option("model", options.model, "Model directory")->required()->type_name("MODEL");
  app.add_option(
         "--http", http,
         "Where to answer. A port alone is open to this machine only; 0.0.0.0:8080 opens it "
         "to everybody; port 0 takes a free one")
      ->check(endpoint_validator())
      ->type_name("[HOST:]PORT")
      ->capture_default_str();
  app.add_option("--admin", admin,
                 "Where POST /v1/model is answered, with health and metrics on a thread of their "
                 "own. Without it the model changes by SIGHUP only")
      ->check(endpoint_validator());
  app.add_option("--state", options.state,
                 "Directory of what is remembered of people; created when missing. Default: MODEL "
                 "with '-state' added")
      ->type_name("DIR");
  app.add_option("--threads", options.threads, "Threads in all; 0 = one per core")
      ->check(CLI::Range(0, 1024).description(""))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--max-body", options.limits.max_body_bytes, "Largest request body in bytes")
      ->check(CLI::Range(size_t{1}, size_t{1} << 30).description(""))
      ->type_name("BYTES")
      ->capture_default_str();
  app.add_option("--read-seconds", read_seconds, "How long one request may take to arrive")
      ->check(CLI::Range(0.01, 3600.0).description(""))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option("--drain-seconds", options.drain_seconds,
                 "Longest time from SIGTERM to exit: a fifth of it goes on serving while load "
                 "balancers take note, the rest finishes requests")
      ->check(CLI::Range(0.0, 3600.0).description(""))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option(
         "--port-file", options.port_file,
         "File to write the port to once requests are answered (a second line: the admin port)")
      ->type_name("FILE");
  app.add_option("--log-level", options.log_level, "What goes to stderr")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}).description(""))
      ->type_name("debug|info|warn|error|off")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      app.exit(error);
      exit_code = 0;
    } else {
      std::cerr << "hypertower-server: " << error.what() << "; try --help\n";
      exit_code = 2;
    }
    return std::nullopt;
  }
  options.http = parse_endpoint(http);
  if (!admin.empty()) options.admin = parse_endpoint(admin);
  if (options.state.empty()) options.state = default_state_directory(options.model);
  options.limits.read_timeout = std::chrono::milliseconds(static_cast<int64_t>(read_seconds * 1e3));
  return options;
}

}  // namespace hypertower
