// Bodies in, answers out: what JsonReader refuses and what JsonWriter writes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "server/http_message.h"
#include "server/json_reader.h"
#include "server/json_writer.h"

namespace hypertower {
namespace {

using nlohmann::json;

std::string refusal(const std::string& body) {
  JsonReader reader;
  try {
    reader.read_object(body);
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status(), 400);
    return error.what();
  }
  return "accepted";
}

TEST(JsonReader, ReadsEveryType) {
  JsonReader reader;
  const std::string text =
      R"({"a":[1,-2,2.5,18446744073709551615,true,false,null,"x\u00e9\ud83d\ude00"],"b":{"c":{}}})";
  EXPECT_EQ(reader.read_object(text), json::parse(text));
}

TEST(JsonReader, AgreesWithASecondParserOnRandomTrees) {
  std::mt19937 random(7);
  const auto tree = [&](const auto& self, int depth) -> json {
    switch (random() % (depth > 4 ? 6 : 8)) {
      case 0:
        return nullptr;
      case 1:
        return random() % 2 == 0;
      case 2:
        return static_cast<int64_t>(random()) - (int64_t{1} << 31);
      case 3:
        return std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 90) - 60);
      case 4:
        return uint64_t{random()} << 32 | random();
      case 5: {
        std::string s;
        for (unsigned n = random() % 12; n > 0; --n) s += static_cast<char>(1 + random() % 127);
        return s;
      }
      case 6: {
        json list = json::array();
        for (unsigned n = random() % 5; n > 0; --n) list.push_back(self(self, depth + 1));
        return list;
      }
      default: {
        json object = json::object();
        for (unsigned n = random() % 5; n > 0; --n) {
          object["k" + std::to_string(random() % 100)] = self(self, depth + 1);
        }
        return object;
      }
    }
  };
  JsonReader reader;
  for (int i = 0; i < 2000; ++i) {
    const json object = {{"root", tree(tree, 0)}};
    ASSERT_EQ(reader.read_object(object.dump()), object) << object.dump();
  }
}

TEST(JsonReader, SaysWhatIsWrong) {
  EXPECT_EQ(refusal(""), "the body: expected a JSON object, got nothing");
  EXPECT_EQ(refusal("  \n "), "the body: expected a JSON object, got nothing");
  EXPECT_EQ(refusal("{\"user\": }"),
            "the body: expected JSON, got text that is not JSON at byte 10");
  EXPECT_EQ(refusal("{\"user\": 1} x"),
            "the body: expected JSON, got text that is not JSON at byte 13");
  EXPECT_EQ(refusal("[1]"), "the body: expected an object, got a list");
  EXPECT_EQ(refusal("17"), "the body: expected an object, got 17");
  EXPECT_EQ(refusal("{\"a\": NaN}"),
            "the body: expected JSON, got text that is not JSON at byte 7");
  EXPECT_EQ(refusal("{\"a\": 1e999}"),
            "the body: expected numbers that fit 64 bits, got a larger one");
  EXPECT_EQ(refusal("{\"a\": 123456789012345678901234567890}"),
            "the body: expected numbers that fit 64 bits, got a larger one");
  EXPECT_EQ(refusal("{\"a\": \"\xff\"}"), "the body: expected UTF-8, got other bytes");
  EXPECT_EQ(refusal(R"({"a": 1, "b": [{"c": 1, "c": 2}]})"), "b[0].c: expected once, got twice");
  EXPECT_EQ(refusal("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}"),
            "the body: expected JSON at most 64 levels deep, got more");
  EXPECT_EQ(refusal(std::string(1000, '[')),
            "the body: expected JSON, got text that is not JSON at byte 1001");
}

TEST(JsonReader, WorksOnAfterARefusal) {
  JsonReader reader;
  for (int i = 0; i < 3; ++i) {
    EXPECT_THROW(reader.read_object("{"), HttpError);
    EXPECT_EQ(reader.read_object(R"({"a":1})")["a"], 1);
  }
}

std::string written(const std::function<void(JsonWriter&)>& write) {
  std::string out;
  JsonWriter writer(out);
  write(writer);
  return out;
}

TEST(JsonWriter, EscapesText) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "\xc3\xa9\xf0\x9f\x98\x80";  // e acute, an emoji
  const std::string text = written([&](JsonWriter& w) { w.text(all); });
  EXPECT_EQ(json::parse(text).get<std::string>(), all);
}

TEST(JsonWriter, ReplacesBytesThatAreNotUtf8) {
  for (const char* bytes :
       {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "a\x80z"}) {
    const std::string text = written([&](JsonWriter& w) { w.text(bytes); });
    EXPECT_TRUE(json::accept(text)) << text;
    EXPECT_NE(text.find("\xEF\xBF\xBD"), std::string::npos);
  }
}

TEST(JsonWriter, WritesFloatsThatReadBackTheSame) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const uint32_t bits = random();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    const std::string text = written([&](JsonWriter& w) { w.real(value); });
    EXPECT_EQ(json::parse(text).get<float>(), value) << text;
  }
  EXPECT_EQ(written([](JsonWriter& w) { w.real(std::numeric_limits<float>::infinity()); }), "null");
}

TEST(JsonWriter, WritesIdsAsTheyCameIn) {
  const auto id = [](const char* text, bool integers) {
    return written([&](JsonWriter& w) { w.id(text, integers); });
  };
  EXPECT_EQ(id("50", true), "50");
  EXPECT_EQ(id("-50", true), "-50");
  EXPECT_EQ(id("50", false), "\"50\"");
  for (const char* text : {"007", "+7", "7x", "", "-0", "99999999999999999999", " 7"}) {
    EXPECT_EQ(id(text, true), "\"" + std::string(text) + "\"");
  }
}

TEST(HttpMessage, DecodesPaths) {
  EXPECT_EQ(percent_decode("a%20b%2Fc%25"), "a b/c%");
  for (const char* broken : {"%", "%4", "%zz", "a%2"}) {
    EXPECT_THROW(percent_decode(broken), HttpError) << broken;
  }
}

TEST(HttpMessage, MapsErrorsToStatuses) {
  EXPECT_EQ(error_response(Error(ErrorKind::kSchema, "m", "f")).status, 400);
  EXPECT_EQ(error_response(Error(ErrorKind::kIo, "m")).status, 503);
  EXPECT_EQ(error_response(HttpError(409, "seq", "m")).status, 409);
  const HttpResponse internal = error_response(std::runtime_error("secret"));
  EXPECT_EQ(internal.status, 500);
  EXPECT_EQ(internal.body.find("secret"), std::string::npos);
  EXPECT_EQ(error_response(400, "code", "say \"x\"", "a.b").body,
            R"({"error":{"code":"code","message":"say \"x\"","field":"a.b"}})");
}

}  // namespace
}  // namespace hypertower
