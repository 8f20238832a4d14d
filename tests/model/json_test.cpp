#include "model/json.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/caught.h"

namespace hypertower {
namespace {

using nlohmann::json;
using Op = Filter::Op;

Request request_of(const char* text) {
  return request_from_json(json::parse(text));
}

std::string problem(const char* text) {
  const Caught error = caught([&] { request_of(text); });
  EXPECT_EQ(error.kind, ErrorKind::kSchema);
  EXPECT_TRUE(error.message.starts_with(error.field.empty() ? "the body" : error.field));
  return error.message;
}

TEST(Json, ReadsAWholeRequest) {
  const Request r = request_of(R"({
    "user": 196, "time": 881250949, "context": {"hour": 21, "mood": null},
    "features": {"age": 49.5, "tags": ["a", "b"]},
    "history": [{"item": 50, "kind": "view", "time": 1.5, "context": {"hour": 3}}, {"item": "x"}],
    "where": {"genre": ["Comedy"]}, "exclude": [1, "2"]})");
  EXPECT_EQ(r.user, "196");
  EXPECT_EQ(r.time, 881250949.0);
  ASSERT_EQ(r.context.size(), 2U);
  EXPECT_EQ(r.context[0], (std::pair<std::string, Value>("hour", int64_t{21})));
  EXPECT_TRUE(is_missing(r.context[1].second));
  EXPECT_EQ(r.features[0].second, Value(49.5));
  EXPECT_EQ(r.features[1].second, Value(std::vector<std::string>{"a", "b"}));
  ASSERT_EQ(r.history->size(), 2U);
  EXPECT_EQ((*r.history)[0].item, "50");
  EXPECT_EQ((*r.history)[0].kind, "view");
  EXPECT_EQ((*r.history)[0].time, 1.5);
  EXPECT_EQ((*r.history)[1].item, "x");
  EXPECT_EQ(r.exclude, (std::vector<std::string>{"1", "2"}));
  ASSERT_TRUE(r.where.has_value());
}

TEST(Json, EverythingMayBeMissingOrNull) {
  for (const char* text : {"{}", R"({"user": null, "context": null, "history": null})"}) {
    const Request r = request_of(text);
    EXPECT_FALSE(r.user || r.time || r.history || r.where);
    EXPECT_TRUE(r.context.empty() && r.features.empty() && r.exclude.empty());
  }
  EXPECT_TRUE(request_of(R"({"history": []})").history->empty());
}

TEST(Json, RequestsSurviveARoundTrip) {
  const json j = json::parse(R"({
    "user": "u", "time": 5.25, "context": {"a": 1, "b": 2.5, "c": "t", "d": [1.5, 2.0]},
    "history": [{"item": "i", "kind": "k", "time": 3.0, "context": {"x": null}}],
    "where": {"any": [{"g": ["a"]}, {"p": {"min": 1.0}}], "not": {"h": ["b"]}},
    "exclude": ["e"]})");
  EXPECT_EQ(request_to_json(request_from_json(j)), j);
}

TEST(Json, UnknownKeysNameTheNearest) {
  EXPECT_EQ(problem(R"({"usr": 1})"), "usr: unknown field. Did you mean 'user'?");
  EXPECT_EQ(problem(R"({"history": [{"item": 1, "knd": "x"}]})"),
            "history[0].knd: unknown field. Did you mean 'kind'?");
  const std::vector<std::string> also = {"k"};
  EXPECT_NO_THROW(request_from_json(json::parse(R"({"k": 3})"), also));
  EXPECT_EQ(caught([] {
              request_from_json({{"usr", 1}}, {}, "requests[2]");
            }).message,
            "requests[2].usr: unknown field. Did you mean 'user'?");
}

