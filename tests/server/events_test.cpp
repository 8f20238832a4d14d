// Events and people: an acknowledged event counts in the next answer, and after a restart.
#include <gtest/gtest.h>

#include <ctime>
#include <initializer_list>
#include <thread>
#include <vector>

#include "tests/server/test_server.h"

namespace hypertower {
namespace {

using nlohmann::json;

class EventsTest : public testing::Test {
 protected:
  json post(std::initializer_list<json> events) {
    const json body = {{"events", json(std::vector<json>(events))}};
    const ClientResponse response = client_->post("/v1/events", body);
    EXPECT_EQ(response.status, 200) << response.body;
    return response.json();
  }
  std::string best_genre(const json& user) {
    const ClientResponse response = client_->post("/v1/recommend", json{{"user", user}});
    EXPECT_EQ(response.status, 200) << response.body;
    return tiny_genre(response.json()["items"][0]["id"].dump());
  }
  json user(const std::string& id) { return client_->get("/v1/users/" + id).json(); }
  void restart() {
    client_.reset();
    server_.restart();
    client_ = std::make_unique<Client>(server_.port());
  }

  TestServer server_;
  std::unique_ptr<Client> client_ = std::make_unique<Client>(server_.port());
};

TEST_F(EventsTest, ChangeTheNextAnswer) {
  EXPECT_EQ(best_genre(7), "Comedy");
  const json answer = post({{{"user", 7}, {"item", 2}}});
  EXPECT_EQ(answer, (json{{"accepted", 1}, {"duplicates", 0}, {"unknown_items", 0}, {"seq", 1}}));
  EXPECT_EQ(best_genre(7), "Horror");
  EXPECT_EQ(best_genre("7"), "Horror");  // the same person
  post({{{"user", 7}, {"item", "4"}}});
  EXPECT_EQ(best_genre(7), "Drama");  // the latest pulls most
  EXPECT_EQ(best_genre(8), "Comedy");
}

TEST_F(EventsTest, SurviveARestart) {
  post({{{"user", "someone"}, {"item", 2}, {"id", "a"}}});
  restart();
  EXPECT_EQ(best_genre("someone"), "Horror");
  const json answer = post({{{"user", "someone"}, {"item", 2}, {"id", "a"}}});
  EXPECT_EQ(answer["duplicates"], 1);
  EXPECT_EQ(answer["seq"], 1);
}

TEST_F(EventsTest, WithTheSameIdCountOnce) {
  const json event = {{"user", 7}, {"item", 2}, {"id", 123}};
  EXPECT_EQ(post({event, event})["duplicates"], 1);
  EXPECT_EQ(post({event})["accepted"], 0);
  EXPECT_EQ(user("7")["events"].size(), 1U);
}

TEST_F(EventsTest, ThatTheModelWasTrainedOnCountOnce) {
  EXPECT_EQ(best_genre(1), "Horror");  // item 2 at time 1000, from the model
  post({{{"user", 1}, {"item", 4}, {"time", 2000}}});
  EXPECT_EQ(best_genre(1), "Drama");
  post({{{"user", 1}, {"item", 2}, {"time", 1000}}});  // again: not the latest event
  EXPECT_EQ(best_genre(1), "Drama");
  post({{{"user", 1}, {"item", 2}, {"time", 3000}}});
  EXPECT_EQ(best_genre(1), "Horror");
}

TEST_F(EventsTest, CountByTimeNotByArrival) {
  const json drama = {{"user", 7}, {"item", 4}, {"time", 2000}};
  const json horror = {{"user", 7}, {"item", 2}, {"time", 1000}};
  const json comedy = {{"user", 7}, {"item", 3}, {"time", 2000}};
  post({drama, horror});
  EXPECT_EQ(best_genre(7), "Drama");
  post({comedy});  // at the same time: the later arrival is the latest
  EXPECT_EQ(best_genre(7), "Comedy");
  const json held = user("7")["events"];
  ASSERT_EQ(held.size(), 3U);
  EXPECT_EQ(held[0]["time"], 1000);
  EXPECT_EQ(held[1]["item"], 4);
  EXPECT_EQ(held[2]["item"], 3);
  // The model's own event of person 1 (Horror, at 1000) lies between the two.
  post({{{"user", 1}, {"item", 3}, {"time", 500}}});
  EXPECT_EQ(best_genre(1), "Horror");
  post({{{"user", 1}, {"item", 4}, {"time", 1500}}});
  EXPECT_EQ(best_genre(1), "Drama");
}

// A client that stamps both with the same second still sees its event.
TEST_F(EventsTest, CountFromTheNextRequestOnWhateverItsTime) {
  post({{{"user", 7}, {"item", 4}, {"time", 2000}}});
  for (const double time : {1000.0, 2000.0, 2001.0}) {
    const json body = {{"user", 7}, {"time", time}};
    const json answer = client_->post("/v1/recommend", body).json();
    EXPECT_EQ(tiny_genre(answer["items"][0]["id"].dump()), "Drama") << time;
  }
}

TEST_F(EventsTest, OfUnknownItemsAreStoredAndCounted) {
  const json answer = post({{{"user", 7}, {"item", "no such"}}, {{"user", 7}, {"item", 3}}});
  EXPECT_EQ(answer["accepted"], 2);
  EXPECT_EQ(answer["unknown_items"], 1);
  const json held = user("7")["events"];
  ASSERT_EQ(held.size(), 2U);
  EXPECT_EQ(held[0]["item"], "no such");
  EXPECT_EQ(held[1]["item"], 3);
  EXPECT_EQ(user("1")["model"]["events"][0]["item"], 2);
  EXPECT_EQ(best_genre(7), "Comedy");
}

TEST_F(EventsTest, KeepKindTimeAndContext) {
  const json event = {{"user", 7},
                      {"item", 2},
                      {"kind", "view"},
                      {"time", 1.5e9},
                      {"context", {{"mood", "sad"}, {"hour", 7}}}};
  post({event});
  json stored = user("7")["events"][0];
  EXPECT_EQ(stored["item"], 2);  // ids go out as they came in
  EXPECT_EQ(stored["kind"], "view");
  EXPECT_EQ(stored["time"], 1.5e9);
  EXPECT_EQ(stored["context"], event["context"]);
}

TEST_F(EventsTest, WithoutATimeHappenNow) {
  const double before = static_cast<double>(std::time(nullptr)) - 1;
  post({{{"user", 7}, {"item", 2}}});
  const double time = user("7")["events"][0]["time"];
  EXPECT_GE(time, before);
  EXPECT_LE(time, before + 60);
}

TEST_F(EventsTest, MinSeqAsksForAStateThatHoldsThem) {
  const uint64_t seq = post({{{"user", 7}, {"item", 2}}})["seq"];
  const json reached = {{"user", 7}, {"min_seq", seq}};
  EXPECT_EQ(client_->post("/v1/recommend", reached).status, 200);
  const json ahead = {{"user", 7}, {"min_seq", seq + 1}};
  const ClientResponse refused = client_->post("/v1/recommend", ahead);
  EXPECT_EQ(refused.status, 409);
  EXPECT_EQ(refused.error_message(),
            "min_seq: expected at most 1, the number of the latest event stored here, got 2; was "
            "it another server's?");
}

TEST_F(EventsTest, ErasingForgetsStateAndModel) {
  post({{{"user", 1}, {"item", 4}}});
  const ClientResponse response = client_->ask("DELETE", "/v1/users/1");
  EXPECT_EQ(response.status, 200);
  const json receipt = response.json();
  EXPECT_EQ(receipt["erased"], 1);
  EXPECT_EQ(receipt["events"], 1);
  EXPECT_EQ(receipt["in_model"], true);
  EXPECT_EQ(receipt["seq"], 1);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(best_genre(1), "Comedy");
    EXPECT_EQ(user("1"), json::parse(R"({"user":1,"known":false,"events":[],
                                        "model":{"features":{},"events":[]}})"));
    restart();
  }
  post({{{"user", 1}, {"item", 2}}});  // comes back as somebody new
  EXPECT_EQ(best_genre(1), "Horror");
  EXPECT_EQ(user("1")["events"].size(), 1U);
}

TEST_F(EventsTest, UserIdsMayHoldAnything) {
  const std::string strange = "a/b c?d%\"\xc3\xa9";
  post({{{"user", strange}, {"item", 2}}});
  const json answer = user("a%2Fb%20c%3Fd%25%22%C3%A9");
  EXPECT_EQ(answer["user"], strange);
  EXPECT_EQ(answer["events"].size(), 1U);
}

TEST_F(EventsTest, EveryAcknowledgedEventIsSeenByTheNextRequest) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Client client(server_.port());
      for (size_t i = 1; i <= 40; ++i) {
        const json event = {{"user", 100 + t}, {"item", 2}, {"id", i}};
        EXPECT_EQ(client.post("/v1/events", json{{"events", json::array({event})}}).status, 200);
        Client other(server_.port());
        EXPECT_EQ(other.get("/v1/users/" + std::to_string(100 + t)).json()["events"].size(), i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(client_->get("/v1/model").json()["state"]["seq"], 160);
}

}  // namespace
}  // namespace hypertower
