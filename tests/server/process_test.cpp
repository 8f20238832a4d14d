// The program: start, signals, exit codes, what it prints, what survives kill -9.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <random>
#include <sstream>

#include "server/http_server.h"
#include "tests/server/http_client.h"
#include "tests/server/server_process.h"
#include "tests/server/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace hypertower {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

class ProcessTest : public testing::Test {
 protected:
  ProcessTest() { write_model_directory(tiny_model(), model_); }

  std::vector<std::string> command(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {HYPERTOWER_SERVER, model_,     "--http",          "0",
                                      "--port-file",     port_file_, "--drain-seconds", "5"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::unique_ptr<ServerProcess> run(const std::vector<std::string>& words) {
    std::filesystem::remove(port_file_);
    return std::make_unique<ServerProcess>(words, folder_.path());
  }
  std::unique_ptr<ServerProcess> start(const std::vector<std::string>& more = {}) {
    auto process = run(command(more));
    const auto ports = process->ports(port_file_);
    port_ = ports.front();
    return process;
  }
  // One line on stderr, exit code 1.
  std::string failure(const std::vector<std::string>& words) {
    auto process = run(words);
    EXPECT_EQ(process->wait(), 1);
    EXPECT_EQ(process->out(), "");
    std::string last = process->err();
    EXPECT_FALSE(last.empty());
    last.pop_back();
    return last.substr(last.rfind('\n') + 1);
  }

  TemporaryDirectory folder_;
  const std::string model_ = folder_.path("model");
  const std::string port_file_ = folder_.path("ports");
  uint16_t port_ = 0;
};

TEST_F(ProcessTest, SaysWhereItListensAndNothingOnStdout) {
  auto process = start();
  Client client(port_);
  EXPECT_EQ(client.post("/v1/recommend", std::string("{}")).status, 200);
  EXPECT_NE(process->err().find("\nlistening on http://127.0.0.1:" + std::to_string(port_) + "\n"),
            std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(folder_.path("model-state")));
  process->send_signal(SIGINT);
  EXPECT_EQ(process->wait(), 0);
  EXPECT_EQ(process->out(), "");
}

TEST_F(ProcessTest, FailsWithOneSentence) {
  const std::string missing = folder_.path("missing");
  std::vector<std::string> words = command();
  words[1] = missing;
  const std::string sentence = failure(words);
  EXPECT_EQ(sentence.find("hypertower-server: "), 0U);
  EXPECT_NE(sentence.find(missing), std::string::npos) << sentence;

  HttpServer other("127.0.0.1", 0, {}, 1, [](HttpRequest, const Respond&) {});
  const std::string port = std::to_string(other.port());
  words = command();
  words[3] = port;
  EXPECT_EQ(failure(words),
            "hypertower-server: cannot listen on 127.0.0.1:" + port +
                ": the port is taken by another process; stop it or choose another port (0 takes a "
                "free one)");
  auto first = start();
  EXPECT_EQ(failure(command()),
            "hypertower-server: state directory '" + model_ +
                "-state': in use by another process, or not writable; stop that process or choose "
                "another directory with --state");
}

TEST_F(ProcessTest, KeepsAcknowledgedEventsThroughKill9) {
  std::mt19937 random(5);
  size_t acknowledged = 0;
  for (int cycle = 0; cycle < 12; ++cycle) {
    auto process = start();
    const json known = Client(port_).get("/v1/users/7").json()["events"];
    // All that was acknowledged, in order; at most the one more that was under way.
    ASSERT_GE(known.size(), acknowledged);
    ASSERT_LE(known.size(), acknowledged + 1);
    for (size_t i = 0; i < known.size(); ++i) ASSERT_EQ(known[i]["item"], i);
    acknowledged = known.size();
    std::thread killer([&, pause = random() % 60] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5 + pause));
      process->send_signal(SIGKILL);
    });
    Client client(port_);
    for (; acknowledged < 250; ++acknowledged) {
      const json event = {{"user", 7}, {"item", acknowledged}, {"id", acknowledged}};
      const json body = {{"events", json::array({event})}};
      if (!client.send(Client::request("POST", "/v1/events", body.dump()))) break;
      const auto response = client.try_read();
      if (!response) break;
      ASSERT_EQ(response->status, 200);
    }
    killer.join();
    EXPECT_EQ(process->wait(), -SIGKILL);
  }
  EXPECT_GT(acknowledged, 0U);
}

