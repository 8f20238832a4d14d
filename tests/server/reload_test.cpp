// Changing the model while it is being asked: nobody notices but by the version.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "tests/server/test_server.h"

namespace hypertower {
namespace {

using nlohmann::json;

class ReloadTest : public testing::Test {
 protected:
  ReloadTest() {
    TinyModelOptions horror;
    horror.popular = 2;
    write_model_directory(tiny_model(horror), server_.path("horror"));
  }
  ClientResponse load(const std::string& path) {
    Client admin(server_.admin_port());
    return admin.post("/v1/model", json{{"path", path}});
  }
  ClientResponse rollback() {
    Client admin(server_.admin_port());
    return admin.post("/v1/model", json{{"rollback", true}});
  }
  std::string popular() {
    Client client(server_.port());
    const ClientResponse response = client.post("/v1/recommend", std::string("{}"));
    return tiny_genre(response.json()["items"][0]["id"].dump());
  }

  TestServer server_;
};

TEST_F(ReloadTest, LoadsAnotherDirectoryAndGoesBack) {
  EXPECT_EQ(popular(), "Comedy");
  const ClientResponse loaded = load(server_.path("horror"));
  EXPECT_EQ(loaded.status, 200);
  const std::string version = loaded.json()["model"];
  EXPECT_EQ(loaded.json()["path"], server_.path("horror"));
  EXPECT_NE(loaded.json()["previous"], version);
  EXPECT_EQ(popular(), "Horror");
  EXPECT_EQ(rollback().json()["previous"], version);
  EXPECT_EQ(popular(), "Comedy");
  EXPECT_EQ(rollback().json()["model"], version);  // and forth
  EXPECT_EQ(popular(), "Horror");
  Client client(server_.port());
  EXPECT_EQ(client.get("/v1/model").json()["model"], version);
  EXPECT_NE(
      client.get("/metrics").body.find("hypertower_model_info{version=\"" + version + "\"} 1"),
      std::string::npos);
}

TEST_F(ReloadTest, EventsOutliveTheModel) {
  Client client(server_.port());
  client.post("/v1/events", std::string(R"({"events": [{"user": 9, "item": 1}]})"));
  load(server_.path("horror"));
  const json answer = client.post("/v1/recommend", std::string(R"({"user": 9})")).json();
  EXPECT_EQ(tiny_genre(answer["items"][0]["id"].dump()), "Drama");
}

TEST_F(ReloadTest, RefusesBadDirectoriesAndServesOn) {
  const auto expect_refused = [&](const std::string& path, const std::string& why) {
    const ClientResponse response = load(path);
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(response.error_code(), "model");
    EXPECT_NE(response.error_message().find(why), std::string::npos) << response.error_message();
    EXPECT_EQ(popular(), "Comedy");
  };
  expect_refused(server_.path("missing"), server_.path("missing"));
  for (const std::string file :
       {"manifest.json", "weights.safetensors", "items.safetensors", "golden.json"}) {
    const std::string directory = server_.path("broken-" + file);
    std::filesystem::copy(server_.path("horror"), directory);
    const std::string path = directory + "/" + file;
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    expect_refused(directory, file);
    std::filesystem::remove(path);
    expect_refused(directory, file);
  }
  Client client(server_.port());
  EXPECT_NE(client.get("/metrics").body.find("hypertower_model_loads_failed_total 9"),
            std::string::npos);
  EXPECT_EQ(rollback().error_message(),
            "there is no earlier model to go back to; load one with {\"path\": DIR}");
}

TEST_F(ReloadTest, RefusesWrongCommands) {
  Client admin(server_.admin_port());
  const auto refusal = [&](const std::string& body) {
    const ClientResponse response = admin.post("/v1/model", body);
    EXPECT_EQ(response.status, 400);
    return response.error_message();
  };
  EXPECT_EQ(refusal("{}"),
            "the body: expected either {\"path\": DIR} or {\"rollback\": true}, got neither");
  EXPECT_EQ(refusal(R"({"path": "x", "rollback": true})"),
            "the body: expected either {\"path\": DIR} or {\"rollback\": true}, got both");
  EXPECT_EQ(refusal(R"({"pth": "x"})"), "pth: unknown field. Did you mean 'path'?");
  EXPECT_EQ(refusal(R"({"path": 5})"), "path: expected the path of a model directory, got 5");
}

TEST_F(ReloadTest, TheAdminPortAnswersHealthAndMetrics) {
  Client admin(server_.admin_port());
  EXPECT_EQ(admin.get("/healthz").json(), (json{{"live", true}}));
  EXPECT_EQ(admin.get("/readyz").json()["ready"], true);
  EXPECT_EQ(admin.get("/metrics").status, 200);
}

TEST_F(ReloadTest, UnderLoadNothingFailsAndNoAnswerMixesModels) {
  // Each version knows one truth: its popular genre for somebody unknown.
  std::atomic<bool> done{false};
  std::atomic<int64_t> answers{0};
  std::vector<std::thread> clients;
  const std::string batch = R"({"k": 5, "requests": [{}, {"user": 5}, {"user": 6}]})";
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      Client client(server_.port());
      std::map<std::string, std::string> genre_of_version;
      for (int i = 0; !done; ++i) {
        const ClientResponse response =
            t == 0 && i % 2 == 0
                ? client.post("/v1/events", json{{"events", {{{"user", 77}, {"item", i % 60}}}}})
                : client.post("/v1/recommend", batch);
        ASSERT_EQ(response.status, 200) << response.body;
        ++answers;
        const json answer = response.json();
        if (!answer.contains("responses")) continue;
        std::set<std::string> genres;
        for (const json& one : answer["responses"]) {
          for (const json& item : one["items"]) genres.insert(tiny_genre(item["id"].dump()));
        }
        ASSERT_EQ(genres.size(), 1U);
        const auto [known, fresh] = genre_of_version.emplace(answer["model"], *genres.begin());
        ASSERT_EQ(known->second, *genres.begin());
      }
      EXPECT_LE(genre_of_version.size(), 2U);
    });
  }
  const int64_t kSwaps = 30;
  for (int i = 0; i < kSwaps; ++i) {
    const int64_t before = answers;
    if (i % 5 == 4) {
      EXPECT_EQ(rollback().status, 200);
    } else {
      EXPECT_EQ(load(i % 2 == 0 ? server_.path("horror") : server_.model_path()).status, 200);
    }
    while (answers < before + 20) std::this_thread::yield();
  }
  done = true;
  for (std::thread& client : clients) client.join();
}

