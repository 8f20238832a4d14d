#include "server/http_message.h"

#include "server/json_writer.h"

namespace hypertower {
namespace {

struct Mapping {
  int status;
  std::string_view code;
};

Mapping mapping(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kArgument:
      return {400, "argument"};
    case ErrorKind::kSchema:
      return {400, "schema"};
    case ErrorKind::kData:
      return {400, "data"};
    case ErrorKind::kModel:
      return {400, "model"};
    case ErrorKind::kNumeric:
      return {400, "number"};
    case ErrorKind::kIo:
      return {503, "io"};
  }
  return {500, "internal"};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Error";
  }
}

HttpResponse error_response(int status, std::string_view code, std::string_view message,
                            std::string_view field) {
  HttpResponse response;
  response.status = status;
  JsonWriter out(response.body);
  out.raw(R"({"error":{"code":)").text(code);
  out.raw(R"(,"message":)").text(message);
  if (!field.empty()) out.raw(R"(,"field":)").text(field);
  out.raw("}}");
  if (status == 503) response.headers = "Retry-After: 1\r\n";
  return response;
}

HttpResponse error_response(const std::exception& error) {
  if (const auto* http = dynamic_cast<const HttpError*>(&error)) {
    return error_response(http->status(), http->code(), http->what(), http->field());
  }
  if (const auto* known = dynamic_cast<const Error*>(&error)) {
    const Mapping m = mapping(known->kind());
    return error_response(m.status, m.code, known->what(), known->field());
  }
  return error_response(500, "internal", "the server failed on this request; its log says why");
}

std::string percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      throw HttpError(400, "path",
                      "the path: expected two hexadecimal digits after '%', got '" +
                          std::string(text.substr(i, 3)) + "'");
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace hypertower
