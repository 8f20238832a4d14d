// HTTP/1.1 on one port: connections, limits, timeouts, drain. What requests mean is the handler's.
//
// One io_context per thread; a connection stays on the thread that it was given to, so nothing of
// it needs a lock. Each thread looks through its connections a few times a second and closes those
// whose time is up: no timer per request.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "server/http_message.h"

namespace hypertower {

struct HttpLimits {
  size_t max_header_bytes = 16 * 1024;
  size_t max_body_bytes = 1024 * 1024;
  int64_t max_connections = 10'000;
  std::chrono::milliseconds read_timeout{5'000};    // from a request's first byte to its last
  std::chrono::milliseconds write_timeout{30'000};  // for a client to take its answer
  std::chrono::milliseconds idle_timeout{60'000};   // between requests
};

class HttpConnection;

class HttpServer {
 public:
  // Binds and listens; connections wait until `start`. Port 0 takes a free one. Errors (kIo): the
  // port is taken, the address is not of this machine.
  HttpServer(const std::string& host, uint16_t port, HttpLimits limits, int threads,
             HttpHandler handler);
  // Whoever may still answer a request must be gone before.
  ~HttpServer();

  void start();
  uint16_t port() const { return port_; }
  std::string url() const;  // "http://127.0.0.1:8080"

  // From now on every answer ends its connection, so that clients move elsewhere.
  void announce_end() { ending_ = true; }
  // Takes what has connected by now, then refuses: a client that could connect gets an answer.
  // Idle connections have until `idle_until` to send a last request. Blocks for about 0.1 s.
  void stop_accepting(std::chrono::steady_clock::time_point idle_until);
  // Ends the threads at once; answers that come later are dropped. To end cleanly, call
  // `stop_accepting` and wait until no connection is left.
  void stop();

  int64_t connections() const { return connections_; }
  int64_t accepted() const { return accepted_; }
  int64_t refused() const { return refused_; }

 private:
  friend class HttpConnection;

  // One thread and its connections. Everything but `context` is touched by that thread alone.
  struct Loop {
    Loop() : context(1), sweep_timer(context) {}
    boost::asio::io_context context;
    boost::asio::steady_timer sweep_timer;
    std::unordered_map<HttpConnection*, std::shared_ptr<HttpConnection>> connections;
    std::chrono::steady_clock::time_point idle_until = std::chrono::steady_clock::time_point::max();
  };

  void accept();
  Loop& next_loop();
  void take_in(Loop& loop, boost::asio::ip::tcp::socket socket);
  void sweep(Loop& loop);

  const HttpLimits limits_;
  const HttpHandler handler_;
  const std::string host_;
  uint16_t port_ = 0;
  std::atomic<bool> ending_{false};
  std::atomic<int64_t> connections_{0};
  std::atomic<int64_t> accepted_{0};
  std::atomic<int64_t> refused_{0};
  std::vector<std::unique_ptr<Loop>> loops_;
  boost::asio::ip::tcp::acceptor acceptor_;  // on loop 0
  boost::asio::steady_timer accept_again_;   // after "too many open files"
  size_t next_loop_ = 0;                     // loop 0's thread
  std::vector<std::thread> threads_;
};

}  // namespace hypertower