TEST(Drain, LosesNoRequestUnderLoad) {
  TestServer server({}, [](ServerOptions& options) { options.drain_seconds = 3; });
  std::atomic<bool> refused{false};
  std::atomic<int64_t> answered{0}, lost{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&] {
      while (!refused) {
        try {
          Client client(server.port());
          while (true) {
            const bool sent =
                client.send(Client::request("POST", "/v1/recommend", "{\"user\": 1}"));
            const auto response = sent ? client.try_read() : std::nullopt;
            if (!response || response->status != 200) {
              ++lost;
              break;
            }
            ++answered;
            if (response->has_header("Connection: close")) break;
          }
        } catch (const std::runtime_error&) {
          refused = true;  // cannot connect: nobody is let in any more
        }
      }
    });
  }
  while (answered < 200) std::this_thread::yield();
  Client watcher(server.port());
  std::thread drain([&] { server.server().drain(); });
  ClientResponse ready = watcher.get("/readyz");
  EXPECT_TRUE(ready.status == 503 || ready.status == 200);
  if (ready.status == 503) {
    EXPECT_EQ(ready.error_message(), "the server is shutting down; ask another one");
  }
  drain.join();
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(refused);
  EXPECT_EQ(lost, 0);
  EXPECT_GT(answered, 200);
}

}  // namespace
}  // namespace hypertower
