// Recommend, similar, encode: right answers, right shapes.
#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

#include "tests/server/test_server.h"

namespace hypertower {
namespace {

using nlohmann::json;

// The genre that all items of an answer share, or "mixed".
std::string genre_of(const json& answer) {
  std::set<std::string> genres;
  for (const json& item : answer["items"]) genres.insert(tiny_genre(item["id"].dump()));
  return genres.size() == 1 ? *genres.begin() : "mixed";
}

class RecommendTest : public testing::Test {
 protected:
  json ask(const json& body) {
    const ClientResponse response = client_.post("/v1/recommend", body);
    EXPECT_EQ(response.status, 200) << response.body;
    return response.json();
  }

  TestServer server_;
  Client client_{server_.port()};
};

TEST_F(RecommendTest, FollowsWhoAndWhen) {
  EXPECT_EQ(genre_of(ask({{"user", 999}})), "Comedy");  // unknown: what is popular
  EXPECT_EQ(genre_of(ask(json::object())), "Comedy");
  EXPECT_EQ(genre_of(ask({{"features", {{"taste", "Drama"}}}})), "Drama");
  EXPECT_EQ(genre_of(ask({{"user", 1}})), "Horror");  // the model knows what they saw
  EXPECT_EQ(genre_of(ask({{"user", "1"}})), "Horror");
  EXPECT_EQ(genre_of(ask({{"user", 1}, {"context", {{"mood", "happy"}}}})), "Comedy");
  EXPECT_EQ(genre_of(ask({{"context", {{"mood", "sad"}}}})), "Drama");
  EXPECT_EQ(genre_of(ask(json::parse(R"({"history": [{"item": 1}]})"))), "Drama");
  EXPECT_EQ(genre_of(ask({{"user", 1}, {"history", json::array()}})), "Drama");  // their taste
}

TEST_F(RecommendTest, AnswersInTheAgreedShape) {
  const json answer = ask({{"user", 1}, {"k", 3}});
  std::set<std::string> keys;
  for (const auto& [key, value] : answer.items()) keys.insert(key);
  EXPECT_EQ(keys, (std::set<std::string>{"model", "items", "count", "eligible", "degraded"}));
  EXPECT_EQ(answer["count"], 3);
  EXPECT_EQ(answer["eligible"], 60);
  EXPECT_EQ(answer["degraded"], json::array());
  EXPECT_EQ(answer["model"].get<std::string>().substr(0, 5), "tiny@");
  ASSERT_EQ(answer["items"].size(), 3U);
  double last = 2;
  for (const json& item : answer["items"]) {
    EXPECT_TRUE(item["id"].is_number_integer());  // ids go out as they came in
    EXPECT_LE(item["score"].get<double>(), last);
    last = item["score"];
  }
}

TEST_F(RecommendTest, FiltersAndExcludes) {
  const json horror = ask({{"k", 100}, {"where", {{"genre", "Horror"}}}});
  EXPECT_EQ(horror["count"], 20);
  EXPECT_EQ(horror["eligible"], 20);
  EXPECT_EQ(genre_of(horror), "Horror");
  const json years = ask({{"k", 100}, {"where", {{"year", {{"min", 1961}, {"max", 1964}}}}}});
  EXPECT_EQ(years["count"], 4);
  const json both = ask(json::parse(R"({"k": 100, "exclude": [3, "6"],
      "where": {"genre": ["Comedy", "Drama"], "not": {"genre": "Drama"}}})"));
  EXPECT_EQ(both["count"], 18);
  for (const json& item : both["items"]) EXPECT_TRUE(item["id"] != 3 && item["id"] != 6);
  const json none = ask({{"where", {{"genre", "Western"}}}});  // an empty answer is no error
  EXPECT_EQ(none["count"], 0);
  EXPECT_EQ(none["eligible"], 0);
  EXPECT_EQ(none["items"], json::array());
}

TEST_F(RecommendTest, ExcludesWhatWasSeenWhenAsked) {
  const auto has_item_2 = [](const json& answer) {
    for (const json& item : answer["items"]) {
      if (item["id"] == 2) return true;
    }
    return false;
  };
  EXPECT_TRUE(has_item_2(ask({{"user", 1}, {"k", 60}})));
  EXPECT_FALSE(has_item_2(ask({{"user", 1}, {"k", 60}, {"exclude_seen", true}})));
  TinyModelOptions seen_once;
  seen_once.exclude_seen_by_default = true;
  TestServer other(seen_once);
  Client client(other.port());
  const json body = {{"user", 1}, {"k", 60}};
  EXPECT_FALSE(has_item_2(client.post("/v1/recommend", body).json()));
}

TEST_F(RecommendTest, AnswersManyRequestsAsEachAlone) {
  const json requests = json::parse(R"([{"user": 1}, {"context": {"mood": "sad"}},
                                        {"user": 7, "where": {"year": {"min": 1990}}}])");
  const json many = ask({{"requests", requests}, {"k", 4}});
  ASSERT_EQ(many["responses"].size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    json alone = requests[i];
    alone["k"] = 4;
    json expected = ask(alone);
    expected.erase("model");
    EXPECT_EQ(many["responses"][i], expected);
  }
}

TEST_F(RecommendTest, AppliesOuterOptionsToEveryRequest) {
  const json body = json::parse(R"({"requests": [{"where": {"genre": ["Horror", "Drama"]}}, {}],
                                    "where": {"genre": ["Horror", "Comedy"]},
                                    "exclude": [2], "k": 100})");
  const json answer = ask(body);
  EXPECT_EQ(answer["responses"][0]["count"], 19);
  EXPECT_EQ(answer["responses"][1]["count"], 39);
}

