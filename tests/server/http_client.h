// A small blocking HTTP client on a plain socket, for tests: it sends exactly the bytes it is told
// to. Every wait ends after 20 s, so that a hanging server fails the test.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace hypertower {

struct ClientResponse {
  int status = 0;
  std::string head;  // status line and headers
  std::string body;

  bool has_header(const std::string& line) const {
    return head.find("\r\n" + line + "\r\n") != std::string::npos;
  }
  nlohmann::json json() const { return nlohmann::json::parse(body); }
  std::string error_message() const { return json()["error"]["message"]; }
  std::string error_code() const { return json()["error"]["code"]; }
  std::string error_field() const { return json()["error"].value("field", ""); }
};

class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval limit{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ::close(fd_);
      throw std::runtime_error("cannot connect");
    }
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // False when the peer has gone.
  bool send(const std::string& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<size_t>(n);
    }
    return true;
  }
  void finish_sending() { ::shutdown(fd_, SHUT_WR); }

  // nullopt when the connection ended before a whole response. `head_only` after HEAD.
  std::optional<ClientResponse> try_read(bool head_only = false) {
    size_t end;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!fill()) return std::nullopt;
    }
    ClientResponse response;
    response.head = buffer_.substr(0, end + 2);
    response.status = std::stoi(buffer_.substr(9, 3));
    buffer_.erase(0, end + 4);
    size_t length = 0;
    const size_t at = response.head.find("Content-Length: ");
    if (at != std::string::npos && !head_only) length = std::stoul(response.head.substr(at + 16));
    while (buffer_.size() < length) {
      if (!fill()) return std::nullopt;
    }
    response.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return response;
  }
  ClientResponse read() {
    auto response = try_read();
    if (!response) throw std::runtime_error("the connection ended without a response");
    return *std::move(response);
  }
  // True when the server has closed; what it still sent is dropped.
  bool closed() {
    char byte[4096];
    while (true) {
      const ssize_t n = ::recv(fd_, byte, sizeof byte, 0);
      if (n == 0) return true;
      if (n < 0) return errno == ECONNRESET;
    }
  }

  static std::string request(const std::string& method, const std::string& target,
                             const std::string& body = {}, const std::string& headers = {}) {
    std::string text = method + " " + target + " HTTP/1.1\r\nHost: test\r\n" + headers;
    if (!body.empty() || method == "POST") {
      text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    }
    return text + "\r\n" + body;
  }
  ClientResponse ask(const std::string& method, const std::string& target,
                     const std::string& body = {}) {
    send(request(method, target, body));
    return read();
  }
  ClientResponse get(const std::string& target) { return ask("GET", target); }
  ClientResponse post(const std::string& target, const std::string& body) {
    return ask("POST", target, body);
  }
  ClientResponse post(const std::string& target, const nlohmann::json& body) {
    return ask("POST", target, body.dump());
  }

 private:
  bool fill() {
    char bytes[65536];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(n));
    return true;
  }

  int fd_;
  std::string buffer_;
};

}  // namespace hypertower
