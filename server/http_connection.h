// One client. Lives on the thread of its loop; only `respond` may be called elsewhere.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "server/http_server.h"

namespace hypertower {

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  using Clock = std::chrono::steady_clock;

  HttpConnection(HttpServer& server, HttpServer::Loop& loop, boost::asio::ip::tcp::socket socket)
      : server_(server), loop_(loop), socket_(std::move(socket)) {}

  void start();
  // Answers one error and closes: the server is full.
  void refuse(const HttpResponse& response);
  // Closes, or ends a request that takes too long, when the time is up.
  void check_time(Clock::time_point now, Clock::time_point idle_until);

 private:
  enum class State { kIdle, kReading, kHandling, kWriting, kLingering };

  void next_request();
  void read_some();
  void parse();
  bool header_is_good();
  void handle();
  void respond(const HttpResponse& response);
  void fail(int status, std::string_view code, const std::string& message);
  void linger();
  void close();

  HttpServer& server_;
  HttpServer::Loop& loop_;
  boost::asio::ip::tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  State state_ = State::kIdle;
  Clock::time_point deadline_ = Clock::time_point::max();
  bool read_pending_ = false;
  bool header_seen_ = false;
  bool keep_alive_ = false;
  bool head_only_ = false;   // HEAD: the answer's head without its body
  bool old_client_ = false;  // HTTP/1.0: must be told that the connection stays
  std::string out_;
};

}  // namespace hypertower