TEST(Json, WrongTypesNameTheField) {
  EXPECT_EQ(problem("[]"), "the body: expected an object, got an empty list");
  EXPECT_EQ(problem(R"({"user": true})"), "user: expected an id (text or an integer), got true");
  EXPECT_EQ(problem(R"({"user": 3.5})"), "user: expected an id (text or an integer), got 3.5");
  EXPECT_EQ(problem(R"({"exclude": [3, -0.5]})"),
            "exclude[1]: expected an id (text or an integer), got -0.5");
  EXPECT_EQ(problem(R"({"user": ""})"), "user: expected an id (text or an integer), got text ''");
  EXPECT_EQ(problem(R"({"time": "now"})"),
            "time: expected seconds since 1970-01-01 UTC as a number, got text 'now'");
  EXPECT_EQ(problem(R"({"context": [1]})"),
            "context: expected an object of fields and values, got a list");
  EXPECT_EQ(problem(R"({"context": {"a": {"b": 1}}})"),
            "context.a: expected text or a number, got an object");
  EXPECT_EQ(problem(R"({"context": {"a": [1, null]}})"),
            "context.a[1]: expected text or a number, got nothing");
  EXPECT_EQ(problem(R"({"history": {}})"),
            "history: expected a list of events, oldest first, got an empty object");
  EXPECT_EQ(problem(R"({"history": [{}]})"),
            "history[0].item: expected an id (text or an integer), got nothing");
  EXPECT_EQ(problem(R"({"history": [{"item": 1, "kind": 2}]})"),
            "history[0].kind: expected text, got 2");
  EXPECT_EQ(problem(R"({"exclude": "1"})"), "exclude: expected a list of item ids, got text '1'");
  EXPECT_EQ(problem(R"({"exclude": [[1]]})"),
            "exclude[0]: expected an id (text or an integer), got a list");
  EXPECT_EQ(problem(R"({"time": 1e15})"),
            "time: expected seconds since 1970-01-01 UTC, got 1e+15, which is outside the years 1 "
            "to 9999; divide milliseconds by 1000");
}

TEST(Json, Values) {
  const auto of = [](const char* text) { return value_from_json(json::parse(text), "x"); };
  EXPECT_EQ(of("5"), Value(int64_t{5}));
  EXPECT_EQ(of("5.0"), Value(5.0));
  EXPECT_EQ(of("true"), Value(std::string("true")));
  EXPECT_EQ(of("[1, 2.5]"), Value(std::vector<double>{1.0, 2.5}));
  EXPECT_EQ(of("[1, \"a\", true]"), Value(std::vector<std::string>{"1", "a", "true"}));
  EXPECT_EQ(of("[]"), Value(std::vector<std::string>{}));
  EXPECT_EQ(of("18446744073709551615"), Value(std::string("18446744073709551615")));
}

TEST(Json, ListsOfLargeIntegersStayExact) {
  const auto of = [](const char* text) { return value_from_json(json::parse(text), "x"); };
  EXPECT_EQ(of("[9007199254740993]"), Value(std::vector<std::string>{"9007199254740993"}));
  EXPECT_EQ(of("[-9007199254740993]"), Value(std::vector<std::string>{"-9007199254740993"}));
  EXPECT_EQ(of("[9007199254740992]"), Value(std::vector<double>{9007199254740992.0}));
}

TEST(Json, NonFiniteNumbersFromPythonAreNamed) {
  const Caught error = caught([] { value_from_json(json::array({"a", NAN}), "context.a"); });
  EXPECT_EQ(error.kind, ErrorKind::kNumeric);
  EXPECT_EQ(error.message, "context.a[1]: expected a finite number, got nan");
  EXPECT_EQ(caught([] {
              filter_from_json({{"p", {{"min", INFINITY}}}});
            }).message,
            "where.p.min: expected a finite number, got inf");
}

TEST(Json, IdsGoOutAsTheyCameIn) {
  EXPECT_EQ(id_to_json("50", true), json(50));
  EXPECT_EQ(id_to_json("50", false), json("50"));
  EXPECT_EQ(id_to_json("50x", true), json("50x"));
  EXPECT_EQ(id_to_json("", true), json(""));
  EXPECT_EQ(id_from_json(json(196.0), "user"), "196");
}

