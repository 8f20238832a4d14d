#include "server/http_connection.h"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <utility>

namespace hypertower {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr size_t kReadBytes = 16 * 1024;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
// How long a client that was told to go may keep sending before it is cut off. Closing at once
// would make the kernel throw away the answer along with what the client still sends.
constexpr std::chrono::milliseconds kLingerTime{1'000};

bool is_continue(boost::beast::string_view expect) {
  return boost::beast::iequals(expect, "100-continue");
}

}  // namespace

void HttpConnection::start() {
  next_request();
}

void HttpConnection::refuse(const HttpResponse& response) {
  respond(response);
}

void HttpConnection::next_request() {
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(server_.limits_.max_header_bytes));
  parser_->body_limit(server_.limits_.max_body_bytes);
  parser_->eager(true);
  header_seen_ = false;
  state_ = State::kIdle;
  deadline_ = Clock::now() + server_.limits_.idle_timeout;
  if (buffer_.size() > 0) {
    parse();  // pipelined
  } else {
    read_some();
  }
}

void HttpConnection::read_some() {
  read_pending_ = true;
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](boost::system::error_code error, size_t n) {
                            self->read_pending_ = false;
                            // The time was up and the client is being told so; `linger` reads on.
                            if (self->state_ == State::kWriting) return;
                            if (error) return self->close();
                            if (self->state_ == State::kLingering) return self->read_some();
                            self->buffer_.commit(n);
                            self->parse();
                          });
}

void HttpConnection::parse() {
  if (state_ == State::kIdle) {
    state_ = State::kReading;
    deadline_ = Clock::now() + server_.limits_.read_timeout;
  }
  boost::system::error_code error;
  while (!error && !parser_->is_done() && buffer_.size() > 0) {
    buffer_.consume(parser_->put(buffer_.data(), error));
    if (parser_->is_header_done() && !header_seen_ && !header_is_good()) return;
  }
  if (error == http::error::need_more) error = {};
  if (error == http::error::body_limit) {
    return fail(413, "too_large",
                "the body: expected at most " + std::to_string(server_.limits_.max_body_bytes) +
                    " bytes, got more; send it in several calls");
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return fail(431, "header_too_large",
                "the header: expected at most " + std::to_string(server_.limits_.max_header_bytes) +
                    " bytes, got more");
  }
  if (error)
    return fail(400, "not_http", "expected HTTP/1.1, got a broken message: " + error.message());
  if (parser_->is_done()) return handle();
  read_some();
}

// False when it has answered already.
bool HttpConnection::header_is_good() {
  header_seen_ = true;
  const auto& message = parser_->get();
  keep_alive_ = message.keep_alive();
  old_client_ = message.version() < 11;
  head_only_ = message.method() == http::verb::head;
  const auto encoding = message[http::field::content_encoding];
  if (!encoding.empty() && !boost::beast::iequals(encoding, "identity")) {
    fail(415, "encoding",
         "Content-Encoding: expected identity, got '" + std::string(encoding) + "'");
    return false;
  }
  if (parser_->is_done() || !is_continue(message[http::field::expect])) return true;
  // The client waits for our word before it sends the body. Nothing else is being written now, and
  // a few bytes fit any send buffer.
  boost::system::error_code ignored;
  socket_.send(asio::buffer(kContinue), 0, ignored);
  return true;
}

void HttpConnection::handle() {
  state_ = State::kHandling;
  deadline_ = Clock::time_point::max();
  auto message = parser_->release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  const auto target = message.target();
  request.target = std::string(target.substr(0, target.find('?')));
  request.body = std::move(message.body());
  server_.handler_(std::move(request), [self = shared_from_this()](HttpResponse response) {
    asio::dispatch(self->socket_.get_executor(),
                   [self, response = std::move(response)] { self->respond(response); });
  });
}

void HttpConnection::respond(const HttpResponse& response) {
  if (response.close || server_.ending_) keep_alive_ = false;
  state_ = State::kWriting;
  deadline_ = Clock::now() + server_.limits_.write_timeout;
  out_.clear();
  out_ += "HTTP/1.1 ";
  out_ += std::to_string(response.status);
  out_ += ' ';
  out_ += reason_phrase(response.status);
  out_ += "\r\nContent-Type: ";
  out_ += response.content_type;
  out_ += "\r\nContent-Length: ";
  out_ += std::to_string(response.body.size());
  out_ += "\r\n";
  out_ += response.headers;
  if (!keep_alive_) {
    out_ += "Connection: close\r\n";
  } else if (old_client_) {
    out_ += "Connection: keep-alive\r\n";
  }
  out_ += "\r\n";
  if (!head_only_) out_ += response.body;
  asio::async_write(socket_, asio::buffer(out_),
                    [self = shared_from_this()](boost::system::error_code error, size_t) {
                      if (error) return self->close();
                      if (self->keep_alive_) return self->next_request();
                      self->linger();
                    });
}

void HttpConnection::fail(int status, std::string_view code, const std::string& message) {
  HttpResponse response = error_response(status, code, message);
  response.close = true;
  respond(response);
}

void HttpConnection::linger() {
  boost::system::error_code error;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  if (error) return close();
  state_ = State::kLingering;
  deadline_ = Clock::now() + kLingerTime;
  if (!read_pending_) read_some();
}

void HttpConnection::check_time(Clock::time_point now, Clock::time_point idle_until) {
  if (state_ == State::kIdle) {
    if (now < std::min(deadline_, idle_until)) return;
    boost::system::error_code error;
    if (socket_.available(error) > 0 && !error) return;  // a request is just arriving
    return close();
  }
  if (now < deadline_) return;
  if (state_ != State::kReading) return close();
  fail(408, "timeout",
       "expected the whole request within " + std::to_string(server_.limits_.read_timeout.count()) +
           " ms, got a part");
}

void HttpConnection::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
  if (loop_.connections.erase(this) > 0) --server_.connections_;
}

}  // namespace hypertower
