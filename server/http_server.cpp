#include "server/http_server.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <iterator>
#include <utility>

#include "kernels/error.h"
#include "server/http_connection.h"

namespace hypertower {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

tcp::endpoint resolve(const std::string& host, uint16_t port, asio::io_context& context) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (!error) return {address, port};
  const auto found =
      tcp::resolver(context).resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    throw Error(ErrorKind::kIo, "cannot listen on '" + host +
                                    "': expected an address or a name of "
                                    "this machine, such as 127.0.0.1 or 0.0.0.0");
  }
  return found.begin()->endpoint();
}

// How long a client may take to finish a handshake that the kernel has already answered.
constexpr std::chrono::milliseconds kHandshakeTime{100};

// Lets no new handshake begin on a listening socket; those under way go on. Closing a port resets
// what is in its queue, also a client that has connected and sent a request a moment ago, so first
// the queue must stop growing. The filter sees a segment from its TCP header on: byte 13 holds the
// flags, and a client's first segment is the one with SYN (RFC 9293, section 3.1). Where the kernel
// takes no filter, the queue is emptied as well as it can be.
void hold_back_handshakes(int listener) {
  constexpr uint32_t kFlagsAt = 13, kSyn = 0x02, kDrop = 0, kPass = UINT32_MAX;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kFlagsAt),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kDrop),
      BPF_STMT(BPF_RET | BPF_K, kPass),
  };
  const sock_fprog program{std::size(code), code};
  ::setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

}  // namespace

HttpServer::HttpServer(const std::string& host, uint16_t port, HttpLimits limits, int threads,
                       HttpHandler handler)
    : limits_(limits),
      handler_(std::move(handler)),
      host_(host),
      loops_([threads] {
        std::vector<std::unique_ptr<Loop>> loops;
        for (int i = 0; i < threads; ++i) loops.push_back(std::make_unique<Loop>());
        return loops;
      }()),
      acceptor_(loops_.front()->context),
      accept_again_(loops_.front()->context) {
  const tcp::endpoint endpoint = resolve(host, port, loops_.front()->context);
  const std::string place = host + ":" + std::to_string(port);
  try {
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen();
    acceptor_.non_blocking(true);
  } catch (const boost::system::system_error& error) {
    if (error.code() == asio::error::address_in_use) {
      throw Error(ErrorKind::kIo, "cannot listen on " + place +
                                      ": the port is taken by another process; stop it or choose "
                                      "another port (0 takes a free one)");
    }
    throw Error(ErrorKind::kIo, "cannot listen on " + place + ": " + error.code().message());
  }
  port_ = acceptor_.local_endpoint().port();
}

HttpServer::~HttpServer() {
  stop();
  // Connections hold sockets of the contexts: they go first.
  for (const auto& loop : loops_) loop->connections.clear();
}

void HttpServer::stop() {
  for (const auto& loop : loops_) loop->context.stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void HttpServer::start() {
  accept();
  for (const auto& loop : loops_) {
    sweep(*loop);
    threads_.emplace_back([&context = loop->context] { context.run(); });
  }
}

std::string HttpServer::url() const {
  const bool ipv6 = host_.find(':') != std::string::npos;
  return "http://" + (ipv6 ? "[" + host_ + "]" : host_) + ":" + std::to_string(port_);
}

// Loop 0's thread, as all that follows up to `sweep`.
void HttpServer::accept() {
  Loop& loop = next_loop();
  acceptor_.async_accept(loop.context,
                         [this, &loop](boost::system::error_code error, tcp::socket socket) {
                           if (!error) take_in(loop, std::move(socket));
                           if (!acceptor_.is_open()) return;
                           if (!error) return accept();
                           // Out of file descriptors: others will be free soon.
                           accept_again_.expires_after(std::chrono::milliseconds(100));
                           accept_again_.async_wait([this](boost::system::error_code aborted) {
                             if (!aborted && acceptor_.is_open()) accept();
                           });
                         });
}

HttpServer::Loop& HttpServer::next_loop() {
  Loop& loop = *loops_[next_loop_];
  next_loop_ = (next_loop_ + 1) % loops_.size();
  return loop;
}

void HttpServer::take_in(Loop& loop, tcp::socket socket) {
  ++accepted_;
  const bool full = ++connections_ > limits_.max_connections;
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  auto connection = std::make_shared<HttpConnection>(*this, loop, std::move(socket));
  asio::dispatch(loop.context, [this, &loop, connection = std::move(connection), full] {
    loop.connections.emplace(connection.get(), connection);
    if (!full) return connection->start();
    ++refused_;
    connection->refuse(error_response(503, "overloaded",
                                      "expected at most " +
                                          std::to_string(limits_.max_connections) +
                                          " open connections, got more; try again later"));
  });
}

void HttpServer::sweep(Loop& loop) {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<HttpConnection>> all;  // closing changes the map
  all.reserve(loop.connections.size());
  for (const auto& [raw, connection] : loop.connections) all.push_back(connection);
  for (const auto& connection : all) connection->check_time(now, loop.idle_until);
  const auto pause = std::clamp(limits_.read_timeout / 4, std::chrono::milliseconds(10),
                                std::chrono::milliseconds(250));
  loop.sweep_timer.expires_after(pause);
  loop.sweep_timer.async_wait([this, &loop](boost::system::error_code aborted) {
    if (!aborted) sweep(loop);
  });
}

void HttpServer::stop_accepting(std::chrono::steady_clock::time_point idle_until) {
  ending_ = true;
  hold_back_handshakes(acceptor_.native_handle());
  std::this_thread::sleep_for(kHandshakeTime);
  std::promise<void> done;
  asio::post(loops_.front()->context, [&] {
    // What the kernel has already connected belongs to us.
    boost::system::error_code error;
    while (!error || error == asio::error::connection_aborted) {
      Loop& loop = next_loop();
      tcp::socket socket(loop.context);
      acceptor_.accept(socket, error);
      if (!error) take_in(loop, std::move(socket));
    }
    acceptor_.close(error);
    accept_again_.cancel();
    done.set_value();
  });
  done.get_future().wait();
  for (const auto& loop : loops_) {
    asio::post(loop->context, [&loop = *loop, idle_until] { loop.idle_until = idle_until; });
  }
}

}  // namespace hypertower