TEST(Json, Events) {
  const Event e = event_from_json(
      json::parse(R"({"user": 1, "item": "a", "kind": "buy", "time": 9, "id": 77})"));
  EXPECT_EQ(e.user, "1");
  EXPECT_EQ(e.id, "77");
  EXPECT_EQ(e.what.item, "a");
  EXPECT_EQ(e.what.kind, "buy");
  EXPECT_EQ(e.what.time, 9.0);
  EXPECT_EQ(caught([] {
              event_from_json({{"item", 1}}, "events[4]");
            }).message,
            "events[4].user: expected an id (text or an integer), got nothing");
  EXPECT_EQ(caught([] {
              event_from_json({{"user", 1}, {"item", 1}, {"itme", 2}});
            }).message,
            "itme: unknown field. Did you mean 'item'?");
}

TEST(Json, Filters) {
  const Filter f = filter_from_json(json::parse(R"({
    "genre": ["Comedy", 7], "brand": "X", "price": {"min": 2, "max": 30},
    "not": {"age": ["18"]}, "any": [{"a": [1]}, {}]})"));
  EXPECT_EQ(f.op, Op::kAll);
  ASSERT_EQ(f.children.size(), 5U);  // keys in alphabetical order
  EXPECT_EQ(f.children[0].op, Op::kAny);
  ASSERT_EQ(f.children[0].children.size(), 2U);
  EXPECT_TRUE(f.children[0].children[1].children.empty());
  EXPECT_EQ(f.children[1].op, Op::kOneOf);
  EXPECT_EQ(f.children[1].values, std::vector<std::string>{"X"});
  EXPECT_EQ(f.children[2].values, (std::vector<std::string>{"Comedy", "7"}));
  EXPECT_EQ(f.children[3].op, Op::kNot);
  EXPECT_EQ(f.children[4].op, Op::kRange);
  EXPECT_EQ(f.children[4].min, 2.0);
  EXPECT_EQ(f.children[4].max, 30.0);
}

TEST(Json, BrokenFilters) {
  const auto of = [](const char* text) {
    const Caught error = caught([&] { filter_from_json(json::parse(text)); });
    EXPECT_EQ(error.kind, ErrorKind::kSchema);
    return error.message;
  };
  EXPECT_EQ(of("3"), "where: expected an object of fields and conditions, got 3");
  EXPECT_EQ(of(R"({"price": {"mx": 3}})"), "where.price.mx: unknown field. Did you mean 'max'?");
  EXPECT_EQ(of(R"({"price": {}})"), "where.price: expected min, max or both, got an empty object");
  EXPECT_EQ(of(R"({"price": {"min": "a"}})"), "where.price.min: expected a number, got text 'a'");
  EXPECT_EQ(of(R"({"any": {"a": [1]}})"), "where.any: expected a list of objects, got an object");
  EXPECT_EQ(of(R"({"any": [3]})"),
            "where.any[0]: expected an object of fields and conditions, got 3");
  EXPECT_EQ(of(R"({"a": [[1]]})"), "where.a[0]: expected text or a number, got a list");
}

TEST(Json, FilterDepthIsBounded) {
  const auto nested = [](int depth) {
    json j = {{"a", {1}}};
    for (int i = 1; i < depth; ++i) j = {{"not", std::move(j)}};
    return j;
  };
  EXPECT_NO_THROW(filter_from_json(nested(256)));
  EXPECT_EQ(caught([&] { filter_from_json(nested(257)); }).message,
            "where: nested deeper than 256 levels; flatten it");
  EXPECT_EQ(caught([&] { filter_from_json(nested(100'000)); }).message,
            "where: nested deeper than 256 levels; flatten it");
}

TEST(Json, AFilterOfTwoConditionsOnOneFieldCanStillBeWritten) {
  Filter both;
  for (const char* value : {"a", "b"}) {
    Filter one;
    one.op = Op::kOneOf;
    one.field = "genre";
    one.values = {value};
    both.children.push_back(one);
  }
  EXPECT_EQ(filter_to_json(both), json::parse(R"({"not": {"any": [{"not": {"genre": ["a"]}},
                                            {"not": {"genre": ["b"]}}]}})"));
}

}  // namespace
}  // namespace hypertower