TEST_F(ProcessTest, SigtermUnderLoadLosesNothing) {
  auto process = start();
  std::atomic<bool> refused{false};
  std::atomic<int64_t> answered{0}, lost{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      const std::string request =
          t == 0 ? Client::request("POST", "/v1/events", R"({"events": [{"user": 3, "item": 4}]})")
                 : Client::request("POST", "/v1/recommend", R"({"user": 1})");
      while (!refused) {
        try {
          Client client(port_);
          for (bool open = true; open;) {
            const bool sent = client.send(request);
            const auto response = client.try_read();
            if (!sent || !response || response->status != 200) ++lost;
            ++answered;
            open = response && !response->has_header("Connection: close");
          }
        } catch (const std::runtime_error&) {
          refused = true;
        }
      }
    });
  }
  while (answered < 100) std::this_thread::yield();
  const auto begin = Clock::now();
  process->send_signal(SIGTERM);
  EXPECT_EQ(process->wait(), 0);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(6));
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(lost, 0);
}

TEST_F(ProcessTest, SighupLoadsTheDirectoryAgain) {
  auto process = start();
  Client client(port_);
  const auto popular = [&] {
    const json answer = client.post("/v1/recommend", std::string("{}")).json();
    return tiny_genre(answer["items"][0]["id"].dump());
  };
  EXPECT_EQ(popular(), "Comedy");
  TinyModelOptions horror;
  horror.popular = 2;
  write_model_directory(tiny_model(horror), model_);
  process->send_signal(SIGHUP);
  for (int i = 0; i < 2000 && popular() == "Comedy"; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(popular(), "Horror");
  std::filesystem::remove(model_ + "/golden.json");
  process->send_signal(SIGHUP);
  for (int i = 0; i < 2000 && process->err().find("not reloaded") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_NE(process->err().find("the model was not reloaded"), std::string::npos);
  EXPECT_EQ(popular(), "Horror");
}

TEST_F(ProcessTest, SigtermWhileLoadingEndsAtOnce) {
  // A manifest that never comes: reading it blocks.
  std::filesystem::remove(model_ + "/manifest.json");
  ASSERT_EQ(::mkfifo((model_ + "/manifest.json").c_str(), 0600), 0);
  auto process = run(command());
  for (int i = 0; i < 2000 && process->err().find("state in") == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  process->send_signal(SIGTERM);
  EXPECT_EQ(process->wait(), 0);
}

TEST_F(ProcessTest, AFullDiskRefusesEventsAndNothingElse) {
  // No file may grow beyond 64 blocks of 512 bytes; the signal for it is ignored.
  std::vector<std::string> words = {"/bin/sh", "-c", "ulimit -f 64; trap '' XFSZ; exec \"$@\"",
                                    "sh"};
  const auto server = command();
  words.insert(words.end(), server.begin(), server.end());
  auto process = run(words);
  Client client(process->ports(port_file_).front());
  json event = {{"user", 7}, {"item", 2}, {"kind", std::string(400, 'k')}};
  const json body = {{"events", std::vector<json>(20, event)}};
  ClientResponse response;
  int accepted = 0;
  for (int i = 0; i < 100; ++i) {
    response = client.post("/v1/events", body);
    if (response.status != 200) break;
    accepted += 20;
  }
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.error_code(), "io");
  EXPECT_NE(response.error_message().find("model-state': cannot write to it: "), std::string::npos)
      << response.error_message();
  EXPECT_EQ(client.post("/v1/recommend", std::string(R"({"user": 7})")).status, 200);
  EXPECT_EQ(client.get("/readyz").status, 200);
  EXPECT_EQ(client.get("/v1/model").json()["state"]["seq"], accepted);
  process->send_signal(SIGTERM);
  EXPECT_EQ(process->wait(), 0);
}

TEST_F(ProcessTest, LogsNothingAboutPeople) {
  auto process = start({"--log-level", "debug"});
  Client client(port_);
  client.post("/v1/events", std::string(R"({"events": [{"user": "secret-name", "item": 2}]})"));
  client.post("/v1/recommend", std::string(R"({"user": "secret-name"})"));
  client.post("/v1/recommend", std::string(R"({"user": "secret-name", "contxt": 1})"));
  client.ask("DELETE", "/v1/users/secret-name");
  client.get("/v1/secret-name");
  process->send_signal(SIGTERM);
  EXPECT_EQ(process->wait(), 0);
  EXPECT_EQ(process->err().find("secret-name"), std::string::npos);
}

TEST_F(ProcessTest, LinksNeitherTorchNorArrowNorPython) {
  ServerProcess ldd({"/usr/bin/env", "ldd", HYPERTOWER_SERVER}, folder_.path());
  ASSERT_EQ(ldd.wait(), 0);
  std::string libraries;  // names only: a path may lead through a folder of Python
  std::istringstream lines(ldd.out());
  for (std::string line; std::getline(lines, line);)
    libraries += line.substr(0, line.find(' ')) + "\n";
  EXPECT_NE(libraries.find("librocksdb"), std::string::npos) << libraries;
  for (const char* name : {"torch", "c10", "arrow", "parquet", "python"}) {
    EXPECT_EQ(libraries.find(name), std::string::npos) << libraries;
  }
}

}  // namespace
}  // namespace hypertower