TEST_F(RecommendTest, ReturnsAllItemsWhenKIsLarger) {
  EXPECT_EQ(ask({{"k", 10000}})["count"], 60);
}

TEST_F(RecommendTest, BatchedAndLoneAnswersAreTheSame) {
  // Many connections at once, so that batches form; one of them always asks wrongly.
  std::vector<json> expected;
  for (int user = 0; user < 8; ++user)
    expected.push_back(ask({{"user", user}, {"k", 1 + user % 3}}));
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      Client client(server_.port());
      for (int i = 0; i < 100; ++i) {
        const int user = (t + i) % 8;
        const json body = {{"user", user}, {"k", 1 + user % 3}};
        EXPECT_EQ(client.post("/v1/recommend", body).json(), expected[static_cast<size_t>(user)]);
        if (t != 0) continue;
        const json wrong = {{"context", {{"weather", "rain"}}}, {"k", 1 + user % 3}};
        const ClientResponse refused = client.post("/v1/recommend", wrong);
        EXPECT_EQ(refused.status, 400);
        EXPECT_EQ(refused.error_field(), "context.weather");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(RecommendTest, FindsSimilarItems) {
  json answer = client_.post("/v1/similar", json{{"item", 5}, {"k", 4}}).json();
  EXPECT_EQ(answer["item"], 5);
  EXPECT_EQ(answer["count"], 4);
  EXPECT_EQ(genre_of(answer), "Horror");
  for (const json& item : answer["items"]) EXPECT_NE(item["id"], 5);
  const json many =
      client_.post("/v1/similar", json::parse(R"({"items": [5, "7"], "k": 4})")).json();
  answer.erase("model");
  EXPECT_EQ(many["responses"][0], answer);
  EXPECT_EQ(genre_of(many["responses"][1]), "Drama");
  const json filtered =
      client_.post("/v1/similar", json{{"item", 5}, {"where", {{"genre", "Drama"}}}}).json();
  EXPECT_EQ(genre_of(filtered), "Drama");
}

TEST_F(RecommendTest, EncodesRequestsAndItems) {
  const json items =
      client_.post("/v1/encode", json::parse(R"({"items": [5, {"item": 5}, {"genre": "Horror"}]})"))
          .json();
  EXPECT_EQ(items["dim"], 9);
  ASSERT_EQ(items["vectors"].size(), 3U);
  EXPECT_EQ(items["vectors"][0].size(), 9U);
  EXPECT_EQ(items["vectors"][0], items["vectors"][1]);
  EXPECT_GT(items["vectors"][2][2].get<double>(), 0.99);
  const json request = {{"context", {{"mood", "sad"}}}};
  const json queries =
      client_.post("/v1/encode", json{{"requests", json::array({request, request})}}).json();
  ASSERT_EQ(queries["vectors"].size(), 2U);
  // The score of an answer is the dot product of the two.
  const json best = ask(request)["items"][0];
  const json vector =
      client_.post("/v1/encode", json{{"items", json::array({best["id"]})}}).json()["vectors"][0];
  double score = 0;
  for (size_t i = 0; i < 9; ++i) {
    score += queries["vectors"][0][i].get<double>() * vector[i].get<double>();
  }
  EXPECT_NEAR(score, best["score"].get<double>(), 1e-5);
}

}  // namespace
}  // namespace hypertower
