// What a handler sees of HTTP: a request with its body, a response to send, and the one shape of
// every error. Plain values.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>

#include "kernels/error.h"

namespace hypertower {

struct HttpRequest {
  std::string method;  // "GET"
  std::string target;  // path without the query string, still percent-encoded
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::string headers;  // further ones, each "Name: value\r\n"
  bool close = false;   // end the connection after this response
};

// Answers one request. Callable from any thread, exactly once.
using Respond = std::function<void(HttpResponse)>;
using HttpHandler = std::function<void(HttpRequest, Respond)>;

// A refusal with a status of its own; everything else maps by ErrorKind.
class HttpError : public Error {
 public:
  HttpError(int status, std::string code, const std::string& message, std::string field = {})
      : Error(ErrorKind::kArgument, message, std::move(field)),
        status_(status),
        code_(std::move(code)) {}
  int status() const noexcept { return status_; }
  const std::string& code() const noexcept { return code_; }

 private:
  int status_;
  std::string code_;
};

std::string_view reason_phrase(int status);

// {"error":{"code","message","field"}}; a 503 also says when to come back.
HttpResponse error_response(int status, std::string_view code, std::string_view message,
                            std::string_view field = {});
// The response for what a handler threw: HttpError as it says, Error by kind (callers' mistakes
// 400, the operating system's refusals 503), anything else 500 without details.
HttpResponse error_response(const std::exception& error);

// Decodes %41 and leaves the rest. Throws HttpError(400) for a broken escape.
std::string percent_decode(std::string_view text);

}  // namespace hypertower
