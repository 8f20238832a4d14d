// What the endpoints refuse, with the exact sentence.
#include <gtest/gtest.h>

#include "tests/server/test_server.h"

namespace hypertower {
namespace {

using nlohmann::json;

struct Case {
  std::string target;
  std::string body;
  std::string field;
  std::string message;
};

class RefusalsTest : public testing::Test {
 protected:
  void check(const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      const ClientResponse response = client_.post(c.target, c.body);
      EXPECT_EQ(response.status, 400) << c.body << " -> " << response.body;
      if (response.status != 400) continue;
      EXPECT_EQ(response.error_message(), c.message) << c.body;
      EXPECT_EQ(response.error_field(), c.field) << c.body;
    }
  }

  TestServer server_;
  Client client_{server_.port()};
};

TEST_F(RefusalsTest, OfRecommend) {
  const std::string r = "/v1/recommend";
  check({
      {r, "", "", "the body: expected a JSON object, got nothing"},
      {r, "user=1", "", "the body: expected JSON, got text that is not JSON at byte 1"},
      {r, "[]", "", "the body: expected an object, got an empty list"},
      {r, R"({"usr": 1})", "usr", "usr: unknown field. Did you mean 'user'?"},
      {r, R"({"user": 1, "user": 2})", "user", "user: expected once, got twice"},
      {r, R"({"user": [1]})", "user", "user: expected an id (text or an integer), got a list"},
      {r, R"({"k": 0})", "k", "k: expected an integer from 1 to 10000, got 0"},
      {r, R"({"k": 2.5})", "k", "k: expected an integer from 1 to 10000, got 2.5"},
      {r, R"({"k": "5"})", "k", "k: expected an integer from 1 to 10000, got text '5'"},
      {r, R"({"k": 18446744073709551615})", "k",
       "k: expected an integer from 1 to 10000, got 18446744073709551615"},
      {r, R"({"exclude_seen": 1})", "exclude_seen", "exclude_seen: expected true or false, got 1"},
      {r, R"({"min_seq": -1})", "min_seq", "min_seq: expected an integer of at least 0, got -1"},
      {r, R"({"timeout_ms": 0})", "timeout_ms",
       "timeout_ms: expected an integer from 1 to 60000, got 0"},
      {r, R"({"context": {"mod": "sad"}})", "context.mod",
       "context.mod: unknown field. Did you mean 'mood'?"},
      {r, R"({"requests": [{"context": {"mod": "sad"}}]})", "requests[0].context.mod",
       "requests[0].context.mod: unknown field. Did you mean 'mood'?"},
      {r, R"({"requests": [{}, {"features": {"taste": [1, 2]}}]})", "requests[1].features.taste",
       "requests[1].features.taste: expected a category, got a list of numbers"},
      {"/v1/encode", R"({"requests": [{"context": {"mod": "sad"}}]})", "requests[0].context.mod",
       "requests[0].context.mod: unknown field. Did you mean 'mood'?"},
      {r, R"({"where": {"gendre": "Drama"}})", "where.gendre",
       "where.gendre: unknown field. Did you mean 'genre'?"},
      {r, R"({"where": {"year": {"minimum": 1}}})", "where.year.minimum",
       "where.year.minimum: unknown field. Known: min, max."},
      {r, R"({"exclude": 3})", "exclude", "exclude: expected a list of item ids, got 3"},
      {r, R"({"history": [{"itm": 3}]})", "history[0].itm",
       "history[0].itm: unknown field. Did you mean 'item'?"},
      {r, R"({"history": [{"item": 3}, {"item": 3, "context": {"mod": "sad"}}]})",
       "history[1].context.mod", "history[1].context.mod: unknown field. Did you mean 'mood'?"},
      {r, R"({"requests": [{}, {"history": [{"item": 3, "context": {"mod": "sad"}}]}]})",
       "requests[1].history[0].context.mod",
       "requests[1].history[0].context.mod: unknown field. Did you mean 'mood'?"},
      {r, R"({"requests": []})", "requests",
       "requests: expected a list of 1 to 1024 requests, got an empty list"},
      {r, R"({"requests": 5})", "requests",
       "requests: expected a list of 1 to 1024 requests, got 5"},
      {r, R"({"requests": [{}, {"usr": 1}]})", "requests[1].usr",
       "requests[1].usr: unknown field. Did you mean 'user'?"},
      {r, R"({"requests": [{}], "user": 1})", "user",
       "user: unknown field. Known: requests, k, exclude_seen, min_seq, timeout_ms, where, "
       "exclude."},
      {r, R"({"requests": [{"k": 3}]})", "requests[0].k",
       "requests[0].k: unknown field. Known: user, time, context, features, history, where, "
       "exclude."},
  });
  json many = {{"requests", json::array()}, {"k", 10000}};
  for (int i = 0; i < 101; ++i) many["requests"].push_back(json::object());
  check({{r, many.dump(), "k",
          "k: expected at most 1000000 answers in one call (requests times k), got 1010000; send "
          "them in several calls"}});
  for (int i = 0; i < 1000; ++i) many["requests"].push_back(json::object());
  check(
      {{r, many.dump(), "requests",
        "requests: expected a list of 1 to 1024 requests, got 1101; send them in several calls"}});
}

TEST_F(RefusalsTest, OfEvents) {
  const std::string e = "/v1/events";
  check({
      {e, "{}", "events", "events: expected a list of 1 to 10000 events, got nothing"},
      {e, R"({"user": 1, "item": 2})", "item", "item: unknown field. Known: events."},
      {e, R"({"events": {}})", "events",
       "events: expected a list of 1 to 10000 events, got an empty object"},
      {e, R"({"events": [{"user": 1}]})", "events[0].item",
       "events[0].item: expected an id (text or an integer), got nothing"},
      {e, R"({"events": [{"item": 1}]})", "events[0].user",
       "events[0].user: expected an id (text or an integer), got nothing"},
      {e, R"({"events": [{"user": 1, "item": 2}, {"user": 1, "item": 2, "kid": "view"}]})",
       "events[1].kid", "events[1].kid: unknown field. Did you mean 'kind'?"},
      {e, R"({"events": [{"user": 1, "item": 2, "time": "now"}]})", "events[0].time",
       "events[0].time: expected seconds since 1970-01-01 UTC as a number, got text 'now'"},
      {e, R"({"events": [{"user": 1, "item": 2, "context": {"mod": "sad"}}]})",
       "events[0].context.mod", "events[0].context.mod: unknown field. Did you mean 'mood'?"},
      {e, R"({"events": [{"user": ")" + std::string(600, 'u') + R"(", "item": 2}]})",
       "events[0].user", "events[0].user: expected an id of at most 512 bytes, got 600"},
  });
  EXPECT_EQ(client_.get("/v1/model").json()["state"]["seq"], 0);  // nothing was stored
}

TEST_F(RefusalsTest, OfSimilarAndEncode) {
  check({
      {"/v1/similar", "{}", "", "the body: expected either 'item' or 'items', got neither"},
      {"/v1/similar", R"({"item": 1, "items": [1]})", "",
       "the body: expected either 'item' or 'items', got both"},
      {"/v1/similar", R"({"itm": 1})", "itm", "itm: unknown field. Did you mean 'item'?"},
      {"/v1/encode", "{}", "", "the body: expected either 'requests' or 'items', got neither"},
      {"/v1/encode", R"({"items": [true]})", "items[0]",
       "items[0]: expected an id (text or an integer), got true"},
      {"/v1/encode", R"({"items": []})", "items",
       "items: expected a list of 1 to 1024 items, got an empty list"},
  });
  const ClientResponse unknown = client_.post("/v1/similar", std::string(R"({"item": 5000})"));
  EXPECT_EQ(unknown.status, 400);
  EXPECT_NE(unknown.error_message().find("5000"), std::string::npos);
  const ClientResponse feature =
      client_.post("/v1/encode", std::string(R"({"items": [{"genr": "Drama"}]})"));
  EXPECT_EQ(feature.status, 400);
  EXPECT_NE(feature.error_message().find("Did you mean 'genre'?"), std::string::npos);
}

TEST_F(RefusalsTest, OfPathsAndMethods) {
  ClientResponse response = client_.post("/v1/recomend", std::string("{}"));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.error_code(), "not_found");
  EXPECT_EQ(response.error_message(),
            "nothing is at '/v1/recomend'. Did you mean '/v1/recommend'?");
  response = client_.get("/");
  EXPECT_EQ(response.error_message(),
            "nothing is at '/'. Known: /v1/recommend, /v1/events, /v1/similar, /v1/encode, "
            "/v1/users/{id}, /v1/model, /healthz, /readyz, /metrics.");
  response = client_.get("/v1/recommend");
  EXPECT_EQ(response.status, 405);
  EXPECT_EQ(response.error_message(), "/v1/recommend: expected POST, got GET");
  EXPECT_TRUE(response.has_header("Allow: POST"));
  response = client_.post("/v1/users/1", std::string("{}"));
  EXPECT_EQ(response.error_message(), "/v1/users/1: expected GET, DELETE, got POST");
  response = client_.get("/v1/users/%zz");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.error_message(),
            "the path: expected two hexadecimal digits after '%', got '%zz'");
  EXPECT_EQ(client_.get("/v1/users/").status, 404);
  EXPECT_EQ(client_.get("/v1/users/a/b").status, 404);
  response = client_.post("/v1/model", std::string(R"({"rollback": true})"));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.error_message(),
            "POST /v1/model is answered on the admin port only; start the server with --admin "
            "HOST:PORT and ask there");
}

TEST_F(RefusalsTest, BodyTooLarge) {
  TestServer small({}, [](ServerOptions& options) { options.limits.max_body_bytes = 100; });
  Client client(small.port());
  const ClientResponse response = client.post("/v1/recommend", std::string(101, ' '));
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(response.error_message(),
            "the body: expected at most 100 bytes, got more; send it in several calls");
}

TEST(Server, SaysThatItIsLoading) {
  TemporaryDirectory directory;
  ServerOptions options;
  options.model = directory.path("model");
  options.state = directory.path("state");
  options.http.port = 0;
  Server server(options);
  Client client(server.port());
  EXPECT_EQ(client.get("/healthz").status, 200);
  for (const ClientResponse& response :
       {client.get("/readyz"), client.post("/v1/recommend", std::string("{}"))}) {
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.error_message(), "the model is still being loaded; try again later");
    EXPECT_TRUE(response.has_header("Retry-After: 1"));
  }
  EXPECT_EQ(client.get("/metrics").status, 200);
  EXPECT_THROW(server.load(), Error);  // there is none
  write_model_directory(tiny_model(), options.model);
  server.load();
  EXPECT_EQ(client.get("/readyz").status, 200);
}

}  // namespace
}  // namespace hypertower
